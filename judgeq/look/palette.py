"""Colours and fonts by name: for style sheets as variables `--jq-NAME`, for pictures and figures as values.

Every text colour has a contrast of at least 4.5 on the backgrounds it is used on, light and dark. A method's colour
in reports is the `look` of its class. Gradio's own variables are in `app/style/theme.py`, and what only one style sheet
needs stands there.
"""

from __future__ import annotations

LIGHT = {
    # pages: text, less important text, links and focus; surfaces, borders, tracks of bars
    "ink": "#1d1b17", "soft": "#5f5b54", "link": "#265a92",
    "paper": "#fffefb", "page": "#faf7f0", "quiet": "#f3eee4", "edge": "#ddd6c8", "track": "#ece5d8",
    # meaning: the accent, the best figure of a table, right and wrong with their backgrounds
    "amber": "#d98a13", "best": "#fff2c4",
    "good": "#1f6b3a", "good-bg": "#e6f2e8", "bad": "#a32c1c", "bad-bg": "#fbeae6",
    # marked text, such as kept words in a document map: evicted text, lines below marks, shadow of a box that scrolls,
    # five levels, text on levels 4 and 5
    "evicted": "#6a665f", "line": "#7a4300", "faint": "#8f8677", "shade": "#0002",
    "level-1": "transparent", "level-2": "#fff2c4", "level-3": "#ffe08a", "level-4": "#fcc64d", "level-5": "#f5a62b",
    "on": "#1d1b17",
    # two maps compared: kept by the first method only, by the second only, by both
    "only-a": "#ffe08a", "only-b": "#cfe3fb", "both": "#cbe8cf",
}  # fmt: skip
DARK = {
    "ink": "#f0ece3", "soft": "#a8a49b", "link": "#8fb4df",
    "paper": "#16181d", "page": "#0f1115", "quiet": "#1d2027", "edge": "#3a3d45", "track": "#2b2e36",
    "amber": "#ffc65c", "best": "#3d3113",
    "good": "#86d19c", "good-bg": "#16291c", "bad": "#ff9d8c", "bad-bg": "#351b17",
    "evicted": "#9d9990", "line": "#ffd08a", "faint": "#7b766c", "shade": "#0009",
    "level-1": "transparent", "level-2": "#372d17", "level-3": "#57431a", "level-4": "#d69a2c", "level-5": "#ffc65c",
    "on": "#16130b",
    "only-a": "#57431a", "only-b": "#1d3f66", "both": "#1f4a2c",
}  # fmt: skip

FONTS = {
    "sans": '-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif',
    "serif": 'Charter,"Iowan Old Style","Source Serif 4",Georgia,"Noto Serif","Liberation Serif",serif',
    "mono": 'ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace',
}

# Figures: one set for light and dark pages, since Plotly cannot ask which one it is on.
GREY = "#767676"  # text: 4.5 on white; pages with a style sheet of ours override it
GRID = "rgba(128,128,128,.28)"
SERIES = ("#5b8ecb", "#d4801a", "#3f9c72", "#b673c0", "#c9635a", "#7f8c2b")  # 3 : 1 on white and on #16181d
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "triangle-down")
BLUE, ORANGE = "#3a7cc0", "#c9660a"  # two kinds of bars; also the full cache and Judge Q
SEQUENTIAL = "Cividis"
"""Colour scale of every heatmap: readable with each colour blindness and in grey."""


def variables(scope: str = ":root", *, light: str = "", dark: str = "") -> str:
    """The palette and fonts as CSS variables on `scope`, light or dark according to the system setting.

    Args:
        scope: selector of the elements that get them.
        light, dark: selectors that set light or dark themselves, regardless of the system setting.
    """
    fonts = _declared(FONTS)
    bright, dim = (f"color-scheme:{name};{_declared(colors)}" for name, colors in _THEMES.items())
    rules = [f"{scope}{{{fonts}{bright}}}", f"@media (prefers-color-scheme:dark){{{scope}{{{dim}}}}}"]
    rules += [f"{light}{{{bright}}}"] if light else []
    rules += [f"{dark}{{{dim}}}"] if dark else []
    return "".join(rules)


def _declared(values: dict[str, str]) -> str:
    return "".join(f"--jq-{name}:{value};" for name, value in values.items())


_THEMES = {"light": LIGHT, "dark": DARK}
