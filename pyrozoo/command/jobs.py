"""What a command does: fit, calibrate, resume, recover, each into its directory, and the exit code of it."""

from __future__ import annotations

import gc
import shutil
import sys
import traceback
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrozoo.command import together
from pyrozoo.command.arguments import RECOVERY, Arguments
from pyrozoo.command.terminal import INTERRUPTED, complain, say
from pyrozoo.core.launch import first, launched, restarts
from pyrozoo.core.paths import alone
from pyrozoo.core.settings import suggestion

if TYPE_CHECKING:
    from omegaconf import DictConfig


def execute(config: DictConfig, directory: Path, *, in_sweep: bool = False, resume: bool = False) -> int:
    """Run a job in a directory that no other process has (see ``_execute``); return the exit code."""
    if not first():
        return _execute(config, directory, in_sweep=in_sweep, resume=resume)
    with alone(directory) as free:
        if not free:
            return complain(f"{directory} is in use: another process runs in it")
        return _execute(config, directory, in_sweep=in_sweep, resume=resume)


def _execute(config: DictConfig, directory: Path, *, in_sweep: bool, resume: bool) -> int:
    """Fit, or calibrate, and write the run directory; a mistake leaves none behind, but in a sweep says why in it.

    Returns:
        The exit code.
    """
    from omegaconf import OmegaConf

    calibrating = config.get("task", "fit") == "calibrate"
    folders = 4 if calibrating else 3
    if calibrating and launched():
        return complain("torchrun starts the processes of one fit: start task=calibrate without it")
    try:
        there = directory / _prepared(config)
        from pyrozoo.contracts.shards import USUAL
        from pyrozoo.core.errors import NotApplicable, UserError
        from pyrozoo.store.run_directory import CONFIG, METRICS, write_text
    except KeyboardInterrupt:
        discard(directory, folders)
        raise
    if launched() and config.get("shards") is None:
        config.shards = USUAL  # a resumed run has as many, with torchrun or without
    unresolved = OmegaConf.to_yaml(config, resolve=False)
    try:
        if first():
            write_text(directory / CONFIG, unresolved)  # with the seed, so that a killed run can be resumed
        plain: Any = OmegaConf.to_container(config, resolve=True)
        result = (_calibrated if calibrating else _fitted)(
            plain, directory, resume or (restarts() > 0 and there.is_file())
        )
        if not first():
            return 0
        if calibrating and not len(result.ranks):
            raise KeyboardInterrupt
        result.save(directory, unresolved)
    except (UserError, OSError) as error:
        message, saved = _said(error, directory), (directory / METRICS).is_file()
        if saved and not calibrating:
            message += f" (the fit is kept: python -m pyrozoo.report {directory} makes the rest)"
        if in_sweep:
            _say_failed(directory, config, message, "not_applicable" if isinstance(error, NotApplicable) else "failed")
            complain(f"{directory.name}: {message}")
            return 0  # the sweep's own exit code comes from its report
        if there.is_file():
            return complain(f"{message} (resume={directory} continues from what is there)")
        discard(directory, folders)
        return complain(message)
    except KeyboardInterrupt:  # outside the engine's loop, where there is nothing partial to keep
        if not there.is_file():
            discard(directory, folders)
        raise
    except Exception as error:
        if not in_sweep:
            if not there.is_file():
                discard(directory, folders)
            if said := _fault_of(config.model.get("source"), error):
                return complain(said)
            raise
        traceback.print_exc()
        _say_failed(directory, config, traceback.format_exc().strip().splitlines()[-1])
        return 0
    say(f"{result}\n  {directory / 'report.html'}\n" if calibrating else describe(result, directory))
    return INTERRUPTED if result.status == "interrupted" else 0


def _say_failed(directory: Path, config: DictConfig, message: str, status: str = "failed") -> None:
    """Write into a sweep's job directory why there is no fit, if there is none."""
    from pyrozoo.store.run_directory import METRICS, write_failure

    if not (directory / METRICS).is_file():
        write_failure(directory, status, message, str(config.model.name), str(config.inference.name))


def _calibrated(config: dict[str, Any], directory: Path, resume: bool) -> Any:
    return import_module("pyrozoo.studies.calibrate.run").run(config, directory=directory, resume=resume)


def _fitted(config: dict[str, Any], directory: Path, resume: bool) -> Any:
    from pyrozoo.run.fit import Run

    run = Run.again(config, directory=directory) if resume else Run.from_config(config, directory=directory)
    result = run.result(directory)
    together.forget()
    return result


def _prepared(config: DictConfig) -> str:
    """Load what runs need; return the name of the file that a killed one goes on from. A calibration gets its sizes."""
    if "torch" not in sys.modules:
        gc.disable()  # what is loaded is no garbage: looking for it takes a sixth of the time
        try:
            import_module("pyrozoo.run.fit")
        finally:
            gc.freeze()
            gc.enable()
    from pyrozoo.store.run_directory import CHECKPOINT

    if config.get("task", "fit") != "calibrate":
        return CHECKPOINT
    from pyrozoo.studies.calibrate import run as calibration

    calibration.fill(config)
    return calibration.RANKS


