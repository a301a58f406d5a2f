"""Ways to bring labelled source features and unlabelled target features together, found by their file's name."""
