"""Export: files, a link and Python code."""