def _fault_of(source: str | None, error: Exception) -> str | None:
    """Return what a model from outside raised itself, and in which line; None: it is no fault of its file."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if source and frame.filename == source]
    if not lines:
        return None
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"model={source}, line {lines[-1].lineno}: {what}"


def _said(error: Exception, directory: Path) -> str:
    """Return what an error says, of the system's with the file that it is about."""
    return f"{error.strerror or error}: {error.filename or directory}" if isinstance(error, OSError) else str(error)


def describe(result: Any, directory: Path) -> str:
    """Return what the terminal shows of a finished run."""
    shown = ("elbo", "holdout_elpd", "holdout_rmse", "completion_rmse", "naive_rmse", "loo_elpd")
    figures = "  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown if name in result.metrics)
    card = result.verdict
    more = f" (with {len(card.folded)} more of these)" if card.folded else ""
    lines = [
        f"{card}",
        f"  {result.model_name} by {result.method}: {result.status}, {result.objective_name} {result.objective:.4f}, "
        f"{result.iterations} iterations, {result.seconds:.2f} s",
        *([f"  {figures}"] if figures else []),
        *(f"  note  {note}" for note in result.notes),
        f"  {page if (page := directory / 'report.html').is_file() else directory}{more}",
        *(f"  {directory / name}" for name in ("results.csv", "results.xlsx") if (directory / name).is_file()),
    ]
    return "\n".join(lines) + "\n"


def discard(directory: Path, folders: int = 3) -> None:
    """Remove a run directory that holds nothing but what was put there before the fit, and parents left empty.

    Args:
        directory: Such as outputs/<model>/<method>/<time>.
        folders: How many of its parents may go.
    """
    if directory.is_dir() and {path.name for path in directory.iterdir()} == {".hydra"}:
        shutil.rmtree(directory / ".hydra", ignore_errors=True)
    for folder in (directory, *directory.parents[:folders]):
        if folder == Path.cwd():
            return
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # it holds something else
            return


def resume(arguments: Arguments) -> int:
    """Continue a run directory from its checkpoint, or a calibration; other arguments change what may change."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pyrozoo.core.errors import UserError
    from pyrozoo.run.fit import RESUMABLE
    from pyrozoo.store.foreign import check_groups, escaped
    from pyrozoo.store.run_directory import CHECKPOINT, CONFIG, read_config
    from pyrozoo.studies.calibrate.run import CHANGEABLE

    directory = Path(arguments.settings["resume"])
    try:
        config = OmegaConf.create(escaped(read_config(directory)))
        calibrating = config.get("task") == "calibrate"
        changeable = CHANGEABLE if calibrating else RESUMABLE
        if not calibrating:
            check_groups(read_config(directory), directory / CONFIG)
        if not calibrating and not (directory / CHECKPOINT).is_file():
            return complain(f"{directory} has no checkpoint: it is finished, or ran without checkpoint_every")
        rest = [argument for argument in arguments if not argument.startswith("resume=")]
        for argument in rest:
            if argument.split("=", 1)[0].removeprefix("inference.") not in changeable:
                return complain(f"{argument}: a resumed run can change {', '.join(changeable)} and nothing else")
        OmegaConf.set_struct(config, True)
        config.merge_with_dotlist(rest)
    except (UserError, OmegaConfBaseException, yaml.YAMLError, ValueError, AttributeError) as error:
        return complain(str(error))
    return execute(config, directory, resume=True)


def recover(experiment: str, arguments: Arguments) -> int:
    """Run a recovery study, or the rest of one, and write its directory."""
    import yaml

    settings: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if argument == f"experiment={experiment}":
            continue
        if not sign or key not in RECOVERY:
            meant = f"recovery.{key}" if f"recovery.{key}" in RECOVERY else key
            return complain(f"{argument}: {experiment} is a recovery study; {suggestion(meant, RECOVERY)}")
        name = key.removeprefix("recovery.")
        try:
            settings[name] = text if name in ("resume", "outputs") else yaml.safe_load(text)
        except yaml.YAMLError:
            return complain(f"{key} is {text!r}, which cannot be read")
    if isinstance(settings.get("methods"), str):
        settings["methods"] = settings["methods"].split(",")
    outputs, resumed = settings.pop("outputs", "outputs"), settings.pop("resume", None)
    directory = Path(outputs) / "recovery" / experiment / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    directory = directory if resumed is None else Path(resumed)
    from pyrozoo.core.errors import UserError
    from pyrozoo.studies.recover import run as recovery
    from pyrozoo.studies.recover.page import ESTIMATES

    try:
        result = recovery.recover(experiment, **settings, directory=directory, resume=resumed is not None)
        if len(result.estimates):
            result.save(directory)
    except (UserError, OSError) as error:
        message = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        if (directory / ESTIMATES).is_file():
            return complain(message if resumed else f"{message} (recovery.resume={directory} goes on)")
        if resumed is None:
            discard(directory)
        return complain(message)
    if not len(result.estimates):
        discard(directory)
        return INTERRUPTED
    say(f"{result}\n{directory / 'report.html'}\n")
    return INTERRUPTED if result.status == "interrupted" else 0
