"""What can be asked of fitted topics: words, quality, documents, correlations, prevalence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Dirichlet

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Draws, Values
from pyrozoo.core.seeds import seeded
from pyrozoo.data.documents import Documents
from pyrozoo.math.linear_algebra import covariance_factor, inverted
from pyrozoo.models.topics import correlated
from pyrozoo.models.topics.likelihood import WordFactors, fit_documents, proportions, with_last
from pyrozoo.models.topics.likelihood import shares as theta_of

TOP, RANKED = 10, 10
"""Words of each topic that are looked at, and documents that are named."""

WEIGHT = 0.5
"""Of exclusivity against frequency in FREX."""

GIVEN = "topic_words", "logit_mean", "logit_covariance"
"""Sites that say what topics new documents have."""

DRAWS, STEPS, TOL = 100, 200, 1e-4
"""Draws behind what is said of new documents, and updates of their topics, until they change by less."""

LEVELS, BINS = 12, 10
"""Values of what is known about documents up to which each is a level; of numbers there are so many bins."""

NORMAL_95 = 1.6448536269514722
"""Half of a 90% interval in standard deviations."""


def means(fit: Fit) -> tuple[Float[Tensor, "D K"], Float[Tensor, "K V"]]:
    """Return posterior means of theta and beta, topics in the order of the aligned draws."""

    def made() -> tuple[Tensor, Tensor]:
        if not fit.expectations:
            aligned = fit.aligned
            return proportions(aligned).mean((0, 1)), aligned["topic_words"].mean((0, 1))
        known = {site: fit.expectations[f"mean_{site}"][None, None] for site in ("document_topics", "topic_words")}
        found = fit.posterior.align(Draws(known), fit.aligned)
        return found["document_topics"][0, 0], found["topic_words"][0, 0]

    return fit.once("means of topics", made)


def lift(beta: Float[Tensor, "K V"], data: Documents) -> Float[Tensor, "K V"]:
    """Return how much more often a word occurs in a topic than in all documents."""
    share = (data.word_totals + 1) / (data.word_totals + 1).sum()
    return beta / share.to(beta)


def frex(beta: Float[Tensor, "K V"], weight: float = WEIGHT) -> Float[Tensor, "K V"]:
    """Return FREX: the harmonic mean of two ranks from 0 to 1: by exclusivity to the topic, by frequency in it.

    Bischof and Airoldi 2012, ICML 29.
    """
    exclusive = beta / beta.sum(0).clamp(min=torch.finfo(beta.dtype).tiny)

    def rank(values: Tensor) -> Tensor:
        return (values.argsort(1).argsort(1).to(beta) + 1) / values.shape[1]

    return 1 / (weight / rank(exclusive) + (1 - weight) / rank(beta))


def top(scores: Float[Tensor, "K V"], count: int = TOP) -> Int[Tensor, "K n"]:
    """Return the words with the highest scores in each topic."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :count]


def coherence(beta: Float[Tensor, "K V"], data: Documents) -> Float[Tensor, K]:
    """Return how well the top words of each topic go together in documents, 0 at best.

    sum over pairs i > j of log (D(v_i, v_j) + 1) / D(v_j), D counting documents (Mimno et al. 2011, EMNLP).
    """
    from scipy.sparse import coo_array

    words = top(beta)
    chosen, place = words.unique(return_inverse=True)
    at = torch.full((data.shape[1],), -1, dtype=torch.long, device=chosen.device)
    at[chosen] = torch.arange(len(chosen), device=chosen.device)
    mine = at[data.pattern.columns]
    rows, columns = (each[mine >= 0].cpu().numpy() for each in (data.pattern.rows, mine))
    seen = coo_array((np.ones(len(rows)), (rows, columns)), shape=(data.shape[0], len(chosen))).tocsr()
    together = torch.as_tensor((seen.T @ seen).toarray(), device=chosen.device)
    of_pairs = together[place[:, :, None], place[:, None, :]]  # [K, i, j]
    alone = of_pairs.diagonal(dim1=1, dim2=2).clamp(min=1)
    lower = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).tril(-1)
    return (((of_pairs + 1) / alone[:, None, :]).log() * lower).sum((1, 2)).to(beta)


