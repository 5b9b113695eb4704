"""Logistic regression (and linear): two coefficients on one plane, by every approximation that a lecture names."""

DATA = "simulated_responses"
