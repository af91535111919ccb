"""Gradio's theme: system fonts and the palette of `judgeq.look`. No request leaves the page for them."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

from judgeq.look.palette import DARK, FONTS, LIGHT

# Light to dark. Navy and amber are the two ends of the heatmap's scale.
NAVY = colors.Color(
    *"#eef4fb #dae7f6 #b9d0ec #8fb4df #6295cc #3a74b0 #265a92 #1d4876 #1a3a5e #16304d #0e1f33".split(),
    name="navy",
)
PAPER = colors.Color(
    *"#faf7f0 #f3eee4 #ddd6c8 #c7bfaf #9d9990 #6a665f #54514b #3a3d45 #23262d #16181d #0f1115".split(),
    name="paper",
)
PALETTE = {
    "page": ("body_background_fill", "background_fill_secondary"),
    "paper": ("background_fill_primary", "input_background_fill"),
    "edge": ("border_color_primary",),
    "ink": (
        "body_text_color",
        "block_label_text_color",
        "block_title_text_color",
        "checkbox_label_text_color",
    ),
    "soft": ("body_text_color_subdued", "block_info_text_color"),
    "evicted": ("input_placeholder_color",),
    "faint": ("checkbox_border_color",),
    "link": ("link_text_color", "input_border_color_focus"),
}
"""Colours of the palette, and what Gradio draws in them."""
PAIRS = {
    "button_primary_background_fill": ("*primary_800", DARK["amber"]),
    "button_primary_background_fill_hover": ("*primary_700", "#ffd583"),
    "button_primary_border_color": ("*primary_800", DARK["amber"]),
    "button_primary_text_color": (LIGHT["paper"], DARK["on"]),
    "slider_color": ("*primary_700", DARK["amber"]),
    **dict.fromkeys(("input_border_color", "button_secondary_border_color"), ("#a39b8c", "#6b6f79")),
    **dict.fromkeys(
        ("checkbox_background_color_selected", "checkbox_border_color_selected"),
        ("*primary_800", "*primary_500"),
    ),
    **dict.fromkeys(
        (
            "button_secondary_background_fill_hover",
            "checkbox_label_background_fill_hover",
            "checkbox_label_background_fill_selected",
        ),
        ("*neutral_100", "*neutral_800"),
    ),
    **dict.fromkeys(
        (
            "block_background_fill",
            "block_label_background_fill",
            "button_secondary_background_fill",
            "checkbox_label_background_fill",
        ),
        ("transparent", "transparent"),
    ),
}
"""Other colours, light and dark."""
SIZES = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_title_text_weight": "600",
    "block_title_text_size": "0.875rem",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_border_width": "1px",
    "button_large_padding": "0.7rem 1.25rem",
    "button_large_text_weight": "600",
    "button_large_radius": "10px",
    "checkbox_label_border_width": "1px",
}


def theme() -> gr.themes.Base:
    """The theme, light and dark."""
    both = PAIRS | {name: (LIGHT[color], DARK[color]) for color, names in PALETTE.items() for name in names}
    return gr.themes.Base(
        primary_hue=NAVY,
        secondary_hue=NAVY,
        neutral_hue=PAPER,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        font=[name.strip('"') for name in FONTS["sans"].split(",")],
        font_mono=[name.strip('"') for name in FONTS["mono"].split(",")],
    ).set(
        **SIZES,
        **{name: light for name, (light, _) in both.items()},
        **{f"{name}_dark": dark for name, (_, dark) in both.items()},
    )
