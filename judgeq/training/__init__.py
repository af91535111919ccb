"""How soft tokens are trained: stored prompt rows, objectives, the training loop, validation and budget profiles."""
