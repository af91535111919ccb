"""The memory of rows on another model and GPU."""
