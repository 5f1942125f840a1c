"""Noise made on purpose: models of it, the words that name them, and noisy copies of clean files."""
