"""Lay memory out so that the longest dimension of short rows is the one without gaps, which fills vector registers."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

from pyrozoo.compiler.steps import Batched, Buffer, Gather, Product, Scatter, Step, View

SHORT = 32
"""Rows below this length are exchanged for longer dimensions."""


class _Home:
    """The shape and strides that a buffer was made with, and those that it gets."""

    def __init__(self, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.dims = sorted((d for d in range(len(shape)) if shape[d] > 1), key=lambda d: -strides[d])
        self.shape, self.old = shape, strides
        longest = max(self.dims, key=lambda d: shape[d])
        new, step = dict.fromkeys(self.dims, 0), 1
        for d in [longest, *(d for d in reversed(self.dims) if d != longest)]:
            new[d] = step
            step *= shape[d]
        self.new = new

    def moved(self, view: View) -> View | None:
        """Return a view in the new layout, or None where it cuts across dimensions."""
        rest, offset = view.offset, 0
        first: dict[int, int] = {}
        for d in self.dims:
            first[d], rest = divmod(rest, self.old[d])
            offset += first[d] * self.new[d]
        low, high = dict(first), dict(first)
        strides = []
        for extent, stride in zip(view.shape, view.strides, strict=True):
            if extent == 1 or stride == 0:
                strides.append(0)
                continue
            fitting = [d for d in self.dims if stride % self.old[d] == 0]
            if not fitting:
                return None
            d = fitting[0]
            k = stride // self.old[d]
            (high if k > 0 else low)[d] += k * (extent - 1)
            strides.append(k * self.new[d])
        if rest or any(low[d] < 0 or high[d] >= self.shape[d] for d in self.dims):
            return None
        return view._replace(strides=tuple(strides), offset=offset)


def laid_out(steps: list[Step], buffers: list[Buffer], keep: set[int]) -> tuple[list[Step], list[Buffer]]:
    """Return steps and buffers with memory in a better order.

    Args:
        steps: The steps.
        buffers: Their memory.
        keep: Buffers that stay as they are.
    """
    seen: dict[int, list[View]] = defaultdict(list)
    keep = set(keep)
    for step in steps:
        for view in (*step.reads(), step.writes()):
            seen[view.buffer].append(view)
            if isinstance(step, Product | Batched):
                keep.add(view.buffer)
        # Where integers tell the place, they count in the strides that there are.
        operands = (step.place, step.values) if isinstance(step, Scatter) else getattr(step, "operands", ())
        keep |= {each.base.buffer for each in operands if isinstance(each, Gather)}
    homes = {}
    for number, known in seen.items():
        if number not in keep and (home := _home(known, buffers[number].size)):
            homes[number] = home
    buffers = list(buffers)
    for number, home in homes.items():
        content = buffers[number].constant
        if content is not None:
            order = sorted(home.dims, key=lambda d: -home.new[d])
            whole = content.as_strided([home.shape[d] for d in order], [home.old[d] for d in order])
            buffers[number] = replace(buffers[number], constant=whole.contiguous().flatten())

    def moved(view: View) -> View:
        new = homes[view.buffer].moved(view) if view.buffer in homes else view
        assert new is not None
        return new

    return [step.seen(moved) for step in steps], buffers


def _home(known: list[View], size: int) -> _Home | None:
    """Return the layout of a buffer if it is one array without gaps whose rows are short, and no view minds."""
    for view in known:
        dense = math.prod(view.shape) == size and not view.offset and all(s >= 0 for s in view.strides)
        dims = sorted((d for d in range(len(view.shape)) if view.shape[d] > 1), key=lambda d: view.strides[d])
        steps = [1]
        for d in dims:
            steps.append(steps[-1] * view.shape[d])
        if not dense or len(dims) < 2 or any(view.strides[d] != s for d, s in zip(dims, steps, strict=False)):
            continue
        longest = max(view.shape)
        if view.shape[dims[0]] >= SHORT or longest < SHORT or view.shape[dims[0]] == longest:
            return None
        home = _Home(view.shape, view.strides)
        return home if all(home.moved(each) is not None for each in known) else None
    return None
