"""From a name to a loaded model: supported families, downloads, sizes, RoPE checks."""

DEFAULT_MODEL = "smollm2-135m"
"""The embedded model, wherever no model is named."""
