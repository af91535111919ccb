"""The demo: a Gradio page over the library in `judgeq`. `ui` composes the page, each folder of `sections/` has its view and callbacks,
`server/host.py` owns the model and the queue."""
