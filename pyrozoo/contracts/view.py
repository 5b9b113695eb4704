"""What a view is: the figures, tables and pictures that users of a model ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from pyrozoo.contracts.fit import Fit
from pyrozoo.contracts.model import beside
from pyrozoo.core.draws import Draws
from pyrozoo.core.movie import Scene
from pyrozoo.core.picture import Picture


class Tables(Mapping[str, pd.DataFrame]):
    """Tables by name, each made when it is asked for: one that fails leaves the others.

    Args:
        parts: Name -> the table, or a function that makes it.
    """

    def __init__(self, parts: Mapping[str, pd.DataFrame | Callable[[], pd.DataFrame]]):
        self.parts = dict(parts)

    def __getitem__(self, name: str) -> pd.DataFrame:
        part = self.parts[name]
        return part() if callable(part) else part

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __or__(self, other: Tables) -> Tables:
        return Tables(self.parts | other.parts)


class Pictures:
    """Pictures in order, each made when it is its turn: one that fails leaves the others.

    Args:
        *parts: Functions that make one, several or none (None), each with a name of its own.
    """

    def __init__(self, *parts: Callable[[], Picture | Sequence[Picture] | None]):
        self.parts = parts

    @staticmethod
    def made(part: Callable[[], Picture | Sequence[Picture] | None]) -> list[Picture]:
        """Return the pictures that a part makes."""
        found = part()
        return [] if found is None else [found] if isinstance(found, Picture) else list(found)

    def __iter__(self) -> Iterator[Picture]:
        for part in self.parts:
            yield from self.made(part)

    def only(self, names: Sequence[str]) -> Pictures:
        """Return the parts of some names that there are."""
        return Pictures(*(part for part in self.parts if named(part) in names))


def named(part: Callable[[], Any]) -> str:
    """Return what a part of ``Pictures`` is called, in words."""
    while isinstance(part, partial):
        part = part.func
    return getattr(part, "__name__", type(part).__name__).strip("_<>").replace("_", " ")


class View:
    """What is shown of fits of a model. A model's folder may hold a subclass in ``view.py`` that shows more.

    Attributes:
        synthesizes: Whether it can draw synthetic rows.
        most_cells: Cells up to which predictions are written out; of more there are figures and pictures only.
        rows_have_own: Whether rows have parameters of their own, so that draws say nothing of new ones.
        recommends: Whether it can ``recommend``.
        main: The tables and the pictures that a brief report has of the model's own.
        moves: The sites of which a movie shows the pair of quantities that moves most; none: of all.
    """

    main: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    synthesizes = False
    most_cells: float = math.inf
    rows_have_own = False
    recommends = False

    def metrics(self, fit: Fit) -> dict[str, float]:
        """Return the model's own figures."""
        return {}

    def responsibilities(self, fit: Fit) -> Tensor | None:
        """Return the probability of every component for every unit of a mixture, [unit, component]; of others None."""
        return None

    def tables(self, fit: Fit) -> Mapping[str, pd.DataFrame]:
        """Return what goes into tables/, name -> table: by default what was hidden, and what is missing, predicted.

        ``Tables`` makes each when it is asked for; one that raises NotApplicable is left out.
        """
        return self.predicted(fit)

    def parts(self, fit: Fit) -> list[tuple[str, str, Any]]:
        """Return the data, and new rows if draws say anything of them, with the names of what is predicted there.

        These are the name of entries whose value is known but hidden, and of those that nobody knows.
        """
        new = None if self.rows_have_own else fit.data.test
        return [("holdout", "missing", fit.data), *([] if new is None else [("completion", "test_missing", new)])]

    def hiding(self, fit: Fit) -> list[tuple[str, Any]]:
        """Return what hides entries: ``holdout``, the data, and ``completion``, new rows."""
        return [(name, part) for name, _, part in self.parts(fit) if part.hidden is not None]

    def predicted(self, fit: Fit) -> Tables:
        """Return predictions of hidden cells, and of those that nobody knows, in the data and in new rows."""
        result: dict[str, Callable[[], pd.DataFrame]] = {}

        def known(part: Any) -> pd.DataFrame:
            return part.predictions(fit.prediction(part))

        def likely(part: Any) -> pd.DataFrame:
            return known(part).drop(columns="true")

        for name, part in self.hiding(fit):
            if len(part.hidden.values) <= self.most_cells:
                result[name] = partial(known, part)
        # Cells that are missing in the user's own file: nobody knows their value, so there is a prediction only.
        for _, name, part in self.parts(fit):
            unknown = part.missing
            if unknown is not None and len(unknown.hidden.values) <= self.most_cells:
                result[name] = partial(likely, unknown)
        return Tables(result)

    def draws_of(self, fit: Fit, part: Any) -> Draws:
        """Return draws that say something of new rows: where these have parameters of their own, with those."""
        return fit.draws

    def rows(self, fit: Fit, part: Any) -> pd.DataFrame:
        """Return what the model says of each row, old or new, in columns: its cluster, or its factors, if anything."""
        return pd.DataFrame(index=range(len(part.row_labels)))

    def recommend(self, fit: Fit, draws: Draws, part: Any, rows: Sequence[int], count: int) -> pd.DataFrame:
        """Return what to recommend to some rows of ``part``, given ``draws_of`` it: row, rank, column and intervals."""
        raise NotImplementedError

    def pictures(self, fit: Fit) -> Iterable[Picture]:
        """Return the model's own pictures; ``Pictures`` makes each when it is its turn."""
        return []

    def scene(self, fit: Fit, fits: Sequence[Fit]) -> Scene | None:
        """Return what a movie of a fit shows beside the pair of quantities that moves most; None: nothing more.

        Args:
            fit: The fit.
            fits: All that play together, this one among them, so that their axes can be the same.
        """
        return None

    def compared_tables(self, fits: Sequence[Fit], names: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Return tables over several fits of the model."""
        return {}

    def compared_pictures(self, fits: Sequence[Fit], names: Sequence[str]) -> list[Picture]:
        """Return pictures over several fits of the model."""
        return []

    def synthesize(self, fit: Fit, count: int, given: Mapping[str, str] | None) -> Iterator[Tensor]:
        """Yield synthetic rows, chunk by chunk, from torch's global generator."""
        raise NotImplementedError


def numbered(name: str, values: Tensor) -> dict[str, np.ndarray]:
    """Return the columns of a matrix by name: ``factor[0]``, ``factor[1]``, ..."""
    return {f"{name}[{k}]": column for k, column in enumerate(values.cpu().numpy().T)}


def own_factors(aligned: Draws, part: Any) -> pd.DataFrame:
    """Return means and sds of row factors, and of offsets if there are any, where rows have factors of their own.

    Args:
        aligned: Draws that are turned onto each other, with the factors of these rows.
        part: The rows.
    """
    found: dict[str, np.ndarray] = {}
    for site, name in (("row_offsets", "offset"), ("row_factors", "factor")):
        if site not in aligned:
            continue
        every = aligned[site].flatten(0, 1).nan_to_num()  # of a row that lists nothing a point may say nothing
        ends = {name: every.mean(0), f"{name}_sd": every.std(0, correction=0)}
        for called, value in list(ends.items())[: min(2, len(every))]:  # a point is not unsure of its own rows
            found |= numbered(called, value) if value.ndim == 2 else {called: value.cpu().numpy()}
    return pd.DataFrame(found, index=range(len(part.row_labels)))


def ladder(
    fits: Sequence[Fit], names: Sequence[str], own: Callable[[Fit], Mapping[str, object]], columns: Sequence[str]
) -> pd.DataFrame:
    """Return a line for each fit: its name, what the model says of it, and those of its figures that any fit has."""
    rows = []
    for name, fit in zip(names, fits, strict=True):
        known = {**fit.metrics, "seconds": fit.seconds}
        rows.append({"fit": name, **own(fit), **{column: known.get(column) for column in columns}})
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def view_of(model: Any) -> View:
    """Return the view of a model: that of ``view.py`` beside it, or the default."""
    module = beside(type(model), "view")
    return View() if module is None else module.View()
