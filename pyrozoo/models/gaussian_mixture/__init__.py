"""Gaussian mixture: rows of numbers, some missing, in clusters of any shape; as many as there are, if you like."""
