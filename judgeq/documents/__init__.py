"""Documents that are read once and asked often, whole or evicted before any question."""
