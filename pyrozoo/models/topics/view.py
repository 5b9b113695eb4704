"""What is shown of fitted topics: their words, shares, quality, correlations, prevalence, held-out tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.data.documents import Documents, completion
from pyrozoo.drawing.labels import counted, drawable, families, percent, short
from pyrozoo.drawing.names import name_points
from pyrozoo.drawing.panels import array, grid, panels
from pyrozoo.drawing.scenes import MOST_COLUMNS, heatmap
from pyrozoo.models.topics import queries
from pyrozoo.models.topics.likelihood import proportions

MOST_LISTED, LISTED, ACROSS = 20, 10, 5
"""Topics whose top words are listed, the largest first; words listed of each; lists side by side."""

MOST_NAMED = 40
"""Topics up to which each has a line, or a name."""

STRONG, STEPS = 60, 300
"""Edges of a graph of topics at most, and moves of its points."""

SHIFTED = 8
"""Topics that are drawn over what is known about documents: those that differ most."""


class View(view.View):
    """Figures, tables and pictures of topics."""

    main = ("topics",)
    moves = ("topic_words",)

    rows_have_own = True

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return the probabilities of the words that are likeliest in the end."""
        end = fits[0].aligned["topic_words"].mean((0, 1))
        best = end.argsort(1, descending=True)[:, : max(2, MOST_COLUMNS // len(end))].flatten().tolist()
        at = list(dict.fromkeys(best))[:MOST_COLUMNS]

        def words(then: Fit) -> Tensor:
            return then.aligned["topic_words"].mean((0, 1))[:, at].sqrt()

        names = [fit.data.column_labels[v] for v in at]
        said = "Probabilities of words, square roots: a topic comes to be as its words light up together."
        return heatmap("topics", said, "topic", "word", words, range(len(end)), names)

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return coherence and exclusivity, the bound per token, and more figures of held-out tokens.

        ``holdout_elpd`` is the mean log probability of a hidden token, averaged over the posterior (micro);
        ``holdout_macro`` the mean over documents of their means; ``holdout_plugin`` and ``holdout_macro_plugin`` the
        same at the posterior means of theta and beta; ``baseline_elpd`` that of the words' shares in all documents.
        """
        data, (_, beta), total = fit.data, queries.means(fit), float(fit.data.lengths.sum())
        result = {
            "coherence": float(queries.coherence(beta, data).mean()),
            "exclusivity": float(queries.exclusivity(beta).mean()),
        }
        if fit.objective_name.startswith("elbo") and total > 0:
            result["elbo_per_token"] = fit.objective / total
        if data.hidden is None or not len(data.hidden.values):
            return result
        result["baseline_elpd"] = _micro(data, _unigram(data))
        logs = fit.prediction(data).log_density
        result["holdout_macro"] = float(completion(data.hidden, logs)[0].mean())
        plugin = _plugin(fit)
        result |= {"holdout_plugin": _micro(data, plugin), "holdout_tokens": float(data.hidden.values.sum())}
        return result | {"holdout_macro_plugin": float(completion(data.hidden, plugin)[0].mean())}

    def tables(self, fit: Fit) -> view.Tables:
        """Return topics, their words, correlations and documents; prevalence by what is known about documents.

        ``test_document_topics`` are the topics of new documents; ``holdout`` says how well hidden tokens are predicted.
        """
        data = fit.data
        result: dict[str, Callable[[], pd.DataFrame]] = {
            "topics": partial(queries.topics, fit),
            "words": partial(queries.words, fit),
            "document_topics": lambda: queries.shares(proportions(fit.aligned).flatten(0, 1), data),
            "documents": partial(queries.documents, fit),
            "correlations": partial(queries.correlation_table, fit),
        }
        for name in _known(data):
            result[f"prevalence_{name}"] = partial(queries.prevalence, fit, name)
        if data.test is not None:
            new = cache(partial(queries.fold_in, fit.posterior, fit.aligned, data.test))
            result["test_document_topics"] = lambda: queries.shares(proportions(new()).flatten(0, 1), data.test)
        return view.Tables(result) | self.predicted(fit)

    def draws_of(self, fit: Fit, part: Any) -> Draws:
        """Return draws with the topics of the documents, new ones folded in."""
        return fit.draws if part is fit.data else Draws(queries.fold_in(fit.posterior, fit.draws, part))

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return each document's topics and how unsure they are."""
        own = part is fit.data
        drawn = fit.aligned if own else Draws(queries.fold_in(fit.posterior, fit.aligned, part))
        return queries.shares(proportions(drawn).flatten(0, 1), part).drop(columns="document")

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return words of topics, their shares, quality, the graph of correlations, prevalence, held-out tokens."""
        data: Documents = fit.data
        result: list[Any] = [partial(each, fit) for each in (_topics, _shares, _quality, _graph)]
        result += [partial(_prevalence, fit, name) for name in _known(data)]
        if data.hidden is not None and len(data.hidden.values):
            result.append(partial(_completion, fit))
        return view.Pictures(*result)

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return held-out log probability over the number of topics, where that differs."""
        known = [fit for fit in fits if "holdout_elpd" in fit.metrics]
        return [_choice(known)] if len({fit.model.num_topics for fit in known}) > 1 else []


def _known(data: Documents) -> list[str]:
    """Return what is known about documents that has levels, or can be cut into some."""
    return [name for name, values in data.about.items() if queries.levels(values) is not None]


def _micro(data: Documents, logs: Tensor) -> float:
    assert data.hidden is not None
    tokens = data.hidden.values.to(logs)
    return float((logs * tokens).sum() / tokens.sum())


def _unigram(data: Documents) -> Tensor:
    assert data.hidden is not None
    share = (data.word_totals + 1) / (data.word_totals + 1).sum()
    return share[data.hidden.columns].log()


def _plugin(fit: Fit) -> Tensor:
    """Return the log probability of a hidden token at the posterior means."""
    theta, beta = queries.means(fit)
    means = {"document_topics": theta, "topic_words": beta}
    tiny = torch.finfo(theta.dtype).tiny
    posterior: Any = fit.posterior
    return posterior.hidden_probabilities(means).clamp(min=tiny).log()


# Topics ---------------------------------------------------------------------------------------------------------------


def _order(fit: Fit) -> list[int]:
    """Return topics by falling share."""
    return queries.share_intervals(fit)[1].argsort(descending=True, stable=True).tolist()


def _topics(fit: Fit) -> Picture:
    data, (_, beta) = fit.data, queries.means(fit)
    share, order = array(queries.share_intervals(fit)[1]), _order(fit)
    count, lines = min(MOST_LISTED, len(order)), min(LISTED, beta.shape[1])
    close = ConstrainedLayoutEngine(wspace=0.04, hspace=0.04)
    figure, every = grid(count, ACROSS, (2.3 if count > 1 else 3.0, 0.42 + 0.17 * lines), layout=close)
    for axes, k in zip(every, order, strict=False):
        axes.set_axis_off()
        weights, best = (each[:lines] for each in beta[k].sort(descending=True, stable=True))
        sizes, y = array(weights), np.arange(lines)
        axes.barh(y, sizes / (sizes.max() or 1.0), height=0.84, color="#c6dbef")
        for i, v in enumerate(best.tolist()):
            style: dict[str, Any] = {"va": "center_baseline", "fontsize": 7.5}
            axes.text(0.012, i, drawable(data.column_labels[v], v, "word"), family=families(), **style)
            axes.text(1.25, i, percent(sizes[i]), ha="right", color="0.45", **style)
        axes.set(xlim=(0, 1.25), ylim=(lines - 0.5, -0.5))
        axes.set_title(f"topic {k}: {percent(share[k])} of all", fontsize=9, loc="left", pad=3, fontweight="bold")
    return Picture(
        "topics",
        f"The likeliest words of {counted(count, 'topic', of=len(order))}. Do the words of a list belong together? "
        "Numbers are probabilities, titles the topic's share of all tokens.",
        figure,
    )


def _shares(fit: Fit) -> Picture:
    lower, mean, upper = map(array, queries.share_intervals(fit))
    shown, names = _order(fit)[:MOST_NAMED], queries.labels(fit, 4)
    figure, axes = panels(7.2, 1.0 + 0.19 * len(shown))
    y = np.arange(len(shown))
    axes.barh(y, mean[shown], height=0.62, color="#9ecae1")
    axes.hlines(y, lower[shown], upper[shown], color="0.2", lw=1.4)
    for i, k in enumerate(shown):
        axes.text(max(mean[k], upper[k]) + 0.01 * mean.max(), i, short(names[k], 60), va="center_baseline", fontsize=7)
    axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="share of all tokens", xlim=(0, 1.7 * float(mean.max())))
    axes.set_yticks(y, [f"topic {k}" for k in shown], fontsize=7)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    some = f" The {len(shown)} largest of {len(mean)}." if len(shown) < len(mean) else ""
    return Picture(
        "shares", f"How large topics are, with 90% intervals, and words that are theirs alone (FREX).{some}", figure
    )


def _quality(fit: Fit) -> Picture:
    data, (_, beta) = fit.data, queries.means(fit)
    x, y = array(queries.coherence(beta, data)), array(queries.exclusivity(beta))
    size, names = array(queries.share_intervals(fit)[1]), queries.labels(fit, 2)
    figure, axes = panels(6.8, 4.6)
    axes.scatter(x, y, s=20 + 900 * size / max(1e-12, float(size.sum())), color="C0", alpha=0.4, lw=0)
    axes.set(xlabel="coherence of the ten likeliest words", ylabel="their exclusivity (FREX)")
    axes.margins(0.12)
    place, outward = np.stack([x, y], 1), np.array([1.0, 0.5])
    named = [(place[k], outward, f"{k} {short(names[k], 22)}", "C0") for k in _order(fit)[:MOST_NAMED]]
    name_points(figure, axes, named, place)
    return Picture(
        "quality",
        "Good topics are at the top right: their words occur in the same documents, and in few other topics. Larger "
        "points are larger topics.",
        figure,
    )


# Correlations ---------------------------------------------------------------------------------------------------------


def _graph(fit: Fit) -> Picture | None:
    lower, mean, _ = map(array, queries.correlations(fit))
    K = len(mean)
    if K < 3:
        return None
    rows, columns = np.triu_indices(K, 1)
    sure = (lower[rows, columns] > 0).nonzero()[0]
    edges = sure[np.argsort(-mean[rows[sure], columns[sure]])][:STRONG]
    place = _laid_out(K, rows[edges], columns[edges], mean[rows[edges], columns[edges]])
    size, names = array(queries.share_intervals(fit)[1]), queries.labels(fit, 2)
    figure, axes = panels(8, 6.4)
    top = max(1e-12, float(mean[rows[edges], columns[edges]].max())) if len(edges) else 1.0
    for e in edges:
        i, j = rows[e], columns[e]
        width = mean[i, j] / top
        axes.plot(*place[[i, j]].T, color="C1", lw=0.4 + 3 * width, alpha=0.25 + 0.5 * width, zorder=1)
    axes.scatter(*place.T, s=30 + 1500 * size / max(1e-12, float(size.sum())), color="#9ecae1", ec="white", zorder=2)
    for k in _order(fit)[: 2 * MOST_NAMED]:
        axes.text(*place[k], short(names[k], 24), fontsize=6.5, ha="center", va="center", zorder=3)
    axes.set_axis_off()
    axes.margins(0.08)
    of = "logits of topics" if "logit_covariance" in fit.draws else "shares of topics across documents"
    return Picture(
        "correlations",
        f"Lines join topics that go together: the 90% interval of the correlation of {of} is above 0. Thicker lines "
        f"are stronger, up to {top:.2f}.{f' The {STRONG} strongest of {len(sure)}.' if len(sure) > STRONG else ''}",
        figure,
    )


def _laid_out(K: int, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Place points so that joined ones are near and no two are close (Fruchterman and Reingold 1991), [K, 2]."""
    angle = 2 * np.pi * np.arange(K) * 0.381966  # a sunflower: no two start at one place
    place = np.sqrt((np.arange(K) + 0.5) / K)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    pull = np.zeros((K, K))
    # Steps carry a last place far: of pulls to three digits the picture is one and the same wherever it is drawn.
    pull[rows, columns] = pull[columns, rows] = np.round(weights / max(1e-12, weights.max(initial=0)), 3)
    ideal = 1 / np.sqrt(K)
    for step in range(STEPS):
        apart = place[:, None] - place[None]
        distance = np.sqrt((apart**2).sum(-1)) + 1e-9
        force = ideal**2 / distance**2 - pull * distance / ideal
        move = (apart * force[:, :, None]).sum(1) - 0.6 * place
        size = np.sqrt((move**2).sum(1, keepdims=True)) + 1e-12
        place += move / size * np.minimum(size, 0.1 * (1 - step / STEPS))
    return place


# What is known about documents ----------------------------------------------------------------------------------------


def _prevalence(fit: Fit, name: str) -> Picture:
    table = queries.prevalence(fit, name)
    wide = table.pivot(index="topic", columns=name, values="share")
    spread = np.ptp(wide.to_numpy(), axis=1)
    chosen, names = np.argsort(-spread, kind="stable")[:SHIFTED].tolist(), queries.labels(fit, 3)
    figure, every = grid(len(chosen), 4, (2.5, 1.9))
    for axes, k in zip(every, chosen, strict=True):
        own = table[table["topic"] == k]
        x = np.arange(len(own))
        axes.vlines(x, own["lower_90"], own["upper_90"], color="C0", lw=1.5)
        axes.plot(x, own["share"], "o" if len(own) <= 3 else "o-", color="C0", ms=4, lw=0.8)
        _ticked(axes, [short(each, 14) for each in own[name]])
        axes.set_title(f"{k}: {short(names[k], 30)}", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlim(-0.6, len(own) - 0.4)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(labelsize=7)
    return Picture(
        f"prevalence_{name}",
        f"Mean share of topics by {name}, with 90% intervals: the {len(chosen)} of {len(wide)} that differ most.",
        figure,
    )


def _ticked(axes: Axes, names: Sequence[str]) -> None:
    at = evenly(len(names), 4).tolist()
    axes.set_xticks(at, [names[i] for i in at], rotation=20 if len(names) > 2 else 0, fontsize=7)


# Hidden tokens --------------------------------------------------------------------------------------------------------


def _completion(fit: Fit) -> Picture:
    data = fit.data
    mine, tokens, _ = completion(data.hidden, fit.prediction(data).log_density)
    theirs = completion(data.hidden, _unigram(data))[0]
    x, y, size = array(theirs), array(mine), array(tokens)
    figure, axes = panels(5.2, 4.2)
    axes.scatter(x, y, s=4 + 40 * size / size.max(), alpha=0.45, lw=0)
    ends = float(min(x.min(), y.min())) - 0.2, float(max(x.max(), y.max())) + 0.2
    axes.plot(ends, ends, color="0.4", lw=0.8)
    axes.set(
        xlim=ends, ylim=ends, xlabel="by the words' shares in all documents", ylabel="by the topics of the seen half"
    )
    axes.set_title(f"{(y > x).mean():.0%} of documents gain; {(y - x).mean():+.2f} on average", fontsize=10)
    return Picture(
        "completion",
        "Mean log probability of a hidden token of each document of which half was hidden. Above the line topics help. "
        "Larger points are longer documents.",
        figure,
    )


def _choice(fits: Sequence[Fit]) -> Picture:
    figure, axes = panels(5.6, 3.8)
    for method in dict.fromkeys(fit.method for fit in fits):
        own = sorted((fit.model.num_topics, float(fit.metrics["holdout_elpd"])) for fit in fits if fit.method == method)
        axes.plot(*zip(*own, strict=True), "o-", ms=4, label=method)
    axes.set(xlabel="topics", ylabel="log probability of a hidden token")
    axes.legend(fontsize=8)
    return Picture("choice_of_topics", "Take the fewest topics after which the curve no longer rises.", figure)
