"""The way of a prompt: request, prefill, selection, decoding, answer."""
