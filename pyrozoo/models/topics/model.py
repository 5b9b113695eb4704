"""Topic models: their hyper-parameters, their Pyro program, and their symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.symmetry import Relabel, Sites
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.settings import one_of, positive, whole
from pyrozoo.data.documents import Documents
from pyrozoo.models.topics.likelihood import Words, proportions, shares, with_last
from pyrozoo.program.inverse_wishart import InverseWishart


@dataclass(frozen=True)
class Topics(Model):
    r"""Latent Dirichlet allocation, and the correlated topic model.

    Story, for documents d = 1..D with N_d tokens, words v = 1..V, topics k = 1..K::

        topic_words      beta_k  ~ Dirichlet(b, ..., b)                              [topic, word]
        words            n_d     ~ Multinomial(N_d, sum_k theta_dk beta_k)           [document, word]

    and with ``prior`` dirichlet (latent Dirichlet allocation: Blei, Ng and Jordan 2003, JMLR 3)::

        document_topics  theta_d ~ Dirichlet(alpha_1, ..., alpha_K)                  [document, topic]

    or with logistic_normal (correlated topic model: Blei and Lafferty 2007, Annals of Applied Statistics 1), in which
    a topic may occur more often where another does::

        logit_covariance Sigma   ~ InverseWishart(K + c, c s^2 (I + 1 1^T))          [topic, topic]   less the last
        logit_mean       mu      ~ N(0, Sigma / c)                                   [topic]          less the last
        document_logits  eta_d   ~ N(mu, Sigma),  eta_dK = 0                         [document, topic] less the last
                         theta_d = softmax(eta_d)

    with E Sigma = s^2 (I + 1 1^T): that of K independent logits of variance s^2, less the last of them: no topic is
    special. The prior of mu and Sigma is worth c documents. Which topic each token is from is summed out.

    Attributes:
        num_topics: K, at least 2.
        prior: ``dirichlet`` or ``logistic_normal``.
        document_concentration: alpha, positive: a number, or one for each topic.
        word_concentration: b, positive.
        prior_documents: c, positive.
        logit_variance: s^2, positive.

    Raises:
        SettingError: On construction, naming the field that is out of range.
    """

    num_topics: int = whole(2)
    prior: str = one_of("dirichlet", "logistic_normal")
    document_concentration: Any = positive(many=True)
    word_concentration: float = positive()
    prior_documents: float = positive()
    logit_variance: float = positive()

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.document_concentration
        if isinstance(given, tuple) and len(given) != self.num_topics:
            self.refuse("document_concentration", f"it must be one number, or {self.num_topics} (model.num_topics)")

    @property
    def correlated(self) -> bool:
        """Whether topics are correlated: logits are normal."""
        return self.prior == "logistic_normal"

    def concentrations(self, like: Tensor, chains: int) -> tuple[Float[Tensor, "C K"], Float[Tensor, C]]:
        """Return alpha and b for each of some chains."""
        alpha = self.alpha(like).expand(chains, self.num_topics).contiguous()
        return alpha, like.new_full((chains,), self.word_concentration)

    def with_concentrations(self, alpha: tuple[float, ...], b: float) -> Topics:
        """Return the model with these concentrations."""
        return replace(self, document_concentration=alpha, word_concentration=b)

    @property
    def covariance_prior(self) -> tuple[float, float]:
        """Return nu and psi of Sigma ~ IW(nu, psi (I + 1 1^T)), of dimension K - 1."""
        c = self.prior_documents
        return self.num_topics + c, c * self.logit_variance

    def alpha(self, like: Tensor) -> Float[Tensor, K]:
        """Return the Dirichlet prior of a document's topics."""
        return torch.as_tensor(self.document_concentration, dtype=like.dtype, device=like.device).expand(
            self.num_topics
        )

    @property
    def symmetry(self) -> Topicwise:
        """Topics can be exchanged."""
        return Topicwise("topic", lambda flat: flat["topic_words"].sqrt(), "mass")

    def __call__(self, data: Documents) -> None:
        """Run the Pyro program."""
        like, K = data.values, self.num_topics
        rows = pyro.plate(
            "row", data.shape[0] if data.total_rows is None else data.total_rows, subsample=data.rows, dim=-1
        )
        with pyro.plate("topic", K, dim=-1):
            beta = pyro.sample("topic_words", dist.Dirichlet(like.new_full((data.shape[1],), self.word_concentration)))
        if self.correlated:
            nu, psi = (like.new_tensor(value) for value in self.covariance_prior)
            sigma = pyro.sample("logit_covariance", InverseWishart(nu, psi, K - 1, contrasts=True))
            factor = torch.linalg.cholesky(sigma)
            zero, scale = like.new_zeros(K - 1), self.prior_documents**-0.5
            mu = pyro.sample("logit_mean", dist.MultivariateNormal(zero, scale_tril=scale * factor))
            with rows:
                theta = shares(pyro.sample("document_logits", dist.MultivariateNormal(mu, scale_tril=factor)))
        else:
            with rows:
                theta = pyro.sample("document_topics", dist.Dirichlet(self.alpha(like)))
        with rows:
            pyro.sample("words", Words(theta, beta, data), obs=data.values)


class Topicwise(Relabel):
    """Topics can be exchanged; of logits, which are held against those of the last topic, in all K of them."""

    def align(self, draws: Draws, sites: Sites, reference: Draws | None = None) -> Draws:
        """Relabel topics toward the reference, or by falling share of the documents."""
        dims = {**sites, "mass": ("topic",)}
        for site, its in sites.items():
            dims[site] = tuple({"contrast": "topic", "contrast_": "topic_"}.get(name, name) for name in its)
        toward = None if reference is None else _whole(reference)
        moved = super().align(_whole(draws), dims, toward)
        return _contrasts(Draws({site: moved[site] for site in draws}))

    def invariants(self, draws: Draws, sites: Sites) -> dict[str, tuple[tuple[str, ...], Tensor]]:
        """Return ``word_share``, of all documents, and ``document_purity``, sum_k theta_dk^2."""
        theta, beta = proportions(draws), draws["topic_words"]
        words = (theta.mean(-2, keepdim=True) @ beta).squeeze(-2)
        return {"word_share": (("column",), words), "document_purity": (("row",), theta.square().sum(-1))}


def _whole(draws: Values) -> Draws:
    """Return draws with all K logits, the last of them 0, and the ``mass`` of every topic."""
    found = dict(draws)
    if "document_logits" in found:
        found["document_logits"] = with_last(found["document_logits"])
        found["logit_mean"] = with_last(found["logit_mean"])
        found["logit_covariance"] = with_last(with_last(found["logit_covariance"]).mT).mT
    return Draws({**found, "mass": proportions(draws).mean(-2)})


def _contrasts(draws: Draws) -> Draws:
    """Return logits less those of the last topic."""

    def less(value: Tensor) -> Tensor:
        return value[..., :-1] - value[..., -1:]

    if "document_logits" not in draws:
        return draws
    found: Mapping[str, Tensor] = {
        "document_logits": less(draws["document_logits"]),
        "logit_mean": less(draws["logit_mean"]),
        "logit_covariance": less(less(draws["logit_covariance"]).mT),
    }
    return Draws({**draws, **found})
