"""Right and wrong answers to every exercise, one module a chapter."""
