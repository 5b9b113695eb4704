"""The BUGS examples, volume I, as Pyro programs: a suite that nobody wrote for this project."""
