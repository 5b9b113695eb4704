"""Mixture of zero-inflated Poissons: rows of counts with too many zeros, grouped into clusters."""

CELLS = "counts"
