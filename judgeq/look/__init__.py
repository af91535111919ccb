"""Visual design: one palette, one Plotly template, one base style sheet, Jinja2 templates with autoescape.

Shared by the report, the retention map, the export of a comparison and the demo. Knows nothing of what is shown; the
colours and markers of a method are on the method (`judgeq.methods.Look`).
"""
