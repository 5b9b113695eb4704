"""What a posterior of categorical_fa can be asked: starting points, the likelihood, what labels and rotations leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.posterior import HandBuilt
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import DataError
from pyrozoo.core.prediction import Prediction
from pyrozoo.data.survey import Survey
from pyrozoo.math.alignment import log_orbit, procrustes, rotations
from pyrozoo.models.categorical_fa.layout import Layout
from pyrozoo.models.categorical_fa.likelihood import nodes_per_row, pointwise
from pyrozoo.models.categorical_fa.marginals import associations, marginal_probabilities
from pyrozoo.models.categorical_fa.model import CategoricalFA
from pyrozoo.models.categorical_fa.prediction import predict

MOST_ASSOCIATED = 20
"""Items up to which the association of every pair is an invariant."""


class Posterior(HandBuilt):
    """CategoricalFA given Survey."""

    model: CategoricalFA
    data: Survey
    invariant_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "log_likelihood": (),
        "marginal_probability": ("category",),
        "association": ("pair",),
        "latent_variance": ("factor",),
        "latent_correlation": ("factor_pair",),
        "loading_scale": (),
    }
    observed: ClassVar[str] = "answers"
    unit: ClassVar[str] = "row"

    @property
    def sites(self) -> Mapping[str, tuple[str, ...]]:
        """Return the global sites that the settings leave open, with the names of their dimensions."""
        width = ("factor",) if not self.model.hidden_units else ("feature",)
        every: dict[str, tuple[bool, tuple[str, ...]]] = {
            "loadings": (self.model.loadings == "free", ("contrast", *width)),
            "intercepts": (self.model.intercepts, ("contrast",)),
            "latent_mean": (not self.model.intercepts, ("factor",)),
            "latent_covariance": (self.model.loadings == "fixed", ("factor", "factor_too")),
            "hidden_weights": (self.model.hidden_units > 0, ("hidden", "factor")),
            "hidden_biases": (self.model.hidden_units > 0, ("hidden",)),
        }
        return {site: dims for site, (there, dims) in every.items() if there}

    def check(self) -> None:
        """Raise DataError unless the items can carry the latent dimensions and the loadings stated for them."""
        if not isinstance(self.data, Survey):
            raise DataError(f"categorical_fa needs a survey (categorical columns), not {type(self.data).__name__}")
        self.data.checked().refuse_degenerate()
        d, items = self.model.latent_dimension, self.data.shape[1]
        if d > items:
            raise DataError(f"{self.data.name}: model.latent_dimension is {d}, more than the {items} items there are")
        if self.model.loadings == "fixed":
            self.model._check_stated(self.data)

    def initial(self, chains: int) -> Values:
        """Return starting values: small random loadings, intercepts from the shares of categories, a random scale."""
        return self.model.initial_for(Layout.of(self, self.data), self.data.values, chains)

    def pointwise(self, draws: Values) -> Float[Tensor, "chain draw N"]:
        """Return log p(x_u | globals) of every row, the latent vector integrated out by quadrature."""
        return pointwise(self, draws, self.data)

    @property
    def effort(self) -> float:
        """Return the multiplications of the likelihood of one draw: every node of every row sees every category."""
        layout = Layout.of(self, self.data)
        # An exponential is worth a dozen of them.
        return float(layout.num_rows * layout.num_categories) * (nodes_per_row(self.model.latent_dimension) + 10) * 12

    def align(self, draws: Values, reference: Values | None = None) -> Values:
        """Turn the latent vector where loadings are free: toward the reference's mean, else to principal axes."""
        if self.model.loadings == "fixed":
            return dict(draws)
        d, shape = self.model.latent_dimension, draws["loadings"].shape[:2]
        matrices = self.model._rotated(draws)
        turn = (
            rotations(matrices) if reference is None else procrustes(matrices, self.model._rotated(reference).mean(0))
        )
        turn = turn.unflatten(0, shape)
        result = dict(draws)
        result["loadings"] = torch.cat([draws["loadings"][..., :d] @ turn, draws["loadings"][..., d:]], -1)
        if self.model.hidden_units:
            result["hidden_weights"] = draws["hidden_weights"] @ turn
        if not self.model.intercepts:
            result["latent_mean"] = (draws["latent_mean"].unsqueeze(-2) @ turn).squeeze(-2)
        return result

    def orbit(self, values: Mapping[str, Tensor]) -> tuple[int, float]:
        """Return dimension and log volume of the orbit of rotations of the latent vector."""
        if self.model.loadings == "fixed":
            return 0, 0.0
        matrix = self.model._rotated({site: value[None, None] for site, value in values.items()})[0]
        return log_orbit(matrix.mT @ matrix)

    def invariants(self, draws: Values, log_likelihood: Tensor | None = None) -> Values:
        """Return quantities that no rotation changes.

        ``log_likelihood``; ``marginal_probability`` of every category; for up to 20 items the ``association`` (Cramér's
        V) that the model gives every pair of items; with fixed loadings ``latent_variance`` and ``latent_correlation``.
        """
        result = {
            "log_likelihood": self.log_likelihood(draws) if log_likelihood is None else log_likelihood,
            "marginal_probability": marginal_probabilities(self, draws, self.data),
        }
        if 1 < self.data.shape[1] <= MOST_ASSOCIATED:
            i, j = torch.tril_indices(self.data.shape[1], self.data.shape[1], -1, device=self.data.values.device)
            result["association"] = associations(self, draws, self.data)[..., i, j]
        if self.model.loadings == "fixed":
            covariance = draws["latent_covariance"]
            result["latent_variance"] = variance = covariance.diagonal(dim1=-2, dim2=-1)
            if self.model.latent_dimension > 1:
                i, j = torch.tril_indices(
                    self.model.latent_dimension, self.model.latent_dimension, -1, device=variance.device
                )
                scale = (variance[..., i] * variance[..., j]).sqrt()
                result["latent_correlation"] = covariance[..., i, j] / scale
        return result

    def predict(self, draws: Values) -> Prediction:
        """Predict hidden answers from the observed answers of the same row."""
        return predict(self, draws, self.data)
