"""One file a tool: `learn(case, …)` learns from train and validation, saves the model, and says how to predict."""
