"""Tables of images: IDX files, masks, noise, the data sets of images, and their settings."""

from __future__ import annotations

import gzip
import inspect
import math

import numpy as np
import pytest
import torch

import pyrozoo
from pyrozoo.command.help import help_text
from pyrozoo.core.errors import DataError, SettingError
from pyrozoo.data.images import KINDS, circle_masks, image_table, line_masks
from pyrozoo.data.images import mask_images as mask_images_with
from pyrozoo.data.named import mnist, read_named
from pyrozoo.data.readers.arrays import read_idx
from pyrozoo.data.table import Table
from pyrozoo.models.zip_mixture.model import ZipMixture
from pyrozoo.run import catalog
from pyrozoo.run.source import PREPARATION, prepared, read
from pyrozoo.store.inference_data import from_groups

MODEL = ZipMixture(2, 2.0, 2.0, 2.0, 2.0, 1.0)
HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])
"""Of two images of 3 x 4 pixels."""
PACKED = gzip.compress(HEADER + bytes(24), mtime=0)
"""With no time in it: contents name the tests, and two workers must collect the same names."""


USUAL = {
    name.removeprefix("mask_"): value
    for name, value in catalog.settings("data", "table").items()
    if name.startswith("mask_")
}
"""Settings of masks as conf states them."""


def mask_images(table, kinds, **settings):
    return mask_images_with(table, kinds, **{**USUAL, **settings})


def images(count: int, height: int = 28, width: int = 28) -> Table:
    """Return a table of images in which every value is another one."""
    return image_table(np.arange(count * height * width).reshape(count, height, width), "images")


# IDX files


@pytest.mark.parametrize("packed", [False, True])
def test_idx_is_read_plain_and_compressed(tmp_path, packed):
    path = tmp_path / "images"
    content = HEADER + bytes(range(24))
    path.write_bytes(gzip.compress(content) if packed else content)
    array = read_idx(path)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not an IDX file"),
        (b"\x89PNG, not IDX", "is not an IDX file"),
        (bytes([0, 0, 8, 0]), "is not an IDX file"),
        (bytes([0, 0, 13]) + HEADER[3:] + bytes(96), "type 13"),
        (HEADER[:10], "header is incomplete"),
        (HEADER + bytes(23), "truncated: 23 bytes of values where its header states 24"),
        (HEADER + bytes(25), "longer than it should be"),
        (PACKED[:-9], "gzip"),
        (PACKED[:5], "gzip"),
        (PACKED[:10] + b"\xff" * 30, "gzip"),
        (gzip.compress(HEADER + bytes(23), mtime=0), "truncated"),
    ],
)
def test_bad_idx_is_named_in_one_line(tmp_path, content, says):
    path = tmp_path / "digits-idx3"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path)
    assert "digits-idx3" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_idx_file_is_named(tmp_path):
    with pytest.raises(DataError, match="no file"):
        read_idx(tmp_path / "absent.gz")


# Tables of images


def test_image_tables_have_labels_and_a_shape():
    table = images(3, 2, 4)
    assert table.image_shape == (2, 4)
    assert list(table.row_labels) == ["image_0", "image_1", "image_2"]
    assert table.column_labels[:5] == ["pixel_0_0", "pixel_0_1", "pixel_0_2", "pixel_0_3", "pixel_1_0"]
    assert table.values[1, 4] == 12
    with pytest.raises(DataError, match="three axes"):
        image_table(np.ones((3, 4)), "labels")


def test_the_shape_stays_with_the_table():
    table = images(6, 2, 4).with_test(Table.of(np.ones((2, 8)))).hold_out(0.2, 0)
    for each in (
        table,
        table.test,
        table.first(2),
        table.batch(torch.tensor([1, 3])),
        table.to("cpu", torch.float32),
        table.to("cpu", torch.float32).test,
        Table.of(table),
    ):
        assert each.image_shape == (2, 4)


@pytest.mark.parametrize("shape", [(3, 3), (8, 2)])
def test_columns_must_be_the_pixels(shape):
    with pytest.raises(DataError, match="need"):
        Table.of(np.ones((2, 8))).with_image_shape(shape)


# Masks


@pytest.mark.parametrize(("height", "width"), [(5, 5), (4, 7)])
def test_lines_run_through_the_middle(height, width):
    angles = np.array([0.0, 0.4, math.pi / 2, 2.5])
    masks = line_masks((height, width), angles, 1.2)
    for n, angle in enumerate(angles):
        for i in range(height):
            for j in range(width):
                point = np.array([j - (width - 1) / 2, i - (height - 1) / 2])
                along = np.array([math.cos(angle), math.sin(angle)])
                distance = np.linalg.norm(point - (point @ along) * along)
                assert masks[n, i * width + j] == (distance < 1.2)
    np.testing.assert_array_equal(masks, masks[:, ::-1])  # turned by half a turn
    assert masks[0].reshape(height, width).all(1).any(), "at angle 0 the line is horizontal"


