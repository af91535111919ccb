"""From a name to a loaded model: supported families, downloads, sizes, RoPE checks."""
