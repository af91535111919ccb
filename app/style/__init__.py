"""Design: theme, style sheets, error messages."""
