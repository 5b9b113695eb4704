"""Files and run directories that anybody may have made: read into finite data, or refused in one line."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import pyrozoo
from benchmarks import broken_files as mutants
from benchmarks import fuzz
from pyrozoo.command import files
from pyrozoo.command.arguments import Arguments, early_problem
from pyrozoo.core.errors import DataError, UserError
from pyrozoo.data.contained import CONTAINERS, read_data
from pyrozoo.data.grid import Grid
from pyrozoo.data.readers import guard
from pyrozoo.data.readers.words import bare
from pyrozoo.data.responses import Responses
from pyrozoo.data.table import Table
from pyrozoo.data.triplets import Triplets
from pyrozoo.inference.loop import read_checkpoint
from pyrozoo.store.run_directory import CONFIG
from tests.case import refused
from tests.files import ods, xlsx, zipped

pytestmark = pytest.mark.usefixtures("undrawn", "unchecked", "lenient")


# Mutants --------------------------------------------------------------------------------------------------------------


def tried(numbers, folder: Path, *, directories: bool) -> dict[str, list[str]]:
    """Try mutants; return what came of them that must not."""
    found: dict[str, list[str]] = {}
    for number in numbers:
        if (mutants.kind_of(number) == "directory") is directories:
            kind, outcome, why = fuzz.attempt(number, 0, folder)
            if outcome not in ("read", "fitted", "refused", "fit refused"):
                found.setdefault(f"{kind} {outcome}", []).append(f"{number}: {why}")
    return found


def test_mutants_of_every_format(tmp_path):
    assert tried(range(160), tmp_path, directories=False) == {}


def test_mutants_of_run_directories(tmp_path, monkeypatch):
    monkeypatch.setenv("PYROZOO_SECRET", "a-secret-of-the-environment")
    assert tried(range(260), tmp_path, directories=True) == {}


@pytest.mark.slow
def test_many_mutants(tmp_path):
    counts = fuzz.campaign(20_000, 1, tmp_path)
    assert sum(counts.values()) == 20_000
    assert {name.partition(": ")[2] for name in counts} <= {"read", "fitted", "refused", "fit refused"}


# What mutants have found ----------------------------------------------------------------------------------------------


def said(path: Path, container=Table, **settings) -> str:
    return refused(DataError, read_data, path, container, **settings)


def outcome(function, *arguments, **named) -> tuple[object, str]:
    """Return what a call gives, or the line with which it is refused."""
    try:
        return function(*arguments, **named), ""
    except UserError as error:
        return None, str(error)


def test_nested_columns_are_named(tmp_path):
    pq.write_table(pa.table({"a": [{"x": 1}], "b": [[1]], "c": [1]}), tmp_path / "x.parquet")
    assert "column 'a' holds lists or other objects" in said(tmp_path / "x.parquet")
    assert read_data(tmp_path / "x.parquet", Table, exclude=["a", "b"]).values.tolist() == [[1]]


@pytest.mark.parametrize("index", [b"3", b"null", b'{"x": 1}', b"[" * 5000, b"[3, [4]]"])
def test_what_a_file_says_of_its_index_may_be_anything(tmp_path, index):
    table = pa.table({"a": [1, 2], "b": [3, 4]})
    pq.write_table(table.replace_schema_metadata({b"pandas": b'{"index_columns": ' + index + b"}"}), tmp_path / "x.pq")
    assert read_data(tmp_path / "x.pq", Table).values.tolist() == [[1, 3], [2, 4]]


def test_times_and_numbers_that_python_has_not(tmp_path):
    ids = [2**63 + 5, 2**63 + 6, 2**63 + 5]
    pq.write_table(pa.table({"user": pa.array(ids, pa.uint64()), "item": ["x", "y", "y"], "rating": [1, 2, 3]}),
                   tmp_path / "list.parquet")  # fmt: skip
    assert list(read_data(tmp_path / "list.parquet", Triplets).row_labels) == sorted(map(str, {*ids}))
    pq.write_table(pa.table({"t": pa.array([2**62], pa.timestamp("us")), "n": [1]}), tmp_path / "far.parquet")
    assert "column 't' holds times beyond the years 1 to 9999" in said(tmp_path / "far.parquet")
    pd.DataFrame({"a": [1.0, 1e250], "b": [1.0, 2.0]}).to_csv(tmp_path / "large.csv", index=False)
    assert "1e+250 is too large" in said(tmp_path / "large.csv")


def test_headers_of_arrays_that_are_cut_or_not_true(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.ones((3, 2)))
    content, path = buffer.getvalue(), tmp_path / "x.npy"
    for end in (6, 8, 20, 60, 100, 127, 130):
        path.write_bytes(content[:end])
        assert "x.npy" in said(path)
    path.write_bytes(content.replace(b"(3, 2)", b"(3,99999999999)").replace(b" " * 11 + b"\n", b"  \n"))
    assert said(path).startswith("x.npy is ")


@pytest.mark.parametrize(("array", "value"), [("indices", 99), ("indices", -1), ("indptr", 10**6), ("shape", 10**12)])
def test_sparse_matrices_whose_indices_lie_outside(tmp_path, array, value):
    """SciPy's compiled code would write beyond its memory."""
    path = tmp_path / "x.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csr_array(np.eye(4)))
    parts = dict(np.load(path))
    parts[array] = parts[array].astype(np.int64)
    parts[array][1] = value
    if array == "indptr":
        parts[array][-1] = 0
    np.savez(path, **parts)
    assert "x.npz" in said(path, Triplets)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("array real general\n5 9999999\n1\n2\n", "states 49999995 entries, more than its"),
        ("coordinate real general\n5 5 99999999999\n1 1 1\n", "states 99999999999 entries"),
        ("coordinate real general\n5 5\n1 1 1\n", "3 whole numbers are expected"),
        ("coordinate real general\n-5 5 1\n1 1 1\n", "3 whole numbers are expected"),
        ("array real hermitian\n5 3276\n1\n2\n", "is no square matrix"),
        ("array real general\n0 6\n1\n2\n", "the matrix is empty (0 x 6)"),
        ("coordinate real general\n99999999999 5 1\n1 1 1\n", "states 99999999999 x 5"),
    ],
)
def test_sizes_of_a_matrix_that_its_lines_cannot_hold(tmp_path, lines, message):
    (tmp_path / "x.mtx").write_text(f"%%MatrixMarket matrix {lines}")
    assert message in said(tmp_path / "x.mtx", Triplets)


