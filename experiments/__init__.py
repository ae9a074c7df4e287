"""Runs that no page can wait for: `python -m experiments.NAME` writes experiments/results/NAME.json."""
