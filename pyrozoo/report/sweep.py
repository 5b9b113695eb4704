"""The Hydra callback that turns a finished sweep into a comparison. Light to import: Hydra loads it at every start."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback


class Comparison(Callback):
    """Writes comparison.csv and report.html over the runs of a sweep.

    Attributes:
        directory: The sweep directory of this process, once a sweep has begun.
        failed: Names of the jobs that failed, once the comparison is written.
    """

    directory: ClassVar[Path | None] = None
    failed: ClassVar[list[str] | None] = None
    settings: ClassVar[dict[str, Any]] = {}

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Remember where the sweep goes, so that one cut short can still be reported."""
        Comparison.directory = Path(str(config.hydra.sweep.dir))
        # A swept group is not chosen yet, so that only these can be resolved.
        Comparison.settings = {name: config[name] for name in ("reference", "verdict")}

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Compare the runs."""
        Comparison.finish()

    @classmethod
    def finish(cls) -> None:
        """Write the comparison over the jobs there are."""
        from pyrozoo.diagnostics.verdict import Thresholds
        from pyrozoo.report.comparison import compare_directories

        assert cls.directory is not None
        reference, limits = cls.settings["reference"], Thresholds(**cls.settings["verdict"])
        absent = compare_directories(
            runs_of(cls.directory),
            cls.directory,
            reference=None if reference is None else Path(reference),
            limits=limits,
        )
        cls.failed = absent.loc[absent["status"] != "not_applicable", "run"].tolist()


def runs_of(directory: Path) -> list[Path]:
    """Return the job directories of a sweep, in the order of the jobs."""
    found = [path.parent for path in directory.glob("*/.hydra")]
    return sorted(found, key=lambda path: (int(path.name.split("_")[0]) if path.name[0].isdigit() else -1, path.name))
