"""Which model answers, and whose soft tokens it asks with."""
