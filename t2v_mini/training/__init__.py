"""The training loop and what it keeps: averages, checkpoints, learning rates."""
