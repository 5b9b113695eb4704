"""Hydra composes the configuration and runs it, or a sweep of it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pyrozoo.command import together
from pyrozoo.command.arguments import GROUPS, Arguments
from pyrozoo.command.jobs import execute
from pyrozoo.command.sweep import Sweep, of_a_launcher, runs_of, sweeping
from pyrozoo.command.terminal import INTERRUPTED, complain, say
from pyrozoo.core.launch import launched
from pyrozoo.core.paths import CONF
from pyrozoo.core.settings import suggestion
from pyrozoo.run import catalog

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Job:
    """What Hydra calls, once or for every point of a sweep.

    Attributes:
        code: The exit code of the last job of this process; jobs in other processes leave it as it is.
    """

    code = 0

    def __call__(self, config: DictConfig) -> None:
        """Run one job."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        info = HydraConfig.get()
        directory, sweep = Path(info.runtime.output_dir), info.mode == RunMode.MULTIRUN
        if config.seed is None:
            # Calibrations of a sweep see the same data sets, which compares their methods best.
            config.seed = int(info.job.num) if sweep and config.task == "fit" else 0
        if sweep and config.report is None:
            config.report = "brief"
        if sweep and "joblib" in str(info.launcher.get("_target_")):
            config.progress = False  # the bars of several jobs would be drawn over each other
        self.code = execute(config, directory, in_sweep=sweep)
        if sweep and self.code == INTERRUPTED:
            raise KeyboardInterrupt


def compose_and_run(arguments: Arguments) -> int:
    """Let Hydra compose the configuration and run it, or a sweep of it; return the exit code."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # Otherwise Hydra turns every exception into a page of its own and exit code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    job = Job()
    words = arguments.for_hydra()
    if launched():
        if arguments.sweep:
            return complain("torchrun starts the processes of one run: leave -m out, or start a sweep without torchrun")
        words = together.common_directory(words)
    sys.argv[1:] = words  # where Hydra looks
    with sweeping() as sweep:
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
        except (HydraException, OmegaConfBaseException) as error:
            return complain(_hydra_message(error, arguments))
        except KeyboardInterrupt:
            if sweep.directory is not None:
                sweep.cut_short("interrupted", "stopped by Ctrl-C")
                say(f"{sweep.directory}\n")
            return INTERRUPTED
        except Exception as error:
            if sweep.directory is None or not of_a_launcher(error):
                raise
            return _killed(sweep, error)
        return job.code if sweep.directory is None else _swept(sweep, "", job.code)


def _killed(sweep: Sweep, error: Exception) -> int:
    """Report a sweep whose launcher failed: a job was killed, or none could be started."""
    assert sweep.directory is not None
    if not runs_of(sweep.directory):
        return complain(f"no job could be started: {(str(error).splitlines() or [type(error).__name__])[0]}")
    why = "killed from outside (out of memory?), or stopped because another job was"
    sweep.cut_short("failed", why)
    return _swept(sweep, f": {why}; jobs not started: {sweep.jobs - len(runs_of(sweep.directory))}", 0)


def _swept(sweep: Sweep, why: str, code: int) -> int:
    """Say which fit to believe, where the report of a sweep is, and which of its jobs failed; return the exit code."""
    assert sweep.directory is not None
    if sweep.problem:
        again = f"python -m pyrozoo.report {sweep.directory} compares the jobs"
        return complain(f"{sweep.problem} ({again})")
    if sweep.failed is None:
        return 1
    report = sweep.directory / "report.html"
    say("".join(f"{line}\n" for line in (*sweep.answers, report)))
    if sweep.failed or why:
        return complain(f"failed: {', '.join(sweep.failed) or 'a job'}{why} (see {report})")
    return code


def _hydra_message(error: Exception, arguments: Arguments) -> str:
    """Say in one line what Hydra says in several."""
    text = str(error)
    cause = error.__cause__
    unknown = re.search(r"Key '(\w+)' is not in struct\s*full_key: ([\w.]+)", f"{text} {cause}")
    if unknown:
        *group, key = unknown[2].split(".")
        if len(group) == 1 and group[0] in GROUPS:
            chosen = _chosen(group[0], arguments)
            if chosen is None:
                return f"{unknown[2]}: not every choice of {group[0]} has this setting"
            valid = set(_settings_of(group[0], chosen)) - set(catalog.ABOUT)
            return f"{group[0]}={chosen} has no setting {key!r}; {suggestion(key, valid)}"
        if found := _groups_of(key, arguments):
            return f"there is no setting {unknown[2]!r}; did you mean {' or '.join(found)}?"
        return f"there is no setting {unknown[2]!r} (see --cfg job)"
    if ambiguous := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{ambiguous[1]} asks for several runs; a sweep needs -m (a list is written [1,2])"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)


def _chosen(group: str, arguments: Arguments) -> str | None:
    """Return what is chosen of a group, if it is one thing; data are simulated unless others are asked for."""
    return arguments.one(group) or ("simulated" if group == "data" and "data" not in arguments.settings else None)


def _settings_of(group: str, name: str) -> dict[str, object]:
    return catalog.model_settings(name) if group == "model" else catalog.settings(group, name)


def _groups_of(key: str, arguments: Arguments) -> list[str]:
    """Return the settings that are called so, of what is chosen: ``restarts`` is ``inference.restarts``."""
    chosen = {group: _chosen(group, arguments) for group in ("model", "inference", "data")}
    return [f"{group}.{key}" for group, name in chosen.items() if name and key in _settings_of(group, name)]
