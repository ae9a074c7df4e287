"""`python -m t2v_mini.cli`."""

from t2v_mini.cli import main

main()