def test_no_row_of_billions_of_columns(tmp_path):
    (tmp_path / "x.idx").write_bytes(b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff")
    assert "the array has no row" in said(tmp_path / "x.idx")
    np.save(tmp_path / "x.npy", np.zeros((0, 2**31, 1), np.uint8))
    assert "the array is empty" in said(tmp_path / "x.npy", CONTAINERS["picture"])


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("content", ["", "5", "1,2,3", "a,b\n1,2", '"0.9', "\n\n", "user,item,rating\na,x,3"])
def test_one_row_or_less(tmp_path, kind, content):
    (tmp_path / "x.csv").write_text(content)
    for settings in ({}, {"transpose": True}, {"layout": "list", "absent": "zero"}, {"header": False}):
        data, message = outcome(read_data, tmp_path / "x.csv", CONTAINERS[kind], **settings)
        assert "\n" not in message
        fuzz.check_data(data)


def test_a_list_of_one_row_is_fitted(tmp_path):
    (tmp_path / "x.csv").write_text("user,item,rating\na,x,3\na,y,4\na,z,1\n")
    for model, settings in (("gaussian_mf", {"num_factors": 1}), ("poisson_mf", {"num_factors": 1})):
        fit = pyrozoo.fit(model, "em", data=tmp_path / "x.csv", max_iterations=3, progress=False, **settings)
        fuzz.check_fit(fit)
        assert fit.tables


# Bombs ----------------------------------------------------------------------------------------------------------------


def workbook(row: int, column: int) -> bytes:
    book, buffer = openpyxl.Workbook(), io.BytesIO()
    book.active["A1"], book.active["A2"] = "a", 1
    book.active.cell(row, column).value = 1
    book.save(buffer)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    parts = [len(part[4:]).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def one_part(book: bytes) -> bytes:
    """Return a workbook whose sheets are all the first one."""
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rels = "xl/_rels/workbook.xml.rels"
    return zipped(parts | {rels: parts[rels].replace(b"sheet2.xml", b"sheet1.xml")})


ZEROS = bytes(2**23)

ONE = '<row r="1"><c r="A1"><v>1</v></c></row>'

SHARED = '<c t="s"><v>0</v></c>'

ODS = (
    "<table:table-row table:number-rows-repeated='{}'><table:table-cell table:number-columns-repeated='{}' "
    "office:value-type='string'><text:p>a<text:s text:c='{}'/>b</text:p></table:table-cell></table:table-row>"
)

BOMBS = {
    "x.csv.gz": (lambda: gzip.compress(b"a,b\n" + b"0,0\n" * 2**21), "unpacks to"),
    "x.csv.zip": (lambda: zipped({"x.csv": b"a,b\n" + b"0,0\n" * 2**21}), "unpacks to"),
    "x.npz": (lambda: zipped({"x.npy": ZEROS, "y.npy": ZEROS}), "unpacks to"),
    "x.xlsx": (lambda: zipped({"xl/workbook.xml": b"<x/>", "xl/sharedStrings.xml": ZEROS}), "unpacks to"),
    "far.xlsx": (lambda: workbook(700, 16_000), "delete what stands far from the table"),
    "rows.xlsx": (lambda: xlsx('<row r="99999999"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>'), "99999999"),
    "order.xlsx": (lambda: xlsx('<row r="3"><c><v>1</v></c></row><row r="2"><c><v>1</v></c></row>'), "after row 3"),
    "twice.xlsx": (lambda: xlsx('<row r="3"><c r="B3"><v>1</v></c><c r="B3"><v>2</v></c></row>'), "the cell B3 twice"),
    "wide.xlsx": (lambda: xlsx('<row><c r="XFD1"><v>1</v></c></row>' * 1000), "to row 1000 and column 16384"),
    "formula.xlsx": (lambda: xlsx(f'{ONE}<row r="9999999"><c r="A9999999"><f>1</f></c></row>'), "row 9999999"),
    "shared.xlsx": (lambda: xlsx(f"<row>{SHARED * 1000}</row>", shared="x" * 5000), "unpacks to 5000"),
    "part.xlsx": (lambda: one_part(xlsx(ONE, ONE)), "two sheets are 'xl/worksheets/sheet1.xml'"),
    "rows.ods": (lambda: ods(S=ODS.format(10**6, 1000, 1)), "to row 1000000 and column 1000"),
    "columns.ods": (lambda: ods(S=ODS.format(1, 10**9, 1)), "to row 1 and column 1000000000"),
    "back.ods": (lambda: ods(S=ODS.format(1, -5, 1) * 2 + ODS.format(-5, 1, 1) * 2), "is empty"),
    "blanks.ods": (lambda: ods(S=ODS.format(1, 1, 10**10)), "unpacks to 10000000000"),
    "x.png": (lambda: png(10_000, 9_000), "10000 x 9000 pixels"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_size(tmp_path, monkeypatch, name):
    """The limits are made smaller, and the bombs with them."""
    monkeypatch.setattr(guard, "SUSPICIOUS", 2**20)
    make, message = BOMBS[name]
    (tmp_path / name).write_bytes(make())
    tracemalloc.start()
    try:
        assert message in said(tmp_path / name, CONTAINERS["picture" if name == "x.png" else "table"])
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_data_that_pack_well_are_no_bombs(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", np.eye(300))
    assert read_data(tmp_path / "x.npz", Table).shape == (300, 300)
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"0,1\n" * 5000))
    assert read_data(tmp_path / "x.csv.gz", Table).shape == (5000, 2)


# Run directories ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    fit = pyrozoo.fit("zip_mixture", "em", rows=12, columns=3, num_components=2, restarts=2, tol=0.0, max_iterations=6,
                      directory=run, checkpoint_every=4, report="none", progress=False)  # fmt: skip
    kept = {name: (run / name).read_bytes() for name in ("checkpoint.pt", "checkpoint.log")}
    fit.save(run)
    for name, content in kept.items():
        (run / name).write_bytes(content)
    return run


@pytest.fixture
def run(whole, tmp_path):
    """A run directory of one's own, finished, with a checkpoint in it."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def changed(run: Path, **values) -> None:
    """Change settings of a run directory's configuration."""
    config = yaml.safe_load((run / CONFIG).read_text())
    for name, value in values.items():
        group, _, key = name.partition("__")
        if key:
            config[group][key] = value
        else:
            config[group] = value
    (run / CONFIG).write_text(yaml.safe_dump(config))


def test_a_directory_says_nothing_of_the_environment(run, monkeypatch):
    monkeypatch.setenv("PYROZOO_SECRET", "a-secret")
    text = "${oc.env:PYROZOO_SECRET} ${oc.decode:${oc.env:PYROZOO_SECRET}}"
    changed(run, data__missing=[text], data__columns=[text], reference=None, data__name=text)
    fit = pyrozoo.load(run)
    assert fit.settings["data"]["missing"] == [text]
    again = pyrozoo.load(fit.save(run.parent / "again"))
    assert again.settings["data"]["missing"] == [text], "as it was written, time after time"
    changed(run, model__num_components=text)
    assert "num_components" in (message := outcome(pyrozoo.resume, run)[1])
    assert "a-secret" not in message
    assert not [p for p in run.parent.rglob("*") if p.is_file() and b"a-secret" in p.read_bytes()]


def test_a_column_is_called_what_it_is_called(here):
    """Hydra would look up what is in the environment."""
    name = "${oc.env:HOME}"
    Path("x.csv").write_text(f"shop,{name},b\na,x,1\nb,x,2\nc,x,4\n")
    words = ["model=zip_mixture", "inference=em", "data=x.csv", f"data.exclude=[{files.quoted(name)}]"]
    assert early_problem(Arguments.read(words)) is None
    (typed,) = (word for word in Arguments.read(words).for_hydra() if "exclude" in word)
    value = OverridesParser.create().parse_override(typed).value()
    assert OmegaConf.to_container(OmegaConf.create({"exclude": value}), resolve=True) == {"exclude": [name]}


def test_settings_that_refer_to_each_other_are_followed(run):
    changed(run, seed="${data.seed}", data__seed=3)
    assert pyrozoo.load(run).settings["seed"] == 3
    changed(run, seed="${data.sead}")
    assert "refers to a setting that there is not" in refused(DataError, pyrozoo.load, run)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch ran']\n",
        "model: " + "[" * 5000,
        mutants.BOMB,
        "a: &a [*a]\n",
        "- 1\n",
        "1: 2\n",
        "model: {name: zip_mixture, _target_: os.system}\n",
        "model: 3\ninference: [em]\ndata: null\n",
        "\0",
    ],
)
def test_configurations_of_any_kind(run, text, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run / CONFIG).write_text(text)
    for act in (pyrozoo.load, pyrozoo.resume):
        assert "\n" not in outcome(act, run)[1]
    assert not Path("ran").exists()