def exclusivity(beta: Float[Tensor, "K V"]) -> Float[Tensor, K]:
    """Return the mean FREX of the top words of each topic."""
    return frex(beta).gather(1, top(beta)).mean(1)


def labels(fit: Fit, count: int = 3) -> list[str]:
    """Return what to call topics: their top words by FREX among the likelier half of their tokens' words."""
    beta = means(fit)[1]
    words = top(beta, min(beta.shape[1], 3 * TOP))
    order = frex(beta).gather(1, words).argsort(1, descending=True)[:, :count]
    named = words.gather(1, order)
    return [" ".join(str(fit.data.column_labels[i]) for i in row) for row in named.tolist()]


def topics(fit: Fit) -> pd.DataFrame:
    """Return a line for each topic: its share of the tokens with an interval, quality, and top words in three ways."""
    data, (_, beta) = fit.data, means(fit)
    lower, mean, upper = share_intervals(fit)
    scores = {"probability": beta, "frex": frex(beta), "lift": lift(beta, data)}
    # By lift alone any word that occurs once is a top word: of those in a hundred tokens of the topic and more.
    often = beta * (mean[:, None] * data.lengths.sum()) >= min(10.0, float(data.word_totals.max()))
    scores["lift"] = scores["lift"] * often
    words = {
        f"top_{name}": [" ".join(str(data.column_labels[v]) for v in row) for row in top(each).tolist()]
        for name, each in scores.items()
    }
    figures = {"share": mean, "share_lower_90": lower, "share_upper_90": upper}
    figures |= {"coherence": coherence(beta, data), "exclusivity": exclusivity(beta)}
    known = {name: value.cpu().numpy() for name, value in figures.items()}
    return pd.DataFrame({"topic": range(len(beta)), **known, **words})


def share_intervals(fit: Fit) -> tuple[Float[Tensor, K], Float[Tensor, K], Float[Tensor, K]]:
    """Return each topic's share of all tokens: lower end of a 90% interval over draws, mean, upper end."""
    weight = fit.data.lengths / fit.data.lengths.sum().clamp(min=1)
    drawn = (weight.to(fit.aligned["topic_words"]) @ proportions(fit.aligned)).flatten(0, 1)
    ends = torch.quantile(drawn, drawn.new_tensor([0.05, 0.95]), dim=0)
    return ends[0], weight.to(means(fit)[0]) @ means(fit)[0], ends[1]


def words(fit: Fit) -> pd.DataFrame:
    """Return the top words of each topic by probability, with lift and FREX."""
    data, (_, beta) = fit.data, means(fit)
    chosen, over, both = top(beta, 2 * TOP), lift(beta, data), frex(beta)
    K, n = chosen.shape
    lines: dict[str, Any] = {"topic": np.repeat(np.arange(K), n), "rank": np.tile(np.arange(1, n + 1), K)}
    lines["word"] = [str(data.column_labels[v]) for v in chosen.flatten().tolist()]
    for name, each in {"probability": beta, "lift": over, "frex": both}.items():
        lines[name] = each.gather(1, chosen).flatten().cpu().numpy()
    return pd.DataFrame(lines)


def shares(theta: Float[Tensor, "S D K"], part: Documents) -> pd.DataFrame:
    """Return each document's topics: mean and standard deviation over draws, ``topic[0]``, ``topic_sd[0]``, ..."""
    found = {"document": list(part.row_labels)}
    for name, value in {"topic": theta.mean(0), "topic_sd": theta.std(0, correction=0)}.items():
        found |= {f"{name}[{k}]": column for k, column in enumerate(value.cpu().numpy().T)}
    return pd.DataFrame(found)


