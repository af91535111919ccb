"""Optional sections: collapsed on a phone, and opened on a wide screen when they are scrolled into view."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

SCRIPT = Path(__file__).with_name("folding.js").read_text(encoding="utf-8")


def folded(title: str, lead: str, label: str, elem_id: str) -> gr.Accordion:
    """Heading and lead of a section, and the accordion for the rest of it, which a link to `#elem_id` opens, too.

    Args:
        label: of the button that opens it on a phone.
    """
    gr.HTML(f'<h2 class="section" data-fold="{elem_id}">{title}</h2><p class="fine">{lead}</p>', js_on_load=SCRIPT)
    return gr.Accordion(label, open=False, elem_id=elem_id, elem_classes="fold")
