"""Stored rows: growing, kept, ragged, in few bits, and the prefix that further passes extend."""
