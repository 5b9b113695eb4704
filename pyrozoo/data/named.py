"""Named data sets: conf/data/<name>.yaml states file, checksum, address and terms; here they are found and parsed."""

from __future__ import annotations

import hashlib
import inspect
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pooch
import pyarrow.compute as pc
import torch

from pyrozoo.core.errors import DataError, SettingError, first_line
from pyrozoo.core.settings import check_types, suggestion
from pyrozoo.data.contained import contained
from pyrozoo.data.container import Data, Hidden, labels
from pyrozoo.data.documents import Documents
from pyrozoo.data.grid import Grid, pattern
from pyrozoo.data.images import image_table
from pyrozoo.data.ratings import Ratings
from pyrozoo.data.readers.arrays import read_idx, read_numpy
from pyrozoo.data.readers.formats import open_raw
from pyrozoo.data.readers.layout import Layout, Wanted
from pyrozoo.data.readers.reading import Reading
from pyrozoo.data.readers.source import read_raw, read_source
from pyrozoo.data.responses import Responses
from pyrozoo.data.survey import Survey
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets

FOLDER_VARIABLE = "PYROZOO_DATA"
"""The environment variable that names a folder to search before downloading."""


def locate(entry: Mapping[str, Any]) -> Path:
    """Find the file of a data set: in the folder ``PYROZOO_DATA`` names, else in the cache, else at its address.

    Args:
        entry: The settings of conf/data/<name>.yaml: file, sha256, url (or null), source_page, terms, and where there
            are any ``alternatives``: other files (name -> SHA-256) that serve when the folder holds them.

    Returns:
        The path of a file with the stated checksum.

    Raises:
        DataError: Not found and not downloadable, or another checksum.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        for name, sha256 in {entry["file"]: entry["sha256"], **entry.get("alternatives", {})}.items():
            local = Path(folder) / name
            if local.is_file():
                digest = hashlib.sha256(local.read_bytes()).hexdigest()
                if digest != sha256:
                    raise DataError(f"{name} in {FOLDER_VARIABLE} has SHA-256 {digest}, not {sha256}")
                return local
    if not entry.get("url"):
        where = f"{entry['source_page']} (terms: {entry['terms']})"
        raise DataError(
            f"{entry['file']} cannot be downloaded; get it from {where} and set {FOLDER_VARIABLE} to its folder"
        )
    try:
        # One file under a fixed name: nothing is unpacked, so nothing can be written outside the cache.
        fetched = pooch.retrieve(
            entry["url"], known_hash=f"sha256:{entry['sha256']}", fname=Path(entry["file"]).name,
            path=pooch.os_cache("pyrozoo"), progressbar=False,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        cure = f"put it into a folder and set {FOLDER_VARIABLE} to it"
        failed = f"{entry['file']} could not be downloaded from {entry['url']} ({first_line(error)})"
        raise DataError(f"{failed}; {cure}") from None
    return Path(fetched)


def read_named(entry: Mapping[str, Any]) -> Data:
    """Locate a named data set, if it is a file at all, and parse it as its own settings say.

    Raises:
        DataError: It cannot be found or read.
        SettingError: A setting of its own is out of range.
    """
    parser = PARSERS[entry["parser"]]
    own = {key: value for key, value in entry.items() if key in inspect.signature(parser).parameters}
    check_types(parser, own, "data")
    return parser(*([locate(entry)] if "file" in entry else []), **own).checked()


def zip_mixture_course(path: Path) -> Table:
    """Parse the course's count matrix: ``X_ND`` to fit; test rows with columns 3..9 shown and 0..2 to complete."""
    with np.load(path, allow_pickle=False) as arrays:
        shown, missing = arrays["Y_MD_obs"].astype(float), arrays["Y_MD_miss"].astype(float)
        train = Table.of(arrays["X_ND"], path.stem)
    values = np.concatenate([np.full_like(missing, np.nan), shown], 1)
    if values.shape[1] != train.shape[1]:
        raise DataError(
            f"{path.name}: test rows have {missing.shape[1]} + {shown.shape[1]} columns, not {train.shape[1]}"
        )
    rows, columns, cells = (torch.as_tensor(each.ravel()) for each in (*np.indices(missing.shape), missing))
    names = labels("test_row", len(values)), train.column_labels, f"{path.stem} test rows"
    return replace(train, test=Table(torch.as_tensor(values), *names, hidden=Hidden(rows, columns, cells)))


