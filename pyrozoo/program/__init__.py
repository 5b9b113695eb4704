"""What a Pyro program can be asked."""
