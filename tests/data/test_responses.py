"""Responses: columns of numbers and of words that explain another."""

import numpy as np
import pandas as pd
import torch

from pyrozoo.core.errors import DataError
from pyrozoo.data.readers.reading import MOST_SAID
from pyrozoo.data.responses import Responses
from tests.case import refused


def test_many_columns_of_words_are_coded_as_each_alone():
    """And their notes are few: one for each of the first, and one for all others."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{j}": generator.choice(["no", "yes", "maybe"], 12) for j in range(60)})
    frame["n"], frame["t"] = np.arange(12.0), generator.random(12) < 0.5
    frame["c"] = pd.Categorical(generator.choice(["low", "high"], 12), ["low", "high", "never"])
    frame["y"] = ["b", "a"] * 6
    found = Responses.of(frame, response="y")
    alone = [Responses.of(frame[[name, "y"]]) for name in frame if name != "y"]
    assert torch.equal(found.covariates, torch.cat([each.covariates for each in alone], 1))
    assert found.coding == tuple(each.coding[0] for each in alone)
    assert found.coding[-3:] == (("n", ()), ("t", ()), ("c", ("low", "high")))
    assert found.values[:, 0].tolist() == [1.0, 0.0] * 6
    compared = [note for note in found.notes if "compared" in note]
    assert len(compared) == MOST_SAID + 1
    assert compared[-1] == f"the categories of {61 - MOST_SAID} more columns are compared with their first"


def test_a_cell_that_is_no_category_is_named_by_its_row():
    frame = pd.DataFrame({"a": ["x", "y", [1]], "y": [0.0, 1.0, 2.0]}, index=["one", "two", "three"])
    said = refused(DataError, Responses.of, frame)
    assert said.startswith("responses: row 'three', column 'a': a value of type list")