def documents(fit: Fit) -> pd.DataFrame:
    """Return the documents that have most of each topic, with their share of it and what is known about them."""
    data, (theta, _) = fit.data, means(fit)
    long = (data.lengths >= data.lengths.median()).to(theta)  # of a few words any topic is easily all
    best = (theta * long[:, None]).sort(dim=0, descending=True, stable=True).indices[:RANKED].T
    K, n = best.shape
    flat = best.flatten().cpu()
    lines: dict[str, Any] = {"topic": np.repeat(np.arange(K), n), "rank": np.tile(np.arange(1, n + 1), K)}
    lines["document"] = [str(data.row_labels[d]) for d in flat.tolist()]
    lines["share"] = theta.T.gather(1, best).flatten().cpu().numpy()
    about = {name: np.asarray(values)[flat.numpy()] for name, values in data.about.items()}
    return pd.DataFrame({**lines, **about})


def correlations(fit: Fit) -> tuple[Float[Tensor, "K K"], Float[Tensor, "K K"], Float[Tensor, "K K"]]:
    """Return correlations of topics: lower ends of 90% intervals over draws, means, and upper ends.

    Of the correlated topic model, of logits less their mean over all topics, under Sigma: C = H S H, S being Sigma with
    a row and a column of zeros for the last topic, H = I - 1 1^T / K. Of others, of shares across documents.
    """
    if "logit_covariance" in fit.aligned:
        sigma = fit.aligned["logit_covariance"].flatten(0, 1)
        K = sigma.shape[-1] + 1
        centre = torch.eye(K, dtype=sigma.dtype, device=sigma.device) - 1 / K
        covariance = centre @ with_last(with_last(sigma).mT) @ centre
    else:
        theta = proportions(fit.aligned).flatten(0, 1)
        away = theta - theta.mean(1, keepdim=True)
        covariance = away.mT @ away
    scale = covariance.diagonal(dim1=1, dim2=2).clamp(min=torch.finfo(covariance.dtype).tiny).rsqrt()
    drawn = covariance * scale[:, :, None] * scale[:, None, :]
    ends = torch.quantile(drawn, drawn.new_tensor([0.05, 0.95]), dim=0)
    return ends[0], drawn.mean(0), ends[1]


def correlation_table(fit: Fit) -> pd.DataFrame:
    """Return a line for each pair of topics, the most correlated first."""
    lower, mean, upper = correlations(fit)
    row, column = torch.triu_indices(len(mean), len(mean), 1)
    found = {"topic": row, "other": column, "correlation": mean[row, column], "lower_90": lower[row, column],
             "upper_90": upper[row, column]}  # fmt: skip
    table = pd.DataFrame({name: value.cpu().numpy() for name, value in found.items()})
    return table.sort_values("correlation", ascending=False, ignore_index=True, kind="stable")


def levels(values: Any) -> tuple[list[str], np.ndarray] | None:
    """Return the levels of what is known about documents, and each document's: bins of many numbers; None: names."""
    series = pd.Series(np.asarray(values))
    if series.nunique() <= LEVELS:
        codes, found = pd.factorize(series, sort=True)
        return [str(each) for each in found], codes
    if not pd.api.types.is_numeric_dtype(series):
        return None
    binned = pd.qcut(series, BINS, duplicates="drop")
    return [f"{each.left:g} to {each.right:g}" for each in binned.cat.categories], binned.cat.codes.to_numpy()


