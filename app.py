"""The demo. `python app.py --help` lists the options; a Hugging Face Space runs this file as it is."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from app.ui import launch

if __name__ == "__main__":
    launch()
