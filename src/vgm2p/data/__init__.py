"""Datasets: alignment, files, cards."""
