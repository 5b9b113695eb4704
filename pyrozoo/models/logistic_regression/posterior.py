"""What is known of the posterior of a regression: its likelihood as one matrix product, checks, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.responses import Responses
from pyrozoo.math.mixture import RunningPrediction
from pyrozoo.math.normal_inverse_gamma import NormalInverseGamma
from pyrozoo.models.logistic_regression.model import LogisticRegression


class Posterior(HandBuilt):
    """A regression given responses and covariates."""

    model: LogisticRegression
    data: Responses
    observed = "response"
    unit = "row"
    wants = "a table with a response and what explains it"

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Coefficients, named as the covariates are; of linear regression the variance of the noise."""
        its = ("coefficient",) if self.model.intercept else ("covariate",)
        return {**({"noise_variance": ()} if self.model.linear else {}), "coefficients": its}

    @cached_property
    def design(self) -> Float[Tensor, "N P"]:
        """Covariates, the intercept's first."""
        return self.model.design(self.data)

    @cached_property
    def seen(self) -> Float[Tensor, N]:
        """1 where the response is observed."""
        return self.data.observed[:, 0].to(self.design)

    @cached_property
    def response(self) -> Float[Tensor, N]:
        """The response as the model sees it; 0 where it is missing."""
        centre, unit = self.model.unit(self.data)
        return (self.data.filled[:, 0] - centre) / unit * self.seen

    @cached_property
    def pull(self) -> Float[Tensor, P]:
        """X'(y - 1/2) over the rows that are observed."""
        return (self.response - 0.5 * self.seen) @ self.design

    @cached_property
    def prior_precision(self) -> Float[Tensor, P]:
        """1 / s^2 of the coefficients."""
        return self.model.scales(self.design, self.design.shape[1]).reciprocal().square()

    def precision(self, weight: Float[Tensor, "*b N"]) -> Float[Tensor, "*b P P"]:
        """Return diag(1 / s^2) + X' diag(weight) X, of observed rows."""
        weighted = (weight * self.seen).unsqueeze(-1) * self.design
        return self.prior_precision.diag() + self.design.mT @ weighted

    @cached_property
    def conjugate(self) -> tuple[NormalInverseGamma, NormalInverseGamma]:
        """Prior and posterior of linear regression (Gelman et al. 2013, section 14.2)."""
        m, y = self.model, self.response
        X, half = self.design * self.seen.unsqueeze(-1), y.new_full((1,), m.noise_degrees / 2)
        strength, zero = self.prior_precision.diag()[None], torch.zeros_like(self.pull)[None]
        prior = NormalInverseGamma(zero, strength, half, half * m.noise_scale**2)
        return prior, prior.given(self.seen.sum()[None], y.square().sum()[None], (y @ X)[None], (X.mT @ X)[None])

    def linear(self, draws: Values) -> Float[Tensor, "*b N"]:
        """Return x_i' beta of every row."""
        return draws["coefficients"] @ self.design.mT

    def probability(self, draws: Values) -> Float[Tensor, "*b N"]:
        """Return P(y_i = 1), or of linear regression the mean of y_i, of every row."""
        if not self.model.linear:
            return self.linear(draws).sigmoid()
        centre, unit = self.model.unit(self.data)
        return centre + unit * self.linear(draws)

    def pointwise(self, draws: Values) -> Float[Tensor, "*b N"]:
        """Return log p(y_i | draw) of every row."""
        mean = self.linear(draws)
        if not self.model.linear:
            return logsigmoid((2 * self.response - 1) * mean) * self.seen
        _, unit = self.model.unit(self.data)
        variance = draws["noise_variance"].unsqueeze(-1)
        square = (self.response - mean).square() / variance
        return -0.5 * (square + (2 * torch.pi * variance * unit.square()).log()) * self.seen

    def log_prior(self, draws: Values) -> Float[Tensor, "*b"]:
        """Return log p(coefficients), and of the noise's variance."""
        beta, precision = draws["coefficients"], self.prior_precision
        if self.model.linear:
            return self.conjugate[0].log_prob(beta, draws["noise_variance"])
        return 0.5 * (precision / (2 * torch.pi)).log().sum() - 0.5 * (beta.square() * precision).sum(-1)

    def check(self) -> None:
        """Raise DataError, naming the row, of a response that is neither 0 nor 1, or without a coefficient."""
        super().check()
        if not self.model.intercept and not self.data.covariates.shape[1]:
            raise DataError(f"{self.data.name} has no covariates: there is nothing to fit without model.intercept")
        for part in self.data.with_new_rows:
            if not self.model.linear:
                said = "is neither 0 nor 1; model.likelihood=normal takes numbers, data.response names another column"
                part.refuse((part.filled != 0) & (part.filled != 1), said)

    def checks(self, replica: Tensor) -> Values:
        """Return the mean response, and how it goes with the square of each covariate: what a line misses."""
        seen = replica.where(self.data.observed, torch.nan)
        away = (seen - seen.nanmean()).nan_to_num()
        squares = self.data.standard().square()
        count = self.seen.sum().clamp(min=1)
        return {"mean": seen.nanmean().nan_to_num(), "curvature": (away * (squares - squares.mean(0))).sum(0) / count}

    def predict(self, draws: Values) -> Prediction:
        """Predict the hidden responses from the covariates of their rows."""
        hidden, flat = self.hidden, Draws(draws).flat()
        mean = self.on(self.data.batch(hidden.rows)).probability(flat)
        if not self.model.linear:
            one = mean.mean(0)
            return Prediction.of_levels(torch.stack([1 - one, one], 1), hidden.values, 2)
        known, unit = RunningPrediction(hidden.values), self.model.unit(self.data)[1]
        known.add(mean, (flat["noise_variance"].unsqueeze(-1) * unit.square()).expand_as(mean))
        return known.prediction()
