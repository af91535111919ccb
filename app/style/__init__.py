"""Looks: theme, style sheets, toasts."""
