"""Stored rows: growing, retained, ragged, quantized, and the prefix that later passes extend."""
