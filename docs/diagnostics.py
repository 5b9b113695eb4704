"""Draw the pictures of docs/diagnostics.md from small fits, a bad one beside a good one: python docs/diagnostics.py.

It takes a few minutes. ``FOLDER`` as an argument is where the pictures go; docs/images in any case without one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import pyrozoo
from pyrozoo.contracts.fit import Fit
from pyrozoo.diagnostics.metrics import khat_threshold
from pyrozoo.drawing.panels import panels
from pyrozoo.math import mixing
from pyrozoo.math.pareto import leave_one_out
from pyrozoo.studies.calibrate import judge

BAD, GOOD = "#cf222e", "#1a7f37"
QUIET: dict[str, Any] = {"progress": False, "seed": 1}


def line(x: torch.Tensor, y: torch.Tensor) -> None:
    """Put a line through points: level and slope go together where x is far from 0."""
    level = pyro.sample("level", dist.Normal(x.new_zeros(()), 10.0))
    slope = pyro.sample("slope", dist.Normal(x.new_zeros(()), 2.0))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(level + slope * x, 1.0), obs=y)


def points(centre: float, outlier: float = 0.0, count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points about a line, their x about a centre; the last may lie off."""
    x = torch.linspace(-2, 2, count, dtype=torch.float64)
    y = 1 + 0.5 * x + torch.randn(count, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = x + centre
    if outlier:
        x[-1], y[-1] = x[-1] + 6, y[-1] + outlier
    return x, y


def side_by_side(height: float = 3.2, **more: Any) -> tuple[Figure, tuple[Axes, Axes]]:
    """Return a figure with a panel for what fails and one for what passes."""
    figure, (left, right) = panels(9, height, 1, 2, **more)
    return figure, (left, right)


def titled(axes: Axes, text: str, *, fails: bool) -> None:
    """Write what a panel shows over it, in the colour of what it says."""
    axes.set_title(text, fontsize=10, color=BAD if fails else GOOD)


def khat() -> Figure:
    """Draw the importance weights of draws from q: a dot's area is its share of all weights."""
    figure, both = side_by_side(3.6, sharex=True, sharey=True)
    for axes, family in zip(both, ("mean_field", "multivariate"), strict=True):
        fit = pyrozoo.fit(line, "svi", args=points(3.0), family=family, max_steps=6000, **QUIET)
        assert fit.log_q is not None
        logs = (fit.log_joint[1] - fit.log_q[:, :: fit.log_joint[0]]).flatten()
        weights = (logs - logs.logsumexp(0)).exp().double().numpy()
        level, slope = (fit.draws[site].flatten().numpy() for site in ("level", "slope"))
        k, bound = float(fit.metrics["khat"]), float(fit.metrics["khat_threshold"])
        axes.scatter(level, slope, 3, color="0.75", lw=0)
        axes.scatter(level, slope, 1500 * weights, color=BAD if k > bound else GOOD, alpha=0.55, lw=0)
        titled(axes, f"{family.replace('_', ' ')}: k-hat {k:.2f}, largest weight {weights.max():.0%}", fails=k > bound)
        axes.set_xlabel("level")
    both[0].set_ylabel("slope")
    return figure


def rhat() -> Figure:
    """Draw the invariant on which four chains disagree most."""
    figure, both = side_by_side()
    settings = {"rows": 100, "columns": 5, "warmup": 200, "draws": 300, "thin": 1, **QUIET, "seed": 0}
    for axes, factors in zip(both, (2, 1), strict=True):
        fit = pyrozoo.fit("factor_analysis", "gibbs", num_factors=factors, truth={"num_factors": 1}, **settings)
        name, values, worst = disagreeing(fit)
        for chain in values:
            axes.plot(chain, lw=0.8)
        axes.set(xlabel="draw", ylabel=name)
        titled(axes, f"{factors} factor{'s' * (factors > 1)}: R-hat {worst:.2f}", fails=worst > 1.01)
    return figure


def disagreeing(fit: Fit) -> tuple[str, np.ndarray, float]:
    """Return the invariant on which chains disagree most, its values [chain, draw], and its R-hat."""
    found = []
    for name, value in fit.invariants.items():
        flat = value.flatten(2) if value.ndim > 2 else value.unsqueeze(2)
        shapes = mixing.rhat(flat)
        place = int(shapes.argmax())
        found.append((name.replace("_", " "), flat[:, :, place].numpy(), float(shapes[place])))
    return max(found, key=lambda each: each[2])


def effective() -> Figure:
    """Draw one chain of the slope, and how many independent draws four such chains are worth."""
    figure, both = side_by_side()
    for axes, centre in zip(both, (6.0, 0.0), strict=True):
        settings = {"warmup": 100, "draws": 400, "thin": 1, **QUIET}
        fit = pyrozoo.fit(line, "gibbs", args=points(centre), **settings)
        slope = fit.draws["slope"]
        size = float(mixing.ess(slope, "bulk"))
        axes.plot(slope[0].numpy(), lw=0.8, color="C0")
        axes.set(xlabel="draw", ylabel="slope")
        said = "x centred" if not centre else "x far from 0"
        titled(axes, f"{said}: {slope.numel()} draws are worth {size:.0f}", fails=size < 400)
    return figure


def loo() -> Figure:
    """Draw Pareto k of every row, with the data and the line."""
    figure, grid = panels(9, 4.8, 2, 2, height_ratios=(1.2, 1))
    for (above, below), outlier in zip(grid.T, (14.0, 0.0), strict=True):
        x, y = points(0.0, outlier)
        fit = pyrozoo.fit(line, "nuts", args=(x, y), warmup=300, draws=1000, **QUIET)
        _, shapes = leave_one_out(fit.pointwise[1].flatten(0, 1).T.double().contiguous())
        bound = khat_threshold(fit.draws["slope"].numel())
        colors = [BAD if k > bound else "0.4" for k in shapes]
        above.scatter(x, y, 18, color=colors)
        ends = torch.stack([x.min(), x.max()])
        for i in range(0, 1000, 50):
            above.plot(ends, fit.draws["level"][0, i] + fit.draws["slope"][0, i] * ends, color="C0", lw=0.5, alpha=0.5)
        below.scatter(x, shapes, 18, color=colors)
        below.axhline(bound, color="0.6", lw=0.8)
        below.set(xlabel="x", ylabel="Pareto k of the row")
        above.set(ylabel="y")
        bad = int((shapes > bound).sum())
        titled(above, f"LOO can{'not' if bad else ''} be believed: {bad} of {len(x)} rows have k > {bound:.2f}",
               fails=bad > 0)  # fmt: skip
    return figure


def pit() -> Figure:
    """Draw where hidden cells fall within their predictive distributions."""
    generator = np.random.default_rng(2)
    rates = generator.gamma(2.0, 1.5, (120, 1)) * generator.gamma(2.0, 0.7, (1, 8))
    counts = {"spread out": generator.poisson(rates * generator.gamma(0.7, 1 / 0.7, rates.shape)),
              "Poisson": generator.poisson(rates)}  # fmt: skip
    figure, both = side_by_side(sharey=True)
    for axes, (what, values) in zip(both, counts.items(), strict=True):
        fit = pyrozoo.fit("poisson_mf", "cavi", data=values, num_factors=1, holdout=0.2, **QUIET)
        shares = fit.held_out[0].pit.numpy()
        covered = float(fit.metrics["holdout_coverage_90"])
        ranks(
            axes, shares, f"counts that are {what}: 90% intervals hold {covered:.0%}", fails=abs(covered - 0.9) > 0.04
        )
        axes.set_xlabel("PIT: share of the predictive below the truth")
    both[0].set_ylabel("hidden cells")
    return figure


def ranks(axes: Axes, shares: np.ndarray, text: str, *, fails: bool) -> None:
    """Draw a histogram of shares, with what bars of a uniform do in 99 of 100 cases."""
    bins = judge.bins_for(len(shares))
    axes.axhspan(*judge.histogram_band(len(shares), bins), color="0.88", zorder=0)
    axes.hist(shares, bins=bins, range=(0, 1), color=BAD if fails else GOOD, alpha=0.75, rwidth=0.93)
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
    titled(axes, text, fails=fails)


def sbc() -> Figure:
    """Draw how true slopes rank among the draws of two methods."""
    figure, both = side_by_side(sharey=True)
    for axes, (method, own) in zip(both, (("cavi", {}), ("gibbs", {"warmup": 100, "draws": 1000})), strict=True):
        found = pyrozoo.calibrate(line, method, args=points(3.0, count=10), simulations=120, **QUIET, **own)
        fails = found.summary.set_index("quantity")["verdict"]["slope"] != "calibrated"
        said = "not calibrated" if fails else "calibrated"
        ranks(axes, found.ranks["slope"].dropna().to_numpy(), f"{method}: {said}", fails=fails)
        axes.set_xlabel("rank of the true slope among the draws, as a share")
    both[0].set_ylabel("data sets")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "khat": khat, "rhat": rhat, "ess": effective, "loo": loo, "pit": pit, "sbc": sbc,
}  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    """Draw pictures by name, or all."""
    for name in names or PICTURES:
        PICTURES[name]().savefig(folder / f"diagnostics_{name}.png", dpi=110)


if __name__ == "__main__":
    main(Path(__file__).parent / "images", sys.argv[1:])