@pytest.mark.parametrize("text", ["[" * 5000, "{", "[]", '{"objective": NaN}', '{"a": 1e999}', '{"status": 3}'])
def test_figures_of_any_kind(run, text):
    (run / "metrics.json").write_text(text)
    assert str(run) in refused(DataError, pyrozoo.load, run)


def test_no_link_leads_out_of_a_run_directory(run):
    outside = run.parent / "outside"
    outside.write_text("as it was")
    for name, target in (("checkpoint.log", outside), ("trace.csv", Path("/dev/zero")), ("tables", run.parent)):
        before = (run / name).read_bytes() if (run / name).is_file() else None
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
        for act in (pyrozoo.load, pyrozoo.resume):
            assert f"{name} is a link that leads out of the run directory" in refused(DataError, act, run)
        (run / name).unlink()
        if before is not None:
            (run / name).write_bytes(before)
    assert outside.read_text() == "as it was"
    os.mkfifo(run / "figures")
    assert "neither a file nor a folder" in refused(DataError, pyrozoo.load, run)


def test_no_code_that_comes_with_a_directory_is_run(run, monkeypatch):
    (run / "model.py").write_text("raise SystemError('it was run')\n")
    monkeypatch.chdir(run)
    for source in ("model.py", "./model.py", str(run / "model.py"), "../run/model.py"):
        changed(run, model__source=source)
        for act in (pyrozoo.load, pyrozoo.resume):
            assert "came with it and is not run" in refused(DataError, act, run)


