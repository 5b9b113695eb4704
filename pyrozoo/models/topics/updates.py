"""What Gibbs and CAVI say of the conditionals, and the program in which every token has a topic."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.solver import Independent
from pyrozoo.contracts.updates import Block, Drawn, Step
from pyrozoo.core.draws import Values
from pyrozoo.models.topics.likelihood import proportions
from pyrozoo.program.trace import Program, without


def with_tokens(posterior: Posterior) -> Program:
    """Return the program in which every token has a topic."""

    def program(data: Any) -> None:
        values, (d, v) = without(posterior.model, data, "words"), places(data)
        theta, beta = proportions(values), values["topic_words"]
        with pyro.plate("token", len(d), dim=-1):
            k = pyro.sample("topic_of", dist.Categorical(theta[d]), infer={"enumerate": "parallel"})
            pyro.factor("tokens", beta[k, v].log())
        pyro.factor("orders", data.log_arrangements.sum())

    return program


def places(data: Any) -> tuple[Tensor, Tensor]:
    """Return document and word of every token."""
    count = data.counts.long()
    return data.pattern.rows.repeat_interleave(count), data.pattern.columns.repeat_interleave(count)


def given_tokens(solver: Any, values: Values) -> Independent:
    """Return the distribution of topics, and of documents' shares where they are Dirichlet, given tokens' topics."""
    data, beta = solver.data, values["topic_words"]
    one = torch.nn.functional.one_hot(values["topic_of"][0], solver.model.num_topics).to(beta)
    sizes = zip(data.shape, places(data), strict=True)
    of_documents, of_words = (beta.new_zeros(1, n, one.shape[1]).index_add(1, at, one[None]) for n, at in sizes)
    if solver.model.correlated:
        return Independent({"topic_words": Dirichlet(solver.words_given(of_words))})
    shapes = solver.conditionals(of_documents, of_words)
    return Independent({site: Dirichlet(each) for site, each in zip(SITES, shapes, strict=True)})


def given_logits(solver: Any, values: Values) -> Drawn:
    """Return the distribution of mean and covariance of logits given them."""
    logits = values["document_logits"]
    q = solver.prior.given(logits.shape[1], logits.sum(1), logits.mT @ logits)
    return Drawn(
        lambda: dict(zip(("logit_mean", "logit_covariance"), q.sample(), strict=True)),
        lambda at: q.log_prob(at["logit_mean"], at["logit_covariance"]),
    )


SITES = ("topic_words", "document_topics")
BLOCKS = (
    Block(SITES, "gibbs", given_tokens, with_tokens),
    Block(("logit_mean", "logit_covariance"), "gibbs", given_logits),
)
STEPS = (Step("cavi", with_tokens),)
NOT_HELD = {
    "cvb0": "no coordinate ascent: counts without the token itself stand for their distribution",
    "exact": "no update: a sum over all topics of tokens",
    "gibbs, document_logits": "Metropolis steps, whose proposals are no conditionals",
    "gibbs, sweeps": "drawn in the kernel, which keeps no probabilities",
    "laplace_em": "Newton's method: logits are not conjugate",
    "stochastic_cavi": "cavi's update on minibatches, whose sums are estimates",
    "stochastic_logistic": "Newton's method: logits are not conjugate",
    "vem": "Newton's method on a bound: logits are not conjugate",
}
