"""From a name to a loaded model: which families, where weights come from, sizes and positions."""
