"""Methods derived from a program against the hand-built ones of the same model: seconds of a sweep or step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.harness import Row, in_turns
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.data.simulate import simulate_data
from pyrozoo.inference.derived import cavi, em, gibbs
from pyrozoo.run import catalog

STEPS, CHAINS = 20, 4
DERIVED: Mapping[str, Any] = {"gibbs": gibbs, "em": em, "cavi": cavi}
WHOLE = {"sum_out_factors": False}
DIAGONAL = {"num_components": 3, "covariance_type": "diagonal"}
CASES: tuple[tuple[str, str, int, int, dict[str, Any], dict[str, Any]], ...] = (
    ("factor_analysis", "gibbs", 20, 5, {"num_factors": 2}, WHOLE),
    ("factor_analysis", "gibbs", 100, 10, {"num_factors": 3}, WHOLE),
    ("factor_analysis", "gibbs", 1000, 20, {"num_factors": 3}, WHOLE),
    ("factor_analysis", "cavi", 20, 5, {"num_factors": 2}, WHOLE),
    ("gaussian_mixture", "gibbs", 50, 3, DIAGONAL, {}),
    ("gaussian_mixture", "gibbs", 1000, 5, DIAGONAL, {}),
    ("gaussian_mixture", "em", 50, 3, DIAGONAL, {}),
    ("gaussian_mixture", "em", 1000, 5, DIAGONAL, {}),
    ("gaussian_mf", "gibbs", 12, 6, {"num_factors": 2}, {}),
)
"""Model, method, rows, columns, settings, and what the program keeps as sites that the hand-built solver does not."""


def stepping(solver: Any) -> Callable[[], None]:
    """Return what makes so many steps, from where the last ones ended."""
    held = [solver.init(CHAINS)]

    def steps() -> None:
        for _ in range(STEPS):
            held[0], _ = solver.step(held[0])

    return steps


def rows() -> Iterator[Row]:
    """Return a line of each case."""
    for name, method, n, columns, settings, kept in CASES:
        values = {key: value for key, value in catalog.settings("model", name).items() if key != "name"}
        built, program = (catalog.model_class(name).of({**values, **settings, **more}) for more in ({}, kept))
        data = simulate_data(built, seed=5, rows=n, columns=columns)
        derived = DERIVED[method].Solver(Posterior.of(program, data))
        ours, theirs = in_turns(
            stepping(derived), stepping(catalog.part(name, method).Solver(Posterior.of(built, data)))
        )  # fmt: skip
        task = f"{name} {method}, {n} x {columns}, {CHAINS} chains, a step derived from the program"
        yield Row(task, ours / STEPS, "hand-built", theirs / STEPS)
