"""What only grows while a loop runs, in a file that is appended to: a checkpoint costs what is new."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyrozoo.core.errors import DataError
from pyrozoo.core.world import World

LOG = ".log"

WIDTH = 8
"""Bytes that say how long the description of an entry is."""


@dataclass
class Journal:
    """The file beside a checkpoint. An entry is a description, in JSON, and the numbers of some tensors.

    What stands beyond ``end`` was written by a run that was killed before its checkpoint was: nobody reads it, and it
    is written over.

    Attributes:
        path: The file.
        end: Bytes that count.
        check: CRC-32 of them.
    """

    path: Path
    end: int = 0
    check: int = 0
    entries: list[dict[str, Tensor]] = field(default_factory=list, repr=False)
    """What it held when it was read."""

    @classmethod
    def beside(cls, checkpoint: Path, together: World) -> Journal:
        """Return an empty one; of several processes each has its own, another number of them others."""
        own = f".{together.size}.{together.rank}" if together.size > 1 else ""
        return cls(checkpoint.with_name(f"{checkpoint.stem}{own}{LOG}"))

    def read(self, state: Mapping[str, int] | None) -> None:
        """Read what a checkpoint goes with; earlier checkpoints hold everything themselves.

        Raises:
            DataError: It is gone or damaged.
        """
        if state is None or not state["end"]:
            return
        content = self.path.read_bytes()[: state["end"]] if self.path.is_file() else b""
        if len(content) < state["end"] or zlib.crc32(content) != state["check"]:
            raise DataError(f"{self.path} is gone or damaged: the run cannot go on without it")
        at = 0
        while at < len(content):
            size = int.from_bytes(content[at : at + WIDTH], "little")
            described = json.loads(content[at + WIDTH : at + WIDTH + size])
            at += WIDTH + size
            entry = {}
            for name, kind, shape in described:
                values = np.frombuffer(content, kind, int(np.prod(shape)), at)
                entry[name] = torch.from_numpy(values.reshape(shape).copy())
                at += values.nbytes
            self.entries.append(entry)
        self.end, self.check = state["end"], state["check"]

    def state(self) -> dict[str, int]:
        """Return what a checkpoint must know."""
        return {"end": self.end, "check": self.check}

    def append(self, entry: Mapping[str, Tensor]) -> None:
        """Write what is new behind what counts; it counts once the checkpoint that knows of it is in its place."""
        if not entry:
            return
        arrays = {name: np.ascontiguousarray(value.detach().cpu().numpy()) for name, value in entry.items()}
        described = json.dumps([(name, each.dtype.str, each.shape) for name, each in arrays.items()]).encode()
        numbers = [each.data for each in arrays.values() if each.size]
        parts: list[Any] = [len(described).to_bytes(WIDTH, "little"), described, *numbers]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_symlink():
            raise DataError(f"{self.path} is a link: what a run writes stays in its directory")
        try:
            with self.path.open("r+b" if self.end else "wb") as file:
                file.seek(self.end)
                file.truncate()
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = error.filename or str(self.path)  # a full disk does not say where
            raise
        for part in parts:
            self.check = zlib.crc32(part, self.check)
            self.end += memoryview(part).nbytes
