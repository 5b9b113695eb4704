"""What posterior.nc holds: data sets by the names that ArviZ gives them. ArviZ itself takes a second to load."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5netcdf
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

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
        """Return the same as a NetCDF file: HDF5 itself may crash on a full disk."""
        buffer = io.BytesIO()
        with h5netcdf.File(buffer, "w") as file:
            xr.Dataset(attrs=self.attrs).dump_to_store(H5NetCDFStore(file))
            for name, group in self.items():
                packed = {str(each): PACKED for each, value in group.variables.items() if _shrinks(value.to_numpy())}
                group.dump_to_store(H5NetCDFStore(file.create_group(name)), encoding=packed)
        return buffer.getvalue()


PACKED = {"zlib": True, "complevel": 1}

SAMPLE = 2**16
"""Bytes of an array that are packed to see whether the others are worth it."""


def _shrinks(values: np.ndarray) -> bool:
    """Return whether packing halves an array, as of counts: draws of real numbers it makes little smaller, and slow."""
    if values.dtype.kind not in "biuf" or not values.size:
        return False
    flat = np.ascontiguousarray(values).ravel()
    some = flat[evenly(flat.size, SAMPLE // flat.itemsize).numpy()].tobytes()
    return len(zlib.compress(some, 1)) < len(some) / 2