def test_circles_are_where_and_as_large_as_they_say():
    height, width = 5, 7
    centres, radii = np.array([[2.0, 3.0], [0.3, 6.2], [-4.0, 1.0], [1.5, 2.0]]), np.array([1.6, 2.4, 3.0, 0.1])
    masks = circle_masks((height, width), centres, radii)
    for n in range(4):
        for i in range(height):
            for j in range(width):
                inside = math.dist((i, j), centres[n]) < radii[n]
                assert masks[n, i * width + j] == inside
    assert masks.sum(1).tolist() == [9, masks[1].sum(), 0, 0]


def test_every_image_gets_one_kind_and_the_kinds_an_even_share():
    count = 3000
    table = images(count)
    masked = mask_images(table, KINDS, seed=0)
    assert 1 - masked.observed.double().mean() == pytest.approx(0.102, abs=0.004)
    holes = ~masked.observed.numpy()
    # Lines alone look the same after half a turn; so does an image without a hole, but lines go through the middle.
    is_line = (holes == holes[:, ::-1]).all(1) & holes[:, 13 * 28 + 13]
    share = holes.mean(1)
    assert is_line.sum() == pytest.approx(count / 3, abs=5)
    assert share[is_line].mean() == pytest.approx(0.1595, abs=0.002)
    for kind, expected in {"line": 0.1595, "circle": 0.0489, "speckle": 0.1}.items():
        alone = mask_images(table, [kind], seed=1)
        assert 1 - alone.observed.double().mean() == pytest.approx(expected, abs=0.003), kind


def test_kinds_are_shuffled_over_the_images():
    masked = mask_images(images(3001, 4, 4), ["line", "speckle"], seed=3, speckle=0.0)
    lines = (~masked.observed).any(1).numpy()
    assert lines.sum() in (1500, 1501)
    runs = 1 + (lines[1:] != lines[:-1]).sum()
    assert runs == pytest.approx(1500, abs=150), "neither in blocks nor in turn"


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_values_are_the_originals_and_a_seed_repeats_them(kind):
    table = images(40, 8, 8)
    masked, again, other = (mask_images(table, [kind], seed=seed) for seed in (5, 5, 6))
    hidden = masked.hidden
    assert torch.isnan(masked.values[hidden.rows, hidden.columns]).all()
    assert len(hidden.values) == (~masked.observed).sum()
    restored = masked.values.clone()
    restored[hidden.rows, hidden.columns] = hidden.values
    assert torch.equal(restored, table.values)
    assert torch.equal(masked.observed, again.observed)
    assert not torch.equal(masked.observed, other.observed)


def test_blocks_do_not_change_the_masks(monkeypatch):
    whole = mask_images(images(50, 6, 6), KINDS, seed=2)
    monkeypatch.setattr("pyrozoo.data.images.BLOCK", 7)
    assert torch.equal(whole.observed, mask_images(images(50, 6, 6), KINDS, seed=2).observed)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_column_keeps_a_value(count):
    values = images(count, 6, 6).values.clone()
    values[0, 3] = torch.nan
    table = Table(values, range(count), range(36), image_shape=(6, 6))
    all_of_it = {"speckle": {"speckle": 0.99}, "line": {"line_distance": 50}, "circle": {"circle_radius": (50, 1, 1)}}
    for kind, settings in all_of_it.items():
        masked = mask_images(table, [kind], seed=0, **settings)
        assert torch.equal(masked.observed.any(0), table.observed.any(0))
        if kind != "speckle":
            assert (masked.observed.sum(0) == table.observed.any(0)).all(), "all but one are masked"


def test_masks_and_hold_out_add_to_what_is_hidden():
    table = images(30, 6, 6)
    values = table.values.clone()
    values[:, 7] = torch.where(torch.arange(30) % 2 == 0, torch.nan, values[:, 7])
    lossy = Table(values, table.row_labels, table.column_labels, image_shape=(6, 6))
    first = lossy.hold_out(0.2, 1)
    both = mask_images(first, KINDS, seed=1).hold_out(0.1, 2)
    hidden = both.hidden
    cells = hidden.rows * 36 + hidden.columns
    assert torch.equal(cells, cells.unique()), "in order, each once"
    assert set((first.hidden.rows * 36 + first.hidden.columns).tolist()) < set(cells.tolist())
    assert torch.equal(values[hidden.rows, hidden.columns], hidden.values)
    assert torch.equal(both.observed.sum() + len(cells), lossy.observed.sum())
    assert both.missing is not None
    assert len(both.missing.hidden.rows) == 15, "what was never known is not among the hidden"
    assert both.missing is both.missing


