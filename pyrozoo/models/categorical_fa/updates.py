"""No solver of the model has conditionals in closed form."""

NEWTON = "Newton's method: contrasts are not conjugate"
NOT_HELD = {
    "beta_prior": "the gradient of a bound",
    "exact": NEWTON,
    "laplace_em": NEWTON,
    "mc_em": NEWTON,
    "vem": NEWTON,
}
