"""Categorical factor analysis: the latent correlation behind a survey, and a generator of synthetic rows."""

REFUSED: dict[str, str] = {
    "laplace": "laplace_em uses Laplace's method where it belongs, for the latent variables of every row",
}

DATA = "simulated_survey"
