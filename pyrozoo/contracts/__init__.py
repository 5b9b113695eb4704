"""What a model, a posterior, a solver, a method and a fit are."""
