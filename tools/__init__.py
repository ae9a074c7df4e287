"""Scripts that keep the repository true: run them as `python -m tools.NAME`."""
