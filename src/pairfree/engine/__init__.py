"""The only training loop, checkpoints, and prediction in tiles; knows no method by name."""
