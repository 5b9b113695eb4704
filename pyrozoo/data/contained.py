"""From a reading to a container: what was found in a file or a frame becomes data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch

from pyrozoo.core.errors import SettingError, shortened
from pyrozoo.data.coding import of_arrow
from pyrozoo.data.documents import Documents
from pyrozoo.data.grid import Grid
from pyrozoo.data.kinds import kinds_of
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.layout import KINDS, Wanted, layout_of
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.source import read_source, types_in
from pyrozoo.data.responses import Responses
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Repeated, Triplets

CONTAINERS: dict[str, Any] = {
    "table": Table, "survey": Survey, "responses": Responses, "triplets": Triplets, "ratings": Ratings,
    "documents": Documents, "picture": Grid,
}  # fmt: skip
"""What a file is called -> the container that it becomes."""


def wanted_by(container: Any) -> Wanted:
    """Return what a container wants of a source; another class is taken for a table."""
    return KINDS[next((kind for kind, each in CONTAINERS.items() if each is container), "table")]


def contained(reading: Reading, container: Any) -> Any:
    """Make a container of a reading.

    Args:
        reading: What was read.
        container: The class of data that the model wants.

    Returns:
        The data, with the reading's notes.

    Raises:
        DataError: Anything was wrong with what was read: all of it.
    """
    reading.checked()
    if reading.layout.response is not None and container is not Responses:
        said = f"data.response names what other columns explain; these data are {container.__name__.lower()}"
        raise SettingError(f"{said}: leave it out, or use model=logistic_regression")
    notes, name = tuple(dict.fromkeys(map(shortened, reading.notes))), reading.name
    made: Any
    if reading.image is not None:
        made = replace(Grid.of(reading.image, name), name=name)
    elif reading.entries is not None:
        its: type[Triplets] = container if issubclass(container, Triplets) else Triplets
        entries, repeated = reading.taken(), cast("Repeated | None", reading.layout.repeated)
        assert entries is not None
        made = its.of_entries(entries, name=name, repeated=repeated, dtype=reading.wanted.dtype)
    elif reading.answers is not None:
        made = _survey(reading)
    elif reading.wanted.cells == "mixed":
        made = _responses(reading)
    else:
        assert reading.values is not None
        values = torch.as_tensor(reading.values)
        made = Table(values, reading.rows, list(reading.columns), name).checked()
        if container.keys and reading.own is not None:
            own = reading.own()
            own = own if reading.lines is None else own.iloc[reading.lines]
            called = container.placed(own, name)
            made = made if called is None else replace(made, row_labels=called)
            if {*reading.left_out} <= {*container.keys}:  # they are not left out
                notes = tuple(each for each in notes if not each.startswith("columns left out"))
    made = made if type(made) is container else container.of(made)
    if reading.exposure is not None:
        made = made.with_exposure(reading.exposure)
    if reading.numbered and isinstance(made, Triplets):
        made = replace(made, numbered=True)
    return replace(made, notes=(*(each for each in notes if each not in made.notes), *made.notes))


def read_data(source: Any, container: Any = Table, dtype: str = "float64", **settings: Any) -> Any:
    """Read a file or a frame into a container: what ``contained`` makes of a reading.

    Args:
        source: A path, a DataFrame, or what is like one.
        container: The class of data.
        dtype: The precision of its numbers.
        **settings: Of the layout.
    """
    return contained(read_source(source, layout_of(settings), replace(wanted_by(container), dtype=dtype)), container)


def _survey(reading: Reading) -> Survey:
    assert reading.answers is not None
    blocks = [part for block in reading.answers for part in of_arrow(block)]
    most = reading.layout.most_levels
    made = Survey.of_blocks(blocks, reading.rows, list(reading.columns), reading.name, most)
    if reading.in_python and reading.types is not None:
        types = reading.types()
        return replace(made, kinds=kinds_of([types[place] for place in reading.places], made.levels))
    found = dict(each for block in reading.answers for each in types_in(block, reading.facts.get("decimal", ".")))
    return replace(made, kinds=kinds_of([found[place] for place in range(len(found))], made.levels, spelled=True))


def _responses(reading: Reading) -> Responses:
    """Return columns of numbers as they were read, and of text as they are spelled, in their order."""
    import pandas as pd

    places = reading.places if len(reading.places) else range(len(reading.columns))  # a list that has become a table
    parts = {} if reading.values is None else dict(zip(places, reading.values.T, strict=True))
    if reading.coded:
        assert reading.own is not None
        own = reading.own()
        own = own if reading.lines is None else own.iloc[reading.lines]
        gone = {str(each).strip() for each in reading.layout.missing or ()}
        called = {str(each).strip(): each for each in reversed(own.columns)}
        for name, at in reading.coded.items():
            spelled = own[called[name]]
            if gone:
                spelled = spelled.where(~spelled.astype(str).str.strip().isin(gone))
            parts[at] = spelled.array
    named = dict(zip(places, reading.columns, strict=True)) | {at: name for name, at in reading.coded.items()}
    order = list(places) if reading.layout.columns else []
    order += sorted({*parts} - {*order})
    index = pd.Index(list(reading.rows), dtype=object)
    frame = pd.DataFrame({at: parts[at] for at in order}, index=index, copy=False)
    layout = reading.layout
    frame.columns = pd.Index([named[at] for at in order], dtype=object)
    made = Responses.of(frame, reading.name, response=layout.response, most_levels=layout.most_levels)
    narrow_to(reading, made.response)
    return made


def narrow_to(reading: Reading, response: str) -> None:
    """Leave of a reading's columns the response: the cells of the data, which results are written to."""
    if not len(reading.places):  # a list that has become a table
        return
    places = {**dict(zip(reading.columns, reading.places, strict=True)), **reading.coded}
    found = next(at for name, at in places.items() if name.strip() == response)  # names made of blanks keep them
    reading.columns, reading.places = [response], [found]
