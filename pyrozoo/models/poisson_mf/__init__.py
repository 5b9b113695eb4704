"""Poisson matrix factorization: sparse counts of rows by columns, explained by a few non-negative factors."""

DATA = "simulated_counts"
CELLS = "counts"
