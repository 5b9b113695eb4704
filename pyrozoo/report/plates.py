"""The model in plate notation, drawn from Pyro's own account of the program; Graphviz is not needed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyro.poutine as poutine
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyBboxPatch
from pyro.infer.autoguide.initialization import InitMessenger
from pyro.infer.inspect import get_model_relations
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import NotApplicable

COLUMNS = 4
TRIED = 20_000  # layouts
STEP_X, STEP_Y = 2.0, 1.35
WIDTH, HEIGHT = 0.62, 0.26  # half axes of a site's ellipse

Cell = tuple[int, int]


def draw_plates(posterior: Posterior) -> Figure:
    """Draw sites as ellipses (observed ones shaded), dependence as arrows, plates as boxes with their sizes."""
    start = cache(lambda: {site: value[0] for site, value in posterior.initial(1).items()})

    def drawn(site: Any) -> Tensor:
        try:
            return site["fn"].sample()
        except (NotImplementedError, NotApplicable):  # a prior that cannot be drawn from, such as that of a large field
            return start()[site["name"]]

    # Who depends on whom is the same for any number of units.
    program = InitMessenger(drawn)(posterior.program)
    plated = posterior.plated
    relations = get_model_relations(program, (plated,))
    parents: dict[str, list[str]] = relations["sample_sample"]
    plates: dict[str, list[str]] = {}
    for name, sites in relations["plate_sample"].items():
        # Pyro shows a plate that is entered twice as a clone; it is one plate.
        members = plates.setdefault(name.removesuffix("__CLONE"), [])
        members += [site for site in sites if site in parents and site not in members]
    sizes = _sizes(poutine.condition(posterior.program, data=start()) if plated is posterior.data else program, plated)
    cells = _layout(parents, plates)
    across, down = (1 + max(axis) for axis in zip(*cells.values(), strict=True))
    figure = Figure(figsize=(2.2 * across + 0.6, 1.35 * down + 0.6), layout="constrained")
    axes = figure.subplots()
    # Larger boxes get more room around their members, so that no two edges lie on each other.
    boxes = {plate: [cells[site] for site in sites] for plate, sites in plates.items() if sites}
    for rank, (plate, inside) in enumerate(sorted(boxes.items(), key=lambda item: -_area(item[1]))):
        _box(axes, f"{plate} {sizes.get(plate, '')}", inside, rank)
    for parent, site in _pairs(parents):
        _arrow(axes, cells[parent], cells[site])
    for site, (x, y) in cells.items():
        shade = "0.8" if site in relations["observed"] else "white"
        axes.add_patch(Ellipse((x * STEP_X, -y * STEP_Y), 2 * WIDTH, 2 * HEIGHT, fc=shade, ec="black", zorder=3))
        axes.text(x * STEP_X, -y * STEP_Y, site.replace("_", " "), ha="center", va="center", fontsize=9, zorder=4)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.margins(0.04)
    axes.axis("off")
    return figure


def _sizes(program: Any, data: Any) -> dict[str, int]:
    nodes = poutine.trace(program).get_trace(data).nodes.values()
    return {frame.name: frame.full_size or frame.size for node in nodes if node["type"] == "sample"
            for frame in node["cond_indep_stack"]}  # fmt: skip


def _area(inside: list[Cell]) -> int:
    (x0, y0), (x1, y1) = np.min(inside, 0), np.max(inside, 0)
    return int((x1 - x0 + 1) * (y1 - y0 + 1))


def _layout(parents: Mapping[str, list[str]], plates: Mapping[str, list[str]]) -> dict[str, Cell]:
    """Place sites on a grid: rows by depth, columns so that boxes hold their members only and arrows are short."""
    frozen = (tuple((name, tuple(each)) for name, each in mapping.items()) for mapping in (parents, plates))
    return dict(_placed(*frozen))


Frozen = tuple[tuple[str, tuple[str, ...]], ...]


@cache
def _placed(parent_items: Frozen, plate_items: Frozen) -> dict[str, Cell]:
    parents, plates = dict(parent_items), dict(plate_items)
    depth: dict[str, int] = {}

    def find(site: str) -> int:
        if site not in depth:
            depth[site] = 1 + max((find(p) for p in parents[site] if p != site), default=-1)
        return depth[site]

    sites = sorted(parents, key=find)
    columns = max(COLUMNS, *Counter(depth.values()).values())  # sites of one row stand beside each other
    every: Iterable[tuple[int, ...]] = itertools.product(range(columns), repeat=len(sites))
    if columns ** len(sites) > TRIED:
        generator = np.random.default_rng(0)
        rows = [list(group) for _, group in itertools.groupby(sites, key=find)]
        # No two sites of a row in one place, which random columns seldom give.
        every = (
            tuple(int(c) for row in rows for c in generator.permutation(columns)[: len(row)]) for _ in range(TRIED)
        )
    layouts = ({s: (int(column), depth[s]) for s, column in zip(sites, placed, strict=True)} for placed in every)
    best = min(layouts, key=lambda cells: _cost(cells, parents, plates))
    left = min(x for x, _ in best.values())
    return {site: (x - left, y) for site, (x, y) in best.items()}


def _pairs(parents: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return who depends on whom: parent and site."""
    return [(parent, site) for site, each in parents.items() for parent in each if parent != site]


