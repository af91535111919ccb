"""The sections of the page, a folder each: what it shows and what happens in it."""
