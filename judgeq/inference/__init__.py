"""The path of a prompt through the library: request, prefill, selection, decoding, answer."""
