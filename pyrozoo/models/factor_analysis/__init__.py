"""Bayesian factor analysis: rows of real numbers with holes, explained by a few factors."""