# Noise


def test_noise_is_on_the_observed_values_only():
    values = torch.zeros(400, 100, dtype=torch.float64)
    values[:, 5] = torch.nan
    values[0, 5] = 1.0
    table = Table(values, range(400), range(100)).hold_out(0.1, 0)
    noisy = table.with_noise(3.0, seed=4)
    assert torch.equal(noisy.observed, table.observed)
    assert torch.equal(noisy.hidden.values, table.hidden.values)
    difference = (noisy.values - table.values)[table.observed]
    assert difference.std() == pytest.approx(3, rel=0.03)
    assert difference.mean() == pytest.approx(0, abs=0.1)
    assert torch.equal(noisy.filled, table.with_noise(3.0, seed=4).filled)
    assert not torch.equal(noisy.filled, table.with_noise(3.0, seed=5).filled)


# Settings


def test_data_are_checked_then_noisy_then_masked_then_held_out():
    counts = np.random.default_rng(0).poisson(3.0, (60, 36)).astype(float)
    asked = {"image_shape": [6, 6], "noise": 0.5, "masks": ["line", "circle"], "holdout": 0.1, "seed": 3}
    data = prepared(Table.of(counts), MODEL, **{**PREPARATION, **asked})
    expected = Table.of(counts).with_image_shape([6, 6]).with_noise(0.5, 3)
    expected = mask_images(expected, ["line", "circle"], seed=3).hold_out(0.1, 3)
    assert torch.equal(data.filled, expected.filled)
    assert torch.equal(data.hidden.values, expected.hidden.values)
    assert (data.hidden.values != data.hidden.values.round()).all(), "hidden values have their noise too"
    with pytest.raises(DataError, match="negative"):
        prepared(Table.of(-counts), MODEL, **PREPARATION)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"masks": ["lines"]}, r"data\.masks has no kind 'lines'; did you mean 'line'\?"),
        ({"masks": [3]}, r"data\.masks"),
        ({"masks": []}, r"data\.masks is empty"),
        ({"masks": "line"}, r"data\.masks is 'line'; it must be a list or null"),
        ({"masks": ["line"], "image_shape": None}, r"data\.masks needs images; set data\.image_shape"),
        ({"image_shape": [6]}, r"data\.image_shape"),
        ({"image_shape": [6.0, 6.0]}, r"data\.image_shape"),
        ({"image_shape": [-6, -6]}, r"data\.image_shape"),
        ({"image_shape": 36}, r"data\.image_shape"),
        ({"noise": -1.0}, r"data\.noise is -1"),
        ({"noise": "loud"}, r"data\.noise"),
        ({"masks": ["line"], "mask_line_distance": 0}, r"data\.mask_line_distance is 0; it must be positive"),
        ({"masks": ["line"], "mask_line_distance": None}, r"data\.mask_line_distance"),
        ({"masks": ["circle"], "mask_circle_spread": -0.1}, r"data\.mask_circle_spread"),
        ({"masks": ["circle"], "mask_circle_radius": [0.1, 3.5]}, r"data\.mask_circle_radius"),
        ({"masks": ["circle"], "mask_circle_radius": [0.1, 3.5, 0]}, r"data\.mask_circle_radius"),
        ({"masks": ["circle"], "mask_circle_radius": [0.1, "x", 1]}, r"data\.mask_circle_radius"),
        ({"masks": ["speckle"], "mask_speckle": 1.0}, r"data\.mask_speckle is 1"),
    ],
)
def test_bad_settings_are_named_in_one_line(asked, says):
    settings = {"source": "given", **PREPARATION, "image_shape": [6, 6], **asked}
    with pytest.raises(SettingError, match=says) as caught:
        read(settings, MODEL, given=np.ones((4, 36)))
    assert "\n" not in str(caught.value)


