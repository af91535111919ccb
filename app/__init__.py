"""The demo: a Gradio page over the library in `judgeq`. `ui` composes, `callbacks` answer, `session` owns the model."""
