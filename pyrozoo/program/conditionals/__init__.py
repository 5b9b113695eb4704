"""Complete conditionals of a program: families, parameters and where they come from, found from the log joint alone."""
