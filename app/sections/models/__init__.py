"""Choice of the model and of the soft tokens."""
