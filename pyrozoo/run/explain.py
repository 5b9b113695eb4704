"""``pyrozoo.explain``: where the updates of a method come from, site by site, on a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.errors import NotApplicable
from pyrozoo.report.explain import Explanation, explain_posterior
from pyrozoo.run import catalog
from pyrozoo.run.fit import as_model, configuration, known_as
from pyrozoo.run.names import model_of
from pyrozoo.run.source import read

METHODS = ("gibbs", "em", "cavi", "bp")

ROWS, COLUMNS, FIELD = 5, 3, 3
"""Of the table that numbers are traced on, where data are simulated; rows and columns of a field that messages go
round: there are few enough values of it to sum over."""


def explain(
    model: str | Model | Callable[..., Any],
    method: str,
    data: Any = None,
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    **settings: Any,
) -> Explanation:
    """Derive the updates of a method from the program, and hold the hand-built ones to them.

    Args:
        model: A model's name, the path of a file that defines one, a model, or a plain Pyro function.
        method: ``gibbs``, ``em``, ``cavi`` or ``bp``.
        data: As ``fit`` takes it: few rows, since numbers are traced. None: five rows, simulated.
        args: Arguments of a plain Pyro function.
        kwargs: Its keyword arguments.
        seed: Of the state at which numbers are traced.
        path: Where the page is written; None: nowhere.
        **settings: Fields of the model, and settings of the data.

    Returns:
        The explanation: a notebook shows its page, and printed it is a summary.

    Raises:
        NotApplicable: The model has no such method, or it is none that can be derived.
        SettingError: A setting that there is not.
    """
    model, data = as_model(model, data, args, kwargs)
    if method not in METHODS:
        raise NotApplicable(f"{method} cannot be explained: {', '.join(METHODS)} can")
    config = configuration(model, method, data, settings)
    made = model_of(config["model"]) if isinstance(model, str) else model
    known = known_as(made)
    if data is None and {"rows", "columns"} <= set(config["data"]):  # data are made, as many as are asked for
        rows, columns = (FIELD, FIELD) if method == "bp" else (ROWS, COLUMNS)
        shape = {"rows": rows, "columns": columns, "holdout": 0}
        config["data"] |= {k: v for k, v in shape.items() if k in config["data"] and k not in settings}
    posterior = Posterior.of(made, read(config["data"], made, given=data, dtype="float64"))
    solver = catalog.part(known, method).Solver(posterior) if catalog.has(known, method) else None
    found = explain_posterior(posterior, method, solver, seed)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(found.html, encoding="utf-8")
    return found
