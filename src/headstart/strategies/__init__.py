"""What learns: one file a way to learn."""
