"""What is shown of fitted chains: states, where they lead, how long they last, paths of sequences, the next steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyrozoo.contracts import view
from pyrozoo.contracts.fit import Fit
from pyrozoo.core.draws import Draws, evenly
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture
from pyrozoo.drawing.labels import short
from pyrozoo.drawing.panels import array, panels
from pyrozoo.drawing.predictions import completions
from pyrozoo.drawing.scenes import heatmap
from pyrozoo.models.hidden_markov.queries import LEVELS, dwell, forecast, path

HORIZON = 10
"""Steps that are forecast."""

MOST_SEQUENCES, MOST_STEPS = 6, 300
"""What a picture of sequences shows of them, from the start of each."""

MOST_MOVING, MOST_DRAWN = 120, 10
"""Rows of a movie, and draws behind each of its moments."""

MOST_FORECAST = 200
"""Sequences whose next steps are forecast; of more an even choice."""

COLOURS, LINES = "tab10", ("black", "tab:red", "tab:purple")
"""Of states, and of the columns that are shown, the first ones."""


class View(view.View):
    """Figures, tables and pictures of a hidden Markov model."""

    main = ("states", "transitions", "sequences")
    moves = ("mean", "coefficients", "rate", "probability")

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene:
        """Return the probability of every state along the first sequence."""
        part: Any = fit.posterior.on(fit.data.of_sequences(torch.arange(1)))
        steps = min(part.data.shape[0], MOST_MOVING)

        def states(then: Fit) -> Tensor:
            return part.smoothed(then.aligned.some(MOST_DRAWN))[:steps].T

        said = f"Probability of every state at the first {steps} rows: light is sure."
        return heatmap("states", said, "state", "row", states, shape=(fit.model.num_components, steps), ends=(0.0, 1.0))

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return how sure the states of rows are, and how many are visited at all."""
        share = _probability(fit, fit.data)
        return {"state_certainty": share.amax(1).mean().item(), "states_visited": float(len(share.argmax(1).unique()))}

    def tables(self, fit: Fit) -> view.Tables:
        """Return states, where they lead, the state of every row, old and new, the next steps, predicted cells."""
        result = {
            "states": partial(_states, fit), "transitions": partial(_transitions, fit),
            "paths": partial(_rows, fit, fit.data), "sequences": partial(_sequences, fit, fit.data),
            "forecast": partial(forecasts, fit, fit.data),
        }  # fmt: skip
        if fit.data.test is not None:
            new = fit.data.test
            result |= {"test_paths": partial(_rows, fit, new), "test_sequences": partial(_sequences, fit, new)}
        return view.Tables(result) | self.predicted(fit)

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return the state of each row on the most probable path, and the probability of every state."""
        return _rows(fit, part).drop(columns=["row", "sequence", "time"])

    def pictures(self, fit: Fit) -> view.Pictures:
        """Return sequences with their states, transitions, and predictions of what was hidden."""
        hidden = partial(completions, fit, self.hiding(fit), "value")
        return view.Pictures(partial(_sequence_picture, fit), partial(_transition_picture, fit), hidden)


def _posterior(fit: Fit, part: Any) -> Any:
    return fit.posterior if part is fit.data else fit.posterior.on(part)


def _probability(fit: Fit, part: Any) -> Tensor:
    """Return the probability of every state for every row, old or new; of the fitted ones computed once."""
    found = partial(_posterior(fit, part).smoothed, fit.aligned)
    return fit.once("states", found) if part is fit.data else found()


def _interval(values: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    flat = values.flatten(0, 1).double()
    lower, upper = torch.quantile(flat, flat.new_tensor(LEVELS), dim=0)
    return array(flat.mean(0)), array(lower), array(upper)


def _states(fit: Fit) -> pd.DataFrame:
    """Return each state: share of rows, how long it lasts, and its emission by column."""
    share, draws, posterior = _probability(fit, fit.data), fit.aligned, _posterior(fit, fit.data)
    mean, lower, upper = _interval(dwell(draws))
    table = {
        "state": range(share.shape[1]), "share": array(share.mean(0)), "steps": mean, "steps_lower_90": lower,
        "steps_upper_90": upper, "first": array(draws["initial"].mean((0, 1))),
    }  # fmt: skip
    for site, dims in posterior.emission.sites.items():
        value = draws[site].mean((0, 1))
        name, value = ("sd", value.sqrt()) if site == "variance" else (site, value)
        for d, label in enumerate(fit.data.column_labels):
            if len(dims) == 2:
                table[f"{name}[{label}]"] = array(value[:, d])
            else:
                others = fit.data.column_labels if dims[2] == "column_" else range(value.shape[2])
                table |= {f"{name}[{label}, {other}]": array(value[:, d, j]) for j, other in enumerate(others)}
    return pd.DataFrame(table)


def _transitions(fit: Fit) -> pd.DataFrame:
    mean, lower, upper = _interval(fit.aligned["transition"])
    K = len(mean)
    pairs = [(k, j) for k in range(K) for j in range(K)]
    ends = {"probability": mean, "lower_90": lower, "upper_90": upper}
    columns = {"from": [k for k, _ in pairs], "to": [j for _, j in pairs]}
    return pd.DataFrame(columns | {name: value.flatten() for name, value in ends.items()})


def best_path(fit: Fit, part: Any) -> tuple[Tensor, Tensor]:
    """Return the most probable path at the mean of aligned draws: the state of every row, and log p by sequence."""
    values = {site: value[None] for site, value in fit.aligned.means().items()}
    for site in ("initial", "transition"):
        values[site] = values[site] / values[site].sum(-1, keepdim=True)
    states, log_joint = path(_posterior(fit, part), values)
    return states[:, 0], log_joint[:, 0]


def _rows(fit: Fit, part: Any) -> pd.DataFrame:
    share, (states, _) = _probability(fit, part), best_path(fit, part)
    names = np.array(part.sequence_labels, dtype=object)[part.sequence.cpu().numpy()]
    table = {"row": list(part.row_labels), "sequence": names, "time": part.time.cpu().numpy(), "state": states.cpu()}
    return pd.DataFrame({**table, **view.numbered("probability", share)})


def _sequences(fit: Fit, part: Any) -> pd.DataFrame:
    """Return each sequence: its length, its log-likelihood, and how much of it is spent in every state."""
    posterior, share = _posterior(fit, part), _probability(fit, part)
    logs = posterior.pointwise(fit.draws.some(200)).flatten(0, 1)
    logs = logs.logsumexp(0) - np.log(len(logs))
    steps = torch.bincount(part.sequence, minlength=part.units).to(share)
    spent = share.new_zeros(part.units, share.shape[1]).index_add(0, part.sequence, share) / steps.unsqueeze(-1)
    table = {"sequence": part.sequence_labels, "rows": array(steps).astype(int), "log_density": array(logs)}
    return pd.DataFrame({**table, "log_density_by_row": array(logs / steps), **view.numbered("share", spent)})


def forecasts(fit: Fit, part: Any, steps: int = HORIZON) -> pd.DataFrame:
    """Return the next steps of every sequence, old or new: probabilities of states, means and 90% intervals of values.

    Args:
        fit: The fit.
        part: The sequences.
        steps: How many steps after the last of each.
    """
    chosen = evenly(part.units, MOST_FORECAST)
    posterior = _posterior(fit, part) if len(chosen) == part.units else fit.posterior.on(part.of_sequences(chosen))
    data = posterior.data
    share, mean, ends = (array(each) for each in forecast(posterior, Draws(fit.aligned), steps))
    last = data.time.new_full((data.units,), torch.iinfo(torch.int64).min)
    last = last.scatter_reduce(0, data.sequence, data.time, "amax").cpu().numpy()
    _, H, K = share.shape
    table: dict[str, Any] = {
        "sequence": np.repeat(np.array(data.sequence_labels, dtype=object), H),
        "time": (last[:, None] + np.arange(1, H + 1)).flatten(),
        **{f"probability[{k}]": share[:, :, k].flatten() for k in range(K)},
    }
    for d, label in enumerate(data.column_labels):
        table[f"{label}"] = mean[:, :, d].flatten()
        table |= {f"{label}_{end}": ends[:, :, d, i].flatten() for i, end in enumerate(("lower_90", "upper_90"))}
    return pd.DataFrame(table)


def _colours(count: int) -> Any:
    import matplotlib as mpl

    return mpl.colormaps[COLOURS if count <= 10 else "turbo"].resampled(10 if count <= 10 else count)


def _sequence_picture(fit: Fit) -> Picture:
    data, share = fit.data, _probability(fit, fit.data)
    K, shown = share.shape[1], evenly(data.units, MOST_SEQUENCES).tolist()
    columns = min(len(LINES), data.shape[1])
    figure, axes = panels(10, 0.5 + 1.5 * len(shown), len(shown), 1, squeeze=False)
    colours, sequence, time = _colours(K), data.sequence.cpu().numpy(), data.time.cpu().numpy()
    spread = data.filled.std(0).clamp(min=1e-12) if columns > 1 else 1.0
    centre = data.filled.sum(0) / data.observed.sum(0).clamp(min=1) if columns > 1 else 0.0
    values, sure = array((data.values - centre) / spread), array(share)
    for axis, s in zip(axes[:, 0], shown, strict=True):
        at = np.flatnonzero(sequence == s)
        at = at[time[at].argsort()][:MOST_STEPS]
        for k in range(K):
            bars = [(t - 0.5, 1.0) for t in time[at][sure[at].argmax(1) == k]]
            across = {"transform": axis.get_xaxis_transform(), "color": colours(k), "alpha": 0.3, "lw": 0}
            axis.broken_barh(bars, (0, 1), **across, label=f"state {k}")
        for d in range(columns):
            called = short(data.column_labels[d], 14) if columns > 1 else None
            axis.plot(time[at], values[at, d], ".-", color=LINES[d], lw=0.7, ms=3, label=called)
        axis.set(xlim=(time[at].min() - 0.5, time[at].max() + 0.5), ylabel=short(data.sequence_labels[s], 14))
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=min(K + columns, 8), fontsize=7, frameon=False)
    axes[-1, 0].set(xlabel="time")
    some = f" {len(shown)} of {data.units} sequences, evenly chosen." if len(shown) < data.units else ""
    unit = " Values are in units of their column's sd, the first columns only." if columns > 1 else ""
    said = f"Sequences over time; behind each step the colour of its most probable state.{unit}{some}"
    return Picture("sequences", said, figure)


def _transition_picture(fit: Fit) -> Picture:
    mean = array(fit.aligned["transition"].mean((0, 1)))
    K = len(mean)
    figure, axis = panels(1.6 + 0.7 * K, 1.2 + 0.6 * K)
    image = axis.imshow(mean, cmap="Blues", vmin=0, vmax=1)
    for k in range(K):
        for j in range(K):
            axis.text(j, k, f"{mean[k, j]:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if mean[k, j] > 0.6 else "black")  # fmt: skip
    axis.set(xlabel="to state", ylabel="from state", xticks=range(K), yticks=range(K))
    figure.colorbar(image, ax=axis, shrink=0.85)
    return Picture("transitions", "Where states lead: a strong diagonal means that they last.", figure)
