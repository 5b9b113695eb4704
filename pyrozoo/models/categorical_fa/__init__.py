"""Categorical factor analysis: the latent correlation behind a survey, and a generator of synthetic rows."""

REFUSED: dict[str, str] = {
    "cavi": "no family is conjugate to the answers' soft-max; vem has a bound in its place",
    "em": "latent vectors are continuous; laplace_em and vem take their expectations",
    "gibbs": "latent vectors have no conjugate conditional; nuts moves all sites at once",
    "laplace": "laplace_em uses Laplace's method where it belongs, for the latent variables of every row",
}

DATA = "simulated_survey"
