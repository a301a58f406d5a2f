"""A page for people who do not use a terminal: from a file that is dropped to a model to take home."""
