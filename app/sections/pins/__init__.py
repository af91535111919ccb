"""What must be kept and what must be evicted."""
