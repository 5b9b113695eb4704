"""Engines that know no model: optimise, sample, svi, nuts, laplace, and the loop they share."""
