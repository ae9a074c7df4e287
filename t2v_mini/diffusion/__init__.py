"""Noise processes, guidance and samplers."""
