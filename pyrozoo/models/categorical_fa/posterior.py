"""What a posterior of categorical_fa can be asked: starting points, the likelihood, invariants, predictions."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import cached_property, partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.errors import DataError, NotApplicable
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.survey import Survey
from pyrozoo.math.association import starts
from pyrozoo.models.categorical_fa.layout import Layout
from pyrozoo.models.categorical_fa.likelihood import effort, pointwise
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.queries import (
    AnswersPrediction,
    answer_probabilities,
    associations,
    marginal_probabilities,
)

MOST_ASSOCIATED, LARGEST_START = 20, 0.5
"""Items up to which the association of every pair is an invariant; standard deviation of loadings at the start, small
enough for every row to be undecided."""


class Posterior(HandBuilt):
    """CategoricalFA given Survey."""

    model: CategoricalFA
    data: Survey
    observed = "answers"
    unit = "row"
    wants = "a survey (categorical columns)"
    invariant_dims: ClassVar = {
        "log_likelihood": (), "marginal_probability": ("category",), "association": ("pair",),
        "latent_variance": ("factor",), "latent_correlation": ("factor_pair",), "loading_scale": (),
    }  # fmt: skip

    @cached_property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """The global sites that the settings leave open, with the names of their dimensions."""
        m, hidden = self.model, self.model.hidden_units > 0
        every: dict[str, tuple[bool, tuple[str, ...]]] = {
            "loadings": (m.loadings == "free", ("contrast", "feature" if hidden else "factor")),
            "intercepts": (m.intercepts, ("contrast",)),
            "latent_mean": (not m.intercepts, ("factor",)),
            "latent_covariance": (m.loadings == "fixed", ("factor", "factor_too")),
            "hidden_weights": (hidden, ("hidden", "factor")),
            "hidden_biases": (hidden, ("hidden",)),
        }
        return {site: dims for site, (there, dims) in every.items() if there}

    def check(self) -> None:
        """Raise DataError unless the items can carry the latent dimensions and the loadings stated for them."""
        super().check()
        self.data.refuse_degenerate()
        d, items = self.model.latent_dimension, self.data.shape[1]
        if d > items:
            raise DataError(f"{self.data.name}: model.latent_dimension is {d}, more than the {items} items there are")
        if self.model.loadings == "fixed":
            self._check_stated()

    def _check_stated(self) -> None:
        stated, data = self.model.fixed_loadings, self.data
        wanted = [self.model.latent_dimension + 1 if stated is None else len(stated)] * data.shape[1]
        if stated is not None and not self.model.shared:
            if len(stated) != data.shape[1]:
                raise DataError(f"{data.name}: model.fixed_loadings are for {len(stated)} items, not {data.shape[1]}")
            wanted = [len(item) for item in stated]
        for label, size, there in zip(data.column_labels, data.categories, wanted, strict=True):
            if size != there:
                said = f"column {label!r} has {size} categories; the fixed loadings are for {there}"
                raise DataError(f"{data.name}: {said}")

    def refuse_hidden(self, method: str, reason: str) -> None:
        """Raise NotApplicable when there are hidden units, naming a method that cannot do with them."""
        if self.model.hidden_units:
            raise NotApplicable(f"{method} cannot have model.hidden_units={self.model.hidden_units}: {reason}")

    @cached_property
    def layout(self) -> Layout:
        """Answers and coefficients as solvers see them."""
        return self.model.layout(self.data)

    @cached_property
    def judged(self) -> MutableMapping[Tensor, Tensor]:
        """Draws of a fit -> the synthetic rows by which it is judged."""
        return WeakIdKeyDictionary()

    def initial(self, chains: int) -> Values:
        """Return starting values: small random loadings, intercepts from the shares of categories, a random scale."""
        m, layout, like = self.model, self.layout, self.data.values
        d, H, normal = m.latent_dimension, m.hidden_units, partial(self.normal, chains)
        # Half an answer more for each category, so that none has probability zero.
        shares = layout.by_item((layout.totals() + 0.5).log().unsqueeze(0))
        against_last = torch.cat([(part - part[:, -1:]).flatten() for (part,) in shares])[layout.free]
        scales = m.covariance_scale * torch.eye(d, dtype=like.dtype, device=like.device)
        start = {
            "loadings": lambda: LARGEST_START * min(1.0, m.loading_scale) * normal(len(layout.free), m.width),
            "intercepts": lambda: against_last + 0.1 * min(1.0, m.intercept_scale) * normal(len(layout.free)),
            "latent_mean": lambda: 0.1 * min(1.0, m.mean_scale) * normal(d),
            "latent_covariance": lambda: scales * (0.3 * normal(1, 1)).exp(),
            "hidden_weights": lambda: normal(H, d),
            "hidden_biases": lambda: normal(H),
        }
        return {site: start[site]() for site in self.sites}

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_u | globals) of every row, the latent vector integrated out by quadrature."""
        draws = Draws(draws)
        return pointwise(self.layout, draws).unflatten(0, draws.shape)

    @property
    def effort(self) -> float:
        """The multiplications of the likelihood of one draw."""
        return effort(self.layout)

    def simulated_numbers(self, values: Values) -> float:
        """Return how many probabilities answers are drawn from."""
        return self.most_numbers

    @property
    def most_numbers(self) -> float:
        """The same: one for each row and category."""
        return float(self.data.shape[0] * sum(self.data.categories))

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no rotation changes.

        ``log_likelihood``; ``marginal_probability`` of every category; for up to 20 items the ``association`` (Cramér's
        V) that the model gives every pair of items; with fixed loadings ``latent_variance`` and ``latent_correlation``.
        """
        d = self.model.latent_dimension
        result = {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "marginal_probability": marginal_probabilities(self.layout, draws),
        }
        if 1 < self.data.shape[1] <= MOST_ASSOCIATED:
            i, j = torch.tril_indices(self.data.shape[1], self.data.shape[1], -1, device=self.data.values.device)
            result["association"] = associations(self.layout, draws)[..., i, j]
        if self.model.loadings == "fixed":
            covariance = draws["latent_covariance"]
            result["latent_variance"] = variance = covariance.diagonal(dim1=-2, dim2=-1)
            if d > 1:
                i, j = torch.tril_indices(d, d, -1, device=variance.device)
                scale = (variance[..., i] * variance[..., j]).sqrt()
                result["latent_correlation"] = covariance[..., i, j] / scale
        return result

    def predict(self, draws: Values) -> AnswersPrediction:
        """Predict hidden answers: p(x_ui = k | observed answers of the row), averaged over draws."""
        hidden, sizes = self.hidden, self.layout.columns
        rows, position = hidden.rows.unique(return_inverse=True)
        prob = answer_probabilities(self.layout.part(rows), draws)
        first = starts(sizes, prob.device)[hidden.columns].unsqueeze(-1)
        size = torch.tensor(sizes, device=prob.device)[hidden.columns].unsqueeze(-1)
        level = torch.arange(max(sizes), device=prob.device)
        each = prob[position.unsqueeze(-1), first + torch.minimum(level, size - 1)]
        total = torch.where(level < size, each, 0.0).sum(-1, keepdim=True)
        probabilities = torch.where(level < size, each / total, -1.0)
        found = Prediction.of_levels(probabilities.clamp(min=0), hidden.values, size.squeeze(-1))
        return AnswersPrediction(**vars(found), probabilities=probabilities)
