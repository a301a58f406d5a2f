"""Classical forecasters that a network is weighed against, found by their file's name."""
