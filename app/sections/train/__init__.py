"""Training soft tokens from the page, on one's own machine."""