class Runs:
    def __reduce__(self):
        return (exec, ("raise SystemError('it was run')",))


def test_checkpoints_of_any_kind(run):
    path = run / "checkpoint.pt"
    good = path.read_bytes()
    torch.save({"process": Runs()}, path)
    assert "not a readable checkpoint" in refused(DataError, pyrozoo.resume, run)
    changes = (
        lambda saved: saved.pop("random"), lambda saved: saved["process"].clear(),
        lambda saved: saved["journal"].update(end=-5), lambda saved: saved.update(iterations="x"),
    )  # fmt: skip
    for change in changes:
        path.write_bytes(good)
        saved = read_checkpoint(path)
        change(saved)
        torch.save(saved, path)
        assert str(path.with_suffix("")) in refused(DataError, pyrozoo.resume, run, progress=False)
    path.write_bytes(good[: len(good) // 2])
    assert "not a readable checkpoint" in refused(DataError, pyrozoo.resume, run)


def test_draws_that_are_not_finite_are_refused(run):
    import h5py

    with h5py.File(run / "posterior.nc", "r+") as file:
        file["posterior/rate"][...] = np.nan
    assert "draws of rate are not finite" in refused(DataError, pyrozoo.load, run)


def test_formulas_are_text_in_every_table(tmp_path):
    names = ["=cmd|' /C calc'!A0", "@SUM(1)", "<script>alert(1)</script>"]
    rows = [f"=row{i}" for i in range(20)]
    frame = pd.DataFrame(np.random.default_rng(0).poisson(3, (20, 3)), columns=names, index=rows)
    fit = pyrozoo.fit("zip_mixture", "em", data=frame, num_components=2, max_iterations=3, progress=False)
    directory = fit.save(tmp_path / "run")
    for path in directory.rglob("*.csv"):
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False).to_numpy().ravel()
        assert not [each for each in cells if each.startswith(("=", "@"))], path
    assert "<script>alert" not in (directory / "report.html").read_text(encoding="utf-8")
    with zipfile.ZipFile(directory / "results.xlsx") as book:
        assert not [name for name in book.namelist() if b"<f>" in book.read(name)]


def test_a_line_for_a_terminal_holds_no_commands_for_it(capsys):
    from pyrozoo.command.terminal import complain

    complain("a \x1b[31mred\x07 name" + "x" * 10_000 + " Type: data.header=true")
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert len(said) < 5000
    assert said.endswith("Type: data.header=true\n")


@pytest.mark.parametrize(
    "word", ["x" * 20_000, f"a{' ' * 20_000}b", "it's so " * 3000, 'say "so" ' * 3000], ids=range(4)
)
def test_a_long_cell_is_quoted_in_part(tmp_path, word):
    (tmp_path / "x.csv").write_text(
        pd.DataFrame({"a": [1, 2], "b": [word, word + "y"], word: [2, 3]}).to_csv(index=False)
    )
    with pytest.raises(DataError, match=r"holds text, such as ['\"]") as said:
        read_data(tmp_path / "x.csv", columns=["b"])
    assert len(str(said.value)) < 250
    with pytest.raises(DataError, match=r"data\.columns asks for column") as said:
        read_data(tmp_path / "x.csv", columns=[word, word])
    assert len(str(said.value)) < 300
    data = read_data(tmp_path / "x.csv")
    assert data.column_labels == ["a", word.strip()]
    assert all(len(note) < 500 for note in data.notes)
    assert any("'b'" in note for note in data.notes)
    (tmp_path / "y.csv").write_text(f"a,b\n1,2\n3,{'?' * 5000}\n4,5\n6,7\n")
    read = pyrozoo.read(tmp_path / "y.csv")
    assert len(read.problems[0]) > 5000
    assert len(str(read).partition("\n  type")[0]) < 1000


def test_what_is_not_long_is_said_in_full():
    plain = "the model's method is one of " + ", ".join(f"'{name}'" for name in range(99)) + ": it isn't the users' own"
    plain += f" {'word ' * 60}, nor the users' or any model's {'word ' * 60}as its 'method' says"
    for message in (plain, f"a path {'/folder' * 100}", repr("x" * 197), ""):
        assert str(DataError(message)) == message
    said = str(DataError(f"{'x' * 200 + 'end'!r} and {'y' * 9!r}"))
    assert said == f"'{'x' * 79} ... {'x' * 16}end' and 'yyyyyyyyy'"


def test_greys_whose_squares_overflow_are_refused():
    image = np.arange(2500.0).reshape(50, 50) * 1e180
    with pytest.raises(DataError, match="too large for a grey value"):
        read_data(image, Grid, colours=4)


def test_the_response_is_found_among_names_that_begin_with_a_blank(tmp_path):
    (tmp_path / "x.csv").write_text("rating\n;i0;1\n;i3;5\n;i1;1")
    assert read_data(tmp_path / "x.csv", Responses, transpose=True).response == "[i1]"


@pytest.mark.parametrize("name", [f"sales{' ' * 100_000}net", "(" * 100_000, "a (" * 30_000], ids=range(3))
def test_names_of_columns_may_be_long(tmp_path, name):
    """A pattern that begins anew at every letter would take hours."""
    (tmp_path / "x.csv").write_text(pd.DataFrame({name: [1, 2, 3], "b [kg]": [2, 3, 5]}).to_csv(index=False))
    assert read_data(tmp_path / "x.csv").column_labels == [name.strip(), "b [kg]"]
    assert read_data(tmp_path / "x.csv", columns=["b"]).column_labels == ["b [kg]"]


def test_a_name_without_its_unit():
    names = {
        "Sales [EUR]": "sales", " Sales ( EUR ) ": "sales", "a (b) c": "a (b) c", "a (b) {c}": "a", "(x)": "",
        "x": "x", "x)": "x)", "": "", "f(x) [m/s]": "f", "a]": "a]", "[a": "[a",
    }  # fmt: skip
    assert {name: bare(name) for name in names} == names


def test_blanks_between_cells_may_be_many(tmp_path):
    (tmp_path / "x.txt").write_text(f"a b\n1{' ' * 1_000_000}2   \n3 4\n")
    data = read_data(tmp_path / "x.txt", delimiter=" ")
    assert data.values.tolist() == [[1, 2], [3, 4]]