def test_what_preparation_needs_is_stated_once_in_conf():
    assert {"data", "model", "listed", *PREPARATION} == set(inspect.signature(prepared).parameters)
    plain, mnist_settings, digits = (catalog.settings("data", name) for name in ("table", "mnist", "digits"))
    for name in set(PREPARATION) - {"validation"}:  # which is for ratings
        assert name in mnist_settings
        assert name in digits
        if name not in ("image_shape", "holdout", "holdout_of"):  # what a file is asked for depends on what it holds
            assert mnist_settings[name] == plain[name]
    scale = 8 / 28
    assert digits["mask_line_distance"] == pytest.approx(plain["mask_line_distance"] * scale)
    assert digits["mask_circle_spread"] == pytest.approx(plain["mask_circle_spread"] * scale)
    offset, shape, rate = plain["mask_circle_radius"]
    assert digits["mask_circle_radius"] == pytest.approx([offset * scale, shape, rate / scale])
    assert rate == pytest.approx(7 / 6)


def test_a_table_file_can_hold_images(tmp_path):
    path = tmp_path / "images.csv"
    path.write_text("\n".join(",".join("1" if i == j else "0" for j in range(16)) for i in range(16)) + "\n")
    settings = catalog.settings("data", "table") | {"path": str(path), "image_shape": [4, 4], "masks": ["speckle"]}
    data = read(settings, MODEL)
    assert data.image_shape == (4, 4)
    assert len(data.hidden.values)


def test_a_fit_keeps_the_images_and_gives_them_back(tmp_path):
    counts = np.random.default_rng(1).poisson(2.0, (30, 16))
    fit = pyrozoo.fit(
        "zip_mixture", "em", data=counts, test=counts[:2], num_components=2, restarts=2, progress=False,
        image_shape=(4, 4), masks=["line"], mask_line_distance=0.6, holdout=0.1,
    )  # fmt: skip
    assert fit.data.image_shape == (4, 4)
    back = from_groups(fit.groups, fit.model).data
    assert (back.image_shape, back.test.image_shape) == ((4, 4), (4, 4))
    assert torch.equal(back.hidden.values, fit.data.hidden.values)
    assert torch.equal(back.hidden.rows, fit.data.hidden.rows)
    loaded = pyrozoo.load(fit.save(tmp_path / "run"))
    assert loaded.data.image_shape == (4, 4)
    assert loaded.settings["data"]["masks"] == ["line"]


# The data sets


def test_digits_need_no_download(monkeypatch):
    monkeypatch.delenv("PYROZOO_DATA", raising=False)
    monkeypatch.setattr("pooch.retrieve", None)
    settings = catalog.settings("data", "digits")
    table = read(settings, MODEL)
    assert (table.shape, table.image_shape, table.hidden) == ((1797, 64), (8, 8), None)
    assert table.values.sum() == 561718
    assert (table.row_labels[1], table.column_labels[19]) == ("image_1", "pixel_2_3")
    masked = read(settings | {"masks": list(KINDS)}, MODEL)
    assert 1 - masked.observed.double().mean() == pytest.approx(0.102, abs=0.008)


def test_mnist_from_the_folder(need):
    need("mnist")
    table = read(catalog.settings("data", "mnist") | {"images": 1000}, MODEL)
    assert (table.shape, table.image_shape, table.hidden) == ((1000, 784), (28, 28), None)
    assert (table.values.min(), table.values.max()) == (0, 255)
    assert (table.row_labels[-1], table.column_labels[3 * 28 + 17]) == ("image_999", "pixel_3_17")
    assert table.values[0, 5 * 28 + 12 : 5 * 28 + 16].tolist() == [3, 18, 18, 18]  # the first image is a 5


def test_mnist_files_of_either_kind_give_the_same(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=array, labels=np.arange(5))
    header = bytes([0, 0, 8, 3]) + np.array(array.shape, ">u4").tobytes()
    (tmp_path / "few.gz").write_bytes(gzip.compress(header + array.tobytes()))
    for name in ("few.npz", "few.gz"):
        table = mnist(tmp_path / name, images=4)
        np.testing.assert_array_equal(table.values, array[:4].reshape(4, -1))
        assert mnist(tmp_path / name, images=None).shape == (5, 784)
        with pytest.raises(DataError, match=f"{name} holds 5 images; data.images asks for 6"):
            mnist(tmp_path / name, images=6)
        with pytest.raises(SettingError, match=r"data\.images is 0"):
            mnist(tmp_path / name, images=0)


def test_settings_of_a_data_set_have_types():
    with pytest.raises(SettingError, match=r"data\.images is 'all'; it must be a whole number or null"):
        read_named(catalog.settings("data", "mnist") | {"images": "all"})


def test_the_data_sets_are_listed():
    assert {"mnist", "digits", "zip_mixture_course"} <= set(catalog.datasets())
    assert not {"table", "simulated"} & set(catalog.datasets())
    listed = " ".join(help_text().split())
    assert "mnist MNIST training images" in listed
    assert "digits 1797 handwritten digits" in listed
