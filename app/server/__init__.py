"""What serves visitors and has no need of Gradio's components: host, runs, queue, limits, stores."""
