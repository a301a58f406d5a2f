"""What is shipped: the model, its run folder, its card, its predictions."""
