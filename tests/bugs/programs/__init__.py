"""One file an example: the program, its data, what is known of it by hand, and the same model for JAGS."""
