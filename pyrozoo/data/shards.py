"""Rows in shards: some rows as data of their own, data of several as one, and the posterior of a process's shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pyrozoo.contracts.model import Model
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.shards import Shards, edges_of
from pyrozoo.core.draws import evenly
from pyrozoo.core.errors import SettingError
from pyrozoo.core.world import World, shares
from pyrozoo.data.container import NAMED, Data, Hidden
from pyrozoo.data.readers.labels import joined
from pyrozoo.data.triplets import Triplets

MOST_SAMPLED = 2_000_000
"""Numbers of the rows that every process has: starting points and settings left to the data come of them."""

MOST_REPORTED = 5_000_000
"""Numbers of the rows that a report of rows in shards looks at."""

HIDDEN = ("hidden", "validation")
"""What containers keep of entries that a fit does not see."""


def some_rows(data: Any, index: Tensor) -> Any:
    """Return some rows as data of their own, with what is hidden of them.

    Args:
        data: The data.
        index: Which rows, [row], each at most once.
    """
    found = replace(data.only(index), notes=data.notes)
    beside = {name: hidden for name in HIDDEN if (hidden := getattr(data, name, None)) is not None}
    if not beside:
        return found
    place = torch.full((data.shape[0],), -1, dtype=torch.long, device=index.device)
    place[index] = torch.arange(len(index), device=index.device)
    return replace(found, **{name: _chosen_of(hidden, place, data.shape[1]) for name, hidden in beside.items()})


def _chosen_of(hidden: Hidden, place: Tensor, columns: int) -> Hidden:
    """Return those hidden entries whose row has a place, there."""
    kept = place[hidden.rows] >= 0
    order = (place[hidden.rows[kept]] * columns + hidden.columns[kept]).argsort()
    chosen = (place[hidden.rows[kept]], hidden.columns[kept], hidden.values[kept])
    of_rows, of_columns, values = (each[order] for each in chosen)
    return replace(hidden, rows=of_rows, columns=of_columns, values=values)


def together(parts: Sequence[Any]) -> Any:
    """Return the rows of several data, which have the same columns, one after another.

    Args:
        parts: The data, at least one.
    """
    first, offset = parts[0], 0
    beside: dict[str, Hidden] = {}
    values, unobserved = [], []
    for part in parts:
        listed = isinstance(part, Triplets)
        values.append(_moved(part.values, offset) if listed else part.values)
        if listed and part.unobserved is not None:
            unobserved.append(_moved(part.unobserved, offset))
        for name in HIDDEN:
            if (hidden := getattr(part, name, None)) is not None:
                moved = replace(hidden, rows=hidden.rows + offset)
                beside[name] = moved.joined(beside.get(name), first.shape[1])
        offset += part.shape[0]
    more: dict[str, Any] = (
        {"unobserved": torch.cat(unobserved) if unobserved else None} if isinstance(first, Triplets) else {}
    )
    exposure = None if first.exposure is None else torch.cat([part.exposure for part in parts])
    names = joined([part.row_labels for part in parts])
    return replace(first, values=torch.cat(values), row_labels=names, exposure=exposure, **beside, **more)


def _moved(entries: Tensor, rows: int) -> Tensor:
    moved = entries.clone()
    moved[:, 0] += rows
    return moved


def check_rows(rows: int, shards: int, world: World) -> None:
    """Raise SettingError unless every process gets a shard, and every shard two rows."""
    if shards < world.size:
        raise SettingError(f"shards is {shards}; {world.size} processes need at least as many")
    if rows < 2 * shards:
        raise SettingError(f"shards is {shards}; {rows} rows make at most {rows // 2}")


def own_rows(rows: int, shards: int, world: World) -> list[range]:
    """Return the rows of each shard of this process."""
    edges, share = edges_of(rows, shards), shares(shards, world.size)[world.rank]
    return [range(edges[shard], edges[shard + 1]) for shard in share]


def split(posterior: Posterior, shards: int, world: World) -> Posterior:
    """Return the posterior of the same rows in shards, of which this process keeps its own.

    Raises:
        SettingError: Fewer shards than processes, or more than pairs of rows.
    """
    rows, data = posterior.rows, posterior.data
    check_rows(rows, shards, world)
    device = data.values.device
    parts = [
        some_rows(data, torch.arange(each.start, each.stop, device=device)) for each in own_rows(rows, shards, world)
    ]
    found = in_shards(posterior.model, parts, rows, shards, world)
    assert found.shards is not None
    vars(found.shards.seen)["data"] = replace(found.shards.seen.data, test=data.test)
    return found


def in_shards(model: Model, parts: Sequence[Data], rows: int, shards: int, world: World) -> Posterior:
    """Return the posterior of rows in shards.

    Args:
        model: The model.
        parts: The rows of each shard of this process (``own_rows``), in order, hidden entries hidden.
        rows: How many there are in all.
        shards: How many shards.
        world: The processes.

    Returns:
        The posterior of an even choice of rows, the same in every process, that knows its shards.
    """
    parts = _alike(parts, world)
    numbers = sum(world.gathered(sum(part.numbers for part in parts)))
    chosen = chosen_rows(rows, numbers, MOST_SAMPLED)
    mine = [replace(some, hidden=None, test=None) for some in _chosen(parts, own_rows(rows, shards, world), chosen)]
    sample = together([part for theirs in world.gathered(mine) for part in theirs])
    notes = _noted([said for theirs in world.gathered([part.notes for part in parts]) for said in theirs])
    posterior = Posterior.of(model, replace(sample, notes=notes))
    chosen, places = chosen_rows(rows, numbers, MOST_REPORTED), own_rows(rows, shards, world)
    seen = together([part for theirs in world.gathered(_chosen(parts, places, chosen)) for part in theirs])
    reported = tuple(chosen[(chosen >= place.start) & (chosen < place.stop)] - place.start for place in places)
    own = tuple(posterior.of_shard(part) for part in parts)
    posterior.shards = Shards(world, shards, rows, own, reported, posterior.on(seen))
    return posterior


def _noted(said: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return what all shards say of how they were read, and what some say, with the number of the shard."""
    every = [note for note in said[0] if all(note in notes for notes in said)]
    some = [f"shard {shard}: {note}" for shard, notes in enumerate(said) for note in notes if note not in every]
    more = [f"{len(some) - NAMED} more notes of shards are left out"] if len(some) > NAMED else []
    return (*every, *some[:NAMED], *more)


def chosen_rows(rows: int, numbers: int, most: int) -> Tensor:
    """Return an even choice of rows that have at most so many numbers of so many."""
    return evenly(rows, max(2, min(rows, rows * most // max(numbers, 1))))


def _chosen(parts: Sequence[Any], places: Sequence[range], chosen: Tensor) -> list[Any]:
    """Return the chosen rows of every part."""
    found = []
    for part, place in zip(parts, places, strict=True):
        index = chosen[(chosen >= place.start) & (chosen < place.stop)] - place.start
        if len(index):
            found.append(some_rows(part, index.to(part.values.device)))
    return found


def _alike(parts: Sequence[Any], world: World) -> list[Any]:
    """Let lists in all shards have unobserved pairs, perhaps none, or in no shard: sums over rows have one shape."""
    unobserved = [getattr(part, "unobserved", None) for part in parts]
    if not isinstance(parts[0], Triplets) or not world.any(any(pairs is not None for pairs in unobserved)):
        return list(parts)
    none = torch.zeros(0, 2, dtype=torch.long)
    return [part if part.unobserved is not None else replace(part, unobserved=none) for part in parts]
