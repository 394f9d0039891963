"""Plots of a stage: numbers in, a PNG out. matplotlib is imported when the first one is drawn."""
