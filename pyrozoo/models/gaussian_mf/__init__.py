"""Gaussian matrix factorization: ratings of columns by rows, of which few are known, explained by a few factors."""

DATA = "simulated_ratings"
