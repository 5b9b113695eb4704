"""What posterior.nc holds: data sets by the names that ArviZ gives them. ArviZ itself takes a second to load."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5netcdf
import h5py
import numpy as np
import xarray as xr
from xarray.conventions import cf_encoder, encode_dataset_coordinates

from pyrozoo.core.draws import evenly

if TYPE_CHECKING:
    import arviz as az

DRAWN = ("chain", "draw")
"""The first dimensions of what is drawn."""


class Groups(MutableMapping[str, xr.Dataset]):
    """Data sets by name, with attributes of them all; those of a file are read when they are asked for.

    Attributes:
        attrs: Of all of them.
    """

    def __init__(self, groups: Mapping[str, xr.Dataset] | None = None, attrs: Mapping[str, Any] | None = None):
        self._groups: dict[str, xr.Dataset | Path] = dict(groups or {})
        self.attrs: dict[str, Any] = dict(attrs or {})

    @classmethod
    def read(cls, path: Path) -> Groups:
        """Return what a file holds.

        Raises:
            OSError: It cannot be read.
        """
        result = cls()
        with h5netcdf.File(path, "r") as file:
            result.attrs = {name: file.attrs[name] for name in file.attrs}
            result._groups = dict.fromkeys(file.groups, path)
        return result

    def __getitem__(self, name: str) -> xr.Dataset:
        found = self._groups[name]
        if isinstance(found, Path):
            found = xr.open_dataset(found, group=name, engine="h5netcdf")
            self._groups[name] = found
        return found

    def __setitem__(self, name: str, group: xr.Dataset) -> None:
        self._groups[name] = group

    def __delitem__(self, name: str) -> None:
        del self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def add(
        self, name: str, arrays: Mapping[str, np.ndarray], dims: Mapping[str, Sequence[str]],
        coords: Mapping[str, Any], *, drawn: bool = True,
    ) -> None:  # fmt: skip
        """Add a group; none of no arrays.

        Args:
            name: Its name.
            arrays: Name -> values, [chain, draw, ...] where they are drawn.
            dims: Name -> names of the dimensions, but for chain and draw; others are ``NAME_dim_0`` and so on.
            coords: Dimension -> labels; others are counted.
            drawn: Whether they have chains and draws.
        """
        first = DRAWN if drawn else ()
        variables: dict[str, Any] = {}
        known: dict[str, Any] = {}
        for each, array in arrays.items():
            rest = range(array.ndim - len(first))
            own = [*first, *(dims[each] if each in dims else (f"{each}_dim_{i}" for i in rest))]
            variables[each] = (own, array)
            known |= {dim: coords.get(dim, np.arange(size)) for dim, size in zip(own, array.shape, strict=True)}
        if variables:
            self[name] = xr.Dataset(variables, known)

    def inference_data(self) -> az.InferenceData:
        """Return the same as ArviZ has it."""
        import arviz as az

        groups: dict[str, Any] = dict(self)
        return az.InferenceData(attrs=self.attrs, **groups)

    def netcdf(self) -> bytes:
        """Return the same as a NetCDF file: HDF5 itself may crash on a full disk.

        It is the file that xarray writes by h5netcdf, which looks everything up anew and takes five times as long.
        """
        buffer, known = io.BytesIO(), 0
        with h5py.File(buffer, "w", track_order=True) as file:
            _note(file, self.attrs)
            for name, group in self.items():
                known += _write(group, file.create_group(name, track_order=True), known)
        return buffer.getvalue()


def _note(place: h5py.Group | h5py.Dataset, attributes: Mapping[Any, Any]) -> None:
    """Write attributes; numbers are arrays of one."""
    for name, value in attributes.items():
        place.attrs[name] = value if isinstance(value, str) else np.atleast_1d(value)


def _write(group: xr.Dataset, place: h5py.Group, known: int) -> int:
    """Write a data set as a NetCDF group.

    Every dimension is a dimension scale of HDF5: its coordinate, or an array of nothing.

    Args:
        group: The data set.
        place: The group, empty.
        known: Dimensions of the groups before.

    Returns:
        Its own dimensions.
    """
    variables, attributes = cf_encoder(*encode_dataset_coordinates(group))
    _note(place, attributes)
    sizes = {dim: size for each in variables.values() for dim, size in each.sizes.items()}
    ids = {dim: np.int32(known + i) for i, dim in enumerate(sizes)}
    for name, each in variables.items():
        _add_values(place, str(name), each)
    for dim, size in sizes.items():
        scale = place[dim] if dim in variables else place.create_dataset(dim, (size,), ">f4", track_order=True)
        scale.attrs["_Netcdf4Dimid"] = ids[dim]
        scale.make_scale(dim if dim in variables else f"This is a netCDF dimension but not a netCDF variable.{size:10}")
    for name, each in variables.items():
        if each.dims:
            place[name].attrs["_Netcdf4Coordinates"] = np.array([ids[dim] for dim in each.dims])
            place[name].attrs["_Netcdf4Dimid"] = ids[each.dims[0]]
        for i, dim in enumerate(each.dims):
            if dim != name:
                place[name].dims[i].attach_scale(place[dim])
    return len(sizes)


def _add_values(place: h5py.Group, name: str, variable: xr.Variable) -> None:
    """Write an array as xarray has encoded it; packed where that is worth it."""
    attributes, values = dict(variable.attrs), variable.to_numpy()
    how: dict[str, Any] = PACKED if variable.ndim and _shrinks(values) else {}
    if values.dtype.kind in "OU":
        values, how = values.astype(object), {"dtype": h5py.string_dtype()}
    if 0 in values.shape:
        how = {**how, "maxshape": tuple(size or None for size in values.shape)}  # of NetCDF, none has no length
    made = place.create_dataset(name, data=values, fillvalue=attributes.get("_FillValue"), track_order=True, **how)
    _note(made, attributes)


PACKED = {"compression": "gzip", "compression_opts": 1}

SAMPLE = 2**16
"""Bytes of an array that are packed to see whether the others are worth it."""


def _shrinks(values: np.ndarray) -> bool:
    """Return whether packing halves an array, as of counts: draws of real numbers it makes little smaller, and slow."""
    if values.dtype.kind not in "biuf" or not values.size:
        return False
    flat = np.ascontiguousarray(values).ravel()
    some = flat[evenly(flat.size, SAMPLE // flat.itemsize).numpy()].tobytes()
    return len(zlib.compress(some, 1)) < len(some) / 2
