"""Document, question, options, and the answers side by side."""
