"""The sections of the page, one folder each: its view and its callbacks."""