def mnist(path: Path, images: int | None) -> Table:
    """Parse MNIST images, values 0..255, from their IDX file or an .npz with ``images``: the first ones, or all."""
    _check_count("images", images)
    array = read_numpy(path, "images") if path.suffix == ".npz" else read_idx(path)
    return image_table(_first(path, "images", images, array), path.name)


def _check_count(what: str, count: int | None) -> None:
    if count is not None and count < 1:
        raise SettingError(f"data.{what} is {count}; it must be at least 1, or null")


def _first(path: Path, what: str, count: int | None, array: np.ndarray) -> np.ndarray:
    if count is not None and count > len(array):
        raise DataError(f"{path.name} holds {len(array)} {what}; data.{what} asks for {count}")
    return array[:count]


def digits() -> Table:
    """Return the digits that scikit-learn carries: 1797 images of 8 x 8 pixels, values 0..16."""
    from sklearn.datasets import load_digits  # of all data only these need it

    return image_table(load_digits().images, "digits")


def china(step: int) -> Table:
    """Return every so many-th pixel of a photograph that scikit-learn carries: red, green and blue, 0..255.

    Rows are pixels, line by line, named ``line,place`` in the whole picture, which is 427 by 640.
    """
    from sklearn.datasets import load_sample_image

    _check_count("step", step)
    picture = load_sample_image("china.jpg")[::step, ::step]
    down, across, _ = picture.shape
    names = [f"{i * step},{j * step}" for i in range(down) for j in range(across)]
    return Table(torch.as_tensor(picture.reshape(-1, 3).astype(float)), names, ["red", "green", "blue"], "china")


def breast_cancer(covariates: int | list[str] | None) -> Responses:
    """Return tumours that scikit-learn carries: whether one is malignant, and 30 measurements, the first or some."""
    from sklearn.datasets import load_breast_cancer

    known: Any = load_breast_cancer(as_frame=True)
    if isinstance(covariates, list):
        for name in covariates:
            if name not in known.data:
                raise SettingError(f"data.covariates: there is no {name!r}; {suggestion(name, list(known.data))}")
        chosen = known.data[covariates]
    else:
        _check_count("covariates", covariates)
        chosen = known.data.iloc[:, :covariates]
    frame = chosen.assign(diagnosis=pd.Categorical(np.where(known.target, "benign", "malignant")))
    return replace(Responses.of(frame, "breast_cancer"), row_labels=labels("tumour", len(frame)))


def lastfm(path: Path) -> Triplets:
    """Parse plays of artists by listeners: UserID, ItemID, Artist, Count.

    One label has swallowed thousands of lines of the original through an unbalanced quote: labels end at the first tab
    or line break. Some artists are spelled in several ways: an item is called by its most played spelling.
    """
    raw = open_raw(path, Layout())
    if list(raw.head or ()) != ["UserID", "ItemID", "Artist", "Count"]:
        found = ", ".join(map(repr, (raw.head or ())[:20]))
        raise DataError(f"{path.name} has the columns {found}, not UserID, ItemID, Artist, Count")
    users, items, artists, counts = raw.columns
    spelled = pc.utf8_trim_whitespace(pc.replace_substring_regex(artists, r"(?s)[\t\n\r].*", ""))
    layout = Layout(layout="list", row="UserID", column="ItemID", value="Count", column_label="Artist")
    reading = read_raw(replace(raw, columns=[users, items, spelled, counts]), layout, Wanted("counts", listed=True))
    return replace(contained(reading, Triplets), name=path.stem, notes=())


JESTER_UNKNOWN = 99.0
"""What stands for no rating in the data sets of Jester."""