def prevalence(fit: Fit, name: str) -> pd.DataFrame:
    """Return each topic's mean share of the documents of each level of a column, with 90% intervals.

    The interval has what draws leave open and the sampling of documents: Var over draws of the mean + s^2 / n.
    """
    found = levels(fit.data.about[name])
    if found is None:
        raise ValueError(name)
    names, codes = found
    theta, lines = proportions(fit.aligned).flatten(0, 1), []
    for level, label in enumerate(names):
        own = theta[:, torch.as_tensor(np.flatnonzero(codes == level), device=theta.device)]
        if not own.shape[1]:
            continue
        of_draws = own.mean(1)
        variance = of_draws.var(0, correction=0) + own.mean(0).var(0, correction=0) / own.shape[1]
        mean, away = of_draws.mean(0), NORMAL_95 * variance.sqrt()
        for k, (m, a) in enumerate(zip(mean.tolist(), away.tolist(), strict=True)):
            lines.append((k, label, own.shape[1], m, m - a, m + a))
    return pd.DataFrame(lines, columns=["topic", name, "documents", "share", "lower_90", "upper_90"])


def fold_in(posterior: Posterior, draws: Values, part: Documents, most: int = DRAWS) -> Values:
    """Find the topics of new documents without fitting anew.

    For every draw of beta, and of mu and Sigma, q of a document's topics is brought to its optimum given them, and the
    topics are drawn from it: what is not known of beta stays in the answer. Of LDA q is Dirichlet; of the correlated
    topic model it is the normal at the mode of the logits, with tokens' topics held (Wang and Blei 2013): too narrow
    where these are in doubt.

    Args:
        posterior: What was fitted.
        draws: Site -> [chain, draw, *event] of the fit.
        part: New documents; their words are matched by label.
        most: Draws of beta used.

    Returns:
        Values with the topics of the new documents, [1, draw, *event].
    """
    part = posterior.data.matched(part)
    known = Draws({site: draws[site] for site in GIVEN if site in draws}).some(most).flat()
    with seeded(0):
        if "logit_mean" in known:
            return _logits_folded_in(known, part, most)
        return _shares_folded_in(posterior, known["topic_words"], part, most)


def _shares_folded_in(posterior: Posterior, beta: Float[Tensor, "S K V"], part: Documents, most: int) -> Values:
    """Draw theta of new documents from q = Dirichlet(gamma)."""
    tiny, (S, K, _) = torch.finfo(beta.dtype).tiny, beta.shape
    logs = beta.clamp(min=tiny).log().mT
    alpha, _ = posterior.model.concentrations(beta, S)
    gamma = alpha.unsqueeze(1) + (part.lengths / K)[:, None].to(beta)
    given = WordFactors.known(logs)
    gamma = fit_documents(gamma, given, alpha, part, steps=STEPS, tol=TOL, of_words=False).gamma
    times = max(1, most // S)
    theta = Dirichlet(gamma, validate_args=False).sample(torch.Size([times])).clamp(min=tiny).flatten(0, 1)
    return {"document_topics": theta[None], "topic_words": beta.repeat(times, 1, 1)[None]}


def _logits_folded_in(known: Values, part: Documents, most: int) -> Values:
    """Draw eta of new documents from q = N(mode, V)."""
    S, D, d = len(known["logit_mean"]), part.shape[0], known["logit_mean"].shape[-1]
    times, logits = max(1, most // S), []
    for s in range(S):
        beta, mean = known["topic_words"][s].mT.contiguous(), known["logit_mean"][s]
        precision, weights = inverted(known["logit_covariance"][s]), correlated.Weights(beta, None, beta)
        mode = mean.new_zeros(D, d)
        for _ in range(STEPS):
            found = correlated.fit_documents(weights, mean, precision, part, mode, steps=1)
            mode = found.logits
            if found.left < TOL**2:
                break
        curvature = correlated.curvature(theta_of(mode)[:, :-1], part.lengths.to(mode), precision)
        noise = torch.randn(times, D, d, 1, dtype=mode.dtype, device=mode.device)
        logits.append(mode + (covariance_factor(curvature) @ noise)[..., 0])
    rest = {site: value.repeat(times, *[1] * (value.ndim - 1))[None] for site, value in known.items()}
    return rest | {"document_logits": torch.stack(logits, 1).flatten(0, 1)[None]}
