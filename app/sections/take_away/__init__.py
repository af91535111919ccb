"""Files, a link and lines of Python to take along."""
