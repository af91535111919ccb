"""How everything looks: one palette, one Plotly template, one base style sheet, Jinja2 templates with autoescape.

Shared by the report, the retention map, the export of a comparison and the demo. Knows nothing of what is shown; what a
method looks like is on the method (`judgeq.methods.Look`).
"""
