"""What goes out: one file a kind of answer."""
