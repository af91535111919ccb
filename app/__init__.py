"""The demo: a Gradio page over the library in `judgeq`.

`ui` composes the page, each folder of `sections/` has a view and its callbacks, `server/host.py` owns the model.
"""