def jester(path: Path, readers: int | None = None) -> Ratings:
    """Parse ratings of 100 jokes in [-10, 10], of the first readers or of all.

    One line per reader: how many jokes it rated, then every rating, 99 where there is none.
    """
    _check_count("readers", readers)
    try:
        frame = pd.read_csv(path, header=None, compression="zip", dtype=np.float64)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path.name} is not a zip archive of one CSV file ({str(error).splitlines()[0]})") from None
    values = frame.to_numpy()
    if values.shape[1] != 101:
        raise DataError(f"{path.name} has {values.shape[1]} columns, not 101: a count and 100 ratings")
    if np.isnan(values).any():
        raise DataError(f"{path.name}: line {int(np.isnan(values).any(1).argmax()) + 1} is incomplete")
    ratings = np.where(values[:, 1:] == JESTER_UNKNOWN, np.nan, values[:, 1:])
    if (wrong := values[:, 0] != (~np.isnan(ratings)).sum(1)).any():
        raise DataError(f"{path.name}: line {int(wrong.argmax()) + 1} does not hold as many ratings as it says")
    if not np.nanmax(np.abs(ratings), initial=0.0) <= 10:
        raise DataError(f"{path.name} holds ratings outside [-10, 10]")
    ratings = _first(path, "readers", readers, ratings)
    names = labels("reader", len(ratings)), labels("joke", 100)
    return Ratings.of(Table(torch.as_tensor(ratings), *names, "jester"))


def label_image(path: Path) -> Grid:
    """Parse an image of labels, or with one plane per label, from an .npy file."""
    return Grid.of(read_numpy(path, None), path.stem)


def _survey(path: Path, layout: Layout) -> Reading:
    return read_source(path, layout, Wanted("categories"))


TRAITS = ("MORAL", "CARES", "KNOW", "LEAD", "DISHON", "INTEL")
"""What the American National Election Study of 2000 asked of both candidates; the last letter says of whom."""

CANDIDATES = ("G", "B")
"""Gore and Bush."""


def election(path: Path) -> Survey:
    """Parse twelve answers of 1785 voters: how well a trait describes a candidate, extremely to not at all."""
    items = [f"{trait}{candidate}" for candidate in CANDIDATES for trait in TRAITS]
    return replace(contained(_survey(path, Layout(columns=items)), Survey), name="election", notes=())


BILLS = (
    "handicapped_infants", "water_project", "budget_resolution", "physician_fee_freeze", "el_salvador_aid",
    "religious_groups_in_schools", "anti_satellite_test_ban", "nicaraguan_contras_aid", "mx_missile", "immigration",
    "synfuels_cutback", "education_spending", "superfund_right_to_sue", "crime", "duty_free_exports",
    "south_africa_export_act",
)  # fmt: skip
"""What the House of Representatives voted on in 1984."""

VOTES = {"n": "no", "y": "yes"}
"""How the file spells a vote; ? is none."""


def votes(path: Path) -> Survey:
    """Parse party and sixteen votes of 435 members of the House of Representatives, yes, no or missing."""
    survey = replace(contained(_survey(path, Layout(header=False)), Survey), notes=())
    if survey.shape[1] != 1 + len(BILLS):
        raise DataError(f"{path.name} has {survey.shape[1]} columns, not {1 + len(BILLS)}: party and votes")
    party, *found = survey.levels
    for bill, each in zip(BILLS, found, strict=True):
        for level in each:
            if level not in VOTES:
                raise DataError(f"{path.name}: {bill} has a vote {level!r}, which is none of {', '.join(VOTES)}")
    levels = [party, *([VOTES[level] for level in each] for each in found)]
    return replace(survey, column_labels=["party", *BILLS], levels=levels, name="votes")


def documents_npz(path: Path) -> Documents:
    """Parse documents in compressed rows: start, word, count, vocabulary, and whatever else has a value for each."""
    with np.load(path, allow_pickle=False) as arrays:
        return Documents.of_arrays({name: arrays[name] for name in arrays.files}, path.stem)


_KNOWN = (
    documents_npz,
    zip_mixture_course,
    mnist,
    digits,
    china,
    breast_cancer,
    lastfm,
    jester,
    label_image,
    pattern,
    election,
    votes,
)
PARSERS: dict[str, Callable[..., Data]] = {parser.__name__: parser for parser in _KNOWN}
