"""The demo: a Gradio page over the library in `judgeq`.

`ui` composes the page, each folder of `sections/` has a view and its callbacks, `server/host.py` owns the model.
"""

from judgeq.errors import CODED

if __name__ not in CODED:  # a module may be loaded anew
    CODED.append(__name__)