def _cost(
    cells: Mapping[str, Cell], parents: Mapping[str, Sequence[str]], plates: Mapping[str, Sequence[str]]
) -> float:  # fmt: skip
    cost = 100.0 * (len(cells) - len(set(cells.values())))
    for members in filter(None, plates.values()):
        inside = [cells[m] for m in members]
        (x0, x1), (y0, y1) = ((min(each), max(each)) for each in zip(*inside, strict=True))
        cost += 0.3 * (x1 - x0 + 1)
        for site, (x, y) in cells.items():
            cost += 30 * (site not in members and x0 <= x <= x1 and y0 <= y <= y1)
    for parent, site in _pairs(parents):
        (x0, y0), (x1, y1) = cells[parent], cells[site]
        cost += abs(x1 - x0) ** 1.2
        # An arrow that runs straight through another site cannot be read.
        for other, (x, y) in cells.items():
            if other not in (site, parent) and y0 < y < y1:
                cost += 10 * (abs(x0 + (x1 - x0) * (y - y0) / (y1 - y0) - x) < 0.3)
    return cost


def _box(axes: Any, label: str, inside: list[Cell], rank: int) -> None:
    pad = 0.3 - 0.07 * rank
    (x0, y0), (x1, y1) = np.min(inside, 0), np.max(inside, 0)
    left, right = x0 * STEP_X - WIDTH - pad, x1 * STEP_X + WIDTH + pad
    top, bottom = -y0 * STEP_Y + HEIGHT + pad, -y1 * STEP_Y - HEIGHT - pad - 0.16
    color, corners = f"C{rank}", "round,pad=0,rounding_size=0.1"
    sides = right - left, top - bottom
    axes.add_patch(FancyBboxPatch((left, bottom), *sides, boxstyle=corners, fill=False, ec=color, lw=1.3))
    axes.text(right - 0.08, bottom + 0.05, label, ha="right", va="bottom", fontsize=8, color=color)


def _arrow(axes: Any, start: Cell, end: Cell) -> None:
    a = np.array([start[0] * STEP_X, -start[1] * STEP_Y])
    b = np.array([end[0] * STEP_X, -end[1] * STEP_Y])
    direction = b - a
    # Where the line leaves the ellipse.
    reach = direction / np.hypot(direction[0] / WIDTH, direction[1] / HEIGHT)
    style = {"arrowstyle": "-|>", "color": "black", "lw": 1}
    axes.annotate("", xy=b - reach, xytext=a + reach, arrowprops=style, zorder=2)
