"""What was kept: the marked document and its figures."""
