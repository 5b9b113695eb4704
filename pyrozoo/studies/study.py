"""A study: many runs with one purpose, in a directory that it can be resumed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pandas as pd
import yaml

from pyrozoo.core.errors import SettingError
from pyrozoo.core.progress import bar
from pyrozoo.store.run_directory import CONFIG, write_text

Item = TypeVar("Item")


@dataclass(frozen=True)
class Written:
    """What was written over several runs.

    Attributes:
        absent: Runs without a result, as ``store.run_directory.ABSENT`` says.
        answers: What the page begins with: a sentence for each model and data set.
    """

    absent: pd.DataFrame
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Where a study is kept, and how it goes on. What is run, judged and shown is its own.

    Attributes:
        kind: What messages call it.
        directory: Where its rows are written after every run; None: nowhere.
        rows: The name of their file.
        changeable: What a resumed one may change, in words; anything else would make it another one.
    """

    kind: str
    directory: Path | None
    rows: str
    changeable: str

    def asked(self, resume: bool) -> Path | None:
        """Return the directory, which one that is to be resumed must have.

        Raises:
            SettingError: It has none.
        """
        if resume and self.directory is None:
            raise SettingError(f"resume needs the directory of the {self.kind}")
        return self.directory

    def begun(self, resume: bool) -> bool:
        """Return whether there are rows to go on with.

        Raises:
            SettingError: There are, and nobody asked to go on.
        """
        there = self.directory is not None and (self.directory / self.rows).is_file()
        if there and not resume:
            raise SettingError(f"{self.directory} holds a {self.kind} already; resume goes on with it")
        return there

    def refuse(self, setting: str) -> NoReturn:
        """Refuse another value of a setting than the one that it was begun with."""
        only = f"a resumed {self.kind} can change {self.changeable} and nothing else"
        raise SettingError(f"{setting} is not that of the {self.kind} in {self.directory}; {only}")

    def remember(self, config: Mapping[str, Any], *, again: bool = True) -> None:
        """Write the configuration into the directory, if there is one; over an older one only ``again``."""
        if self.directory is not None and (again or not (self.directory / CONFIG).exists()):
            text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
            write_text(self.directory / CONFIG, text)

    def carry_out(
        self, items: Iterable[Item], work: Callable[[Item], None], *, total: int, done: int, what: str, shown: bool,
        said: Callable[[Item], str] = lambda item: "",
    ) -> str:  # fmt: skip
        """Do the work on what is left, and return the status: completed, or after Ctrl-C interrupted.

        Args:
            items: What is left, in order.
            work: What is done with each.
            total: How many items there are in all.
            done: How many were there before.
            what: What the progress bar says of all of them.
            shown: Whether to show it.
            said: What it says of one.
        """
        try:
            with bar(total, what, shown=shown, initial=done) as progress:
                for item in items:
                    progress.set_postfix_str(said(item), refresh=False)
                    work(item)
                    progress.update()
        except KeyboardInterrupt:
            return "interrupted"
        return "completed"
