"""What rows would take on another model and GPU."""
