"""Files read into containers, as a command does it."""

from __future__ import annotations

from typing import Any

from pyrozoo.data.contained import read_data
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets


def read_table(path: Any, **settings: Any) -> Table:
    """Read a table of numbers."""
    return read_data(path, Table, layout="table", **settings)


def read_survey(path: Any, **settings: Any) -> Survey:
    """Read a table of categories."""
    return read_data(path, Survey, **settings)


def read_triplets(path: Any, **settings: Any) -> Triplets:
    """Read a list of counts."""
    return read_data(path, Triplets, layout="list", **settings)


def read_ratings(path: Any, **settings: Any) -> Ratings:
    """Read a list of ratings."""
    return read_data(path, Ratings, layout="list", **settings)
