"""Runs that no page can wait for: `python -m experiments.NAME` writes t2v_mini/results/NAME.json."""
