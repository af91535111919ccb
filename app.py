"""The demo. `python app.py --help` lists the options; a Hugging Face Space runs this file as it is."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Before torch starts its threads: waiting ones sleep instead of spinning, since the page needs the cores, too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from app.start import launch

if __name__ == "__main__":
    launch()
