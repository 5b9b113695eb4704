"""The command: compose -> data -> model -> engine -> Fit -> run directory."""

from __future__ import annotations

import os
import re
import shutil
import sys
import traceback
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrozoo.core.paths import CONF
from pyrozoo.core.settings import suggestion
from pyrozoo.run import catalog

if TYPE_CHECKING:
    from omegaconf import DictConfig

GROUPS = ("model", "inference", "data", "device", "experiment")
TASKS = ("calibrate", "fit")
MISTAKE, INTERRUPTED = 2, 130

RECOVERY = ("recovery.simulations", "recovery.seed", "recovery.methods", "recovery.rows", "recovery.resume", "outputs",
            "threads", "progress")  # fmt: skip
"""What can be typed beside an experiment that is a recovery study."""

CALIBRATION = "${outputs}/calibration/${model.name}/${inference.name}/${now:%Y-%m-%d}_${now:%H-%M-%S-%f}"
"""Where a calibration goes."""

_exit_code = 0


def main() -> None:
    """Run the command line and exit: 0, 2 for a mistake in the input, 130 after Ctrl-C, 1 for a fault of ours."""
    arguments = sys.argv[1:] = spelled_out(sys.argv[1:])
    try:
        if not arguments or {"-h", "--help"} & set(arguments):
            sys.stdout.write(help_text())
            code = 0
        elif "--version" in arguments:
            sys.stdout.write(f"pyrozoo {version('pyrozoo')}\n")
            code = 0
        elif problem := early_problem(arguments):
            code = complain(problem)
        elif study := next((name for name in catalog.recoveries() if f"experiment={name}" in arguments), None):
            code = recover(study, arguments)
        elif any(argument.startswith("resume=") for argument in arguments):
            code = resume(arguments)
        else:
            code = compose_and_run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError as error:
        code = complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    sys.exit(code)


def spelled_out(arguments: list[str]) -> list[str]:
    """Put a sweep in the place of an experiment that is one: its file lists what would be typed after ``-m``.

    What is typed beside it comes last, and in the place of what the sweep says of the same setting. A model that is not
    tried on simulated data names its own (``catalog.default_data``). A calibration is told what it does unless more is
    asked for: data simulated from the model, of its own sizes, none of it hidden, in a directory of its own.
    """
    result: list[str] = []
    for i, argument in enumerate(arguments):
        group, _, name = argument.partition("=")
        known = group == "experiment" and name in catalog.options(group)
        sweep = catalog.settings(group, name).get("sweep") if known else None
        beside = {each.split("=", 1)[0] for each in [*arguments[:i], *arguments[i + 1 :]]}
        result += [argument] if sweep is None else ["-m", *(s for s in sweep if s.split("=", 1)[0] not in beside)]
    named = {group: name for group, _, name in (argument.partition("=") for argument in result)}
    calibrating = named.get("task") == "calibrate"
    usual: dict[str, str] = {}
    data = named.get("data", "simulated")
    if named.get("model") in catalog.models() and not {"data", "experiment"} & set(named):
        default = catalog.default_data(named["model"])
        if not calibrating or catalog.settings("data", default)["source"] == "simulated":
            data = default
        usual |= {"data": data} if data != "simulated" else {}
    if calibrating and not any(argument.startswith("resume=") for argument in result):
        usual |= {"hydra.run.dir": CALIBRATION, "threads": "1"}  # more gain nothing on so little data
        if data in catalog.options("data") and catalog.settings("data", data)["source"] == "simulated":
            usual["data.holdout"] = "0"
            usual |= {"data.rows": "null", "data.columns": "null"} if "experiment" not in named else {}
    result.sort(key=lambda argument: argument not in ("-m", "--multirun"))  # Hydra wants settings together
    # Beside what is typed first: Hydra wants all settings together, before or after its options.
    first = next((i for i, argument in enumerate(result) if "=" in argument), len(result))
    return [*result[:first], *(f"{key}={value}" for key, value in usual.items() if key not in named), *result[first:]]


def complain(message: str) -> int:
    """Write one line to standard error."""
    sys.stderr.write(f"pyrozoo: {' '.join(message.split())}\n")
    return MISTAKE


def help_text() -> str:
    """Return the help: usage, models with their methods, data, experiments. Imports nothing heavy."""
    lines = [
        "Usage: python -m pyrozoo model=MODEL inference=METHOD [GROUP.SETTING=VALUE ...]",
        "       python -m pyrozoo -m model=MODEL inference=METHOD,METHOD,...   a sweep is a comparison",
        "       python -m pyrozoo experiment=EXPERIMENT",
        "       python -m pyrozoo task=calibrate model=MODEL inference=METHOD   is it as sure as it may be?",
        "       python -m pyrozoo resume=RUN_DIRECTORY",
        "",
        "Models and their methods:",
    ]
    for name in catalog.models():
        lines += [f"  {name:<20}{catalog.title(name)}", f"  {'':<20}{', '.join(catalog.methods(name))}"]
    lines += ["", "Methods:"]
    lines += [f"  {name:<20}{catalog.settings('inference', name)['summary']}" for name in catalog.options("inference")]
    lines += ["", "Data:"]
    lines += [f"  {name:<20}{catalog.described('data', name)}" for name in catalog.options("data")]
    lines += ["", "Experiments:"]
    lines += [f"  {name:<20}{catalog.described('experiment', name)}" for name in catalog.options("experiment")]
    lines += [
        "",
        "Your own table:    data=table data.path=FILE.csv",
        "Settings of one run without running it:    ... --cfg job",
        "Options of the sweep and of the command line itself:    --hydra-help",
        f"Settings of a recovery study ({', '.join(catalog.recoveries())}):    {', '.join(RECOVERY)}",
        "",
    ]
    return "\n".join(lines)


def early_problem(arguments: list[str]) -> str | None:
    """Return what is plainly wrong with the command line, before anything heavy is imported."""
    sweep = bool({"-m", "--multirun"} & set(arguments))
    if problem := _no_setting(arguments):
        return problem
    chosen: dict[str, list[str]] = {}
    for argument in arguments:
        matched = re.fullmatch(rf"({'|'.join(GROUPS)})=([\w,.-]+)", argument)
        if matched:
            chosen[matched[1]] = matched[2].split(",")
    if problem := _task_problem(arguments, chosen):
        return problem
    for group, names in chosen.items():
        if group == "experiment" and len(names) > 1 and (studies := set(names) & set(catalog.recoveries())):
            return f"experiment={min(studies)} is a recovery study: it runs by itself, in no sweep"
        if len(names) > 1 and not sweep:
            return f"{group}={','.join(names)} asks for several runs; a sweep needs -m"
        for name in names:
            if group == "data" and name not in catalog.options(group) and Path(name).is_file():
                return f"data={name} is a file: data={_file_data()} data.path={name}"
            if problem := catalog.check_choice(group, name, next(iter(chosen.get("model", ())), None)):
                return problem
    launcher = next((a for a in arguments if a.startswith("hydra/launcher=submitit_")), None)
    if launcher and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        return f"{launcher} needs a package more: pip install 'pyrozoo[cluster]'"
    if {"--cfg", "-c", "--info", "-i", "--hydra-help"} & set(arguments) or "experiment" in chosen:
        return None
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if (reference := named.get("reference", "null")) != "null" and not Path(reference, "metrics.json").is_file():
        return f"reference={reference} is not a finished run directory (no metrics.json)"
    if not any(argument.startswith("resume=") for argument in arguments):
        for group in ("model", "inference"):
            if not any(re.match(rf"\+?{group}(@[\w.]+)?=.", argument) for argument in arguments):
                valid = catalog.models() if group == "model" else catalog.options(group)
                return f"{group}=... is missing; {suggestion('', valid)}"
    if not sweep and "model" in chosen and "inference" in chosen:
        return catalog.check_pair(chosen["model"][0], chosen["inference"][0])
    return None


OPTIONS = ("-m", "--multirun", "-c", "--cfg", "-i", "--info", "-p", "--package", "-r", "--resolve", "--hydra-help",
           "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--shell-completion", "-sc", "--run",
           "-h", "--help", "--version", "--experimental-rerun")  # fmt: skip
"""What Hydra's command line takes besides settings; some take a value, which comes next."""


def _no_setting(arguments: list[str]) -> str | None:
    """Return what is wrong with arguments of another command line's habits: ``--model zip_mixture``, ``method=em``."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, _, value = argument.partition("=")
        if "=" in argument:
            if argument.startswith("--") and name not in OPTIONS:
                return f"{argument}: settings have no dashes: {name.lstrip('-')}={value}"
            if name == "method":
                return f"{argument}: did you mean inference={value}?"
        elif argument.startswith("-"):
            if argument not in OPTIONS:
                return f"{argument} is no option; settings are NAME=VALUE, such as model=zip_mixture (see --help)"
        elif before not in OPTIONS[2:] and not argument.startswith("~"):
            groups = [g for g in ("model", "inference", "data", "experiment") if argument in catalog.options(g)]
            meant = f"did you mean {groups[0]}={argument}?" if groups else "see --help"
            return f"{argument!r} is no setting; settings are NAME=VALUE: {meant}"
    return None


def _task_problem(arguments: list[str], chosen: dict[str, list[str]]) -> str | None:
    """Return what is wrong with the task, or with what is asked of it."""
    named = dict(argument.partition("=")[::2] for argument in arguments)
    task = named.get("task", "fit")
    if task not in TASKS:
        if set(task.split(",")) <= set(TASKS):
            return f"task={task}: all runs of a sweep have one task"
        return f"task={task} does not exist; {suggestion(task, TASKS)}"
    if task == "fit" and "simulations" in named and "resume" not in named:
        return f"simulations={named['simulations']} is a setting of task=calibrate"
    for data in chosen.get("data", ()) if task == "calibrate" else ():
        if data in catalog.options("data") and catalog.settings("data", data)["source"] != "simulated":
            return f"data={data} is not simulated; task=calibrate draws data from the model: leave data out"
    return None


def compose_and_run() -> int:
    """Let Hydra compose the configuration and run it, or a sweep of it."""
    global _exit_code
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # Otherwise Hydra turns every exception into a page of its own and exit code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from pyrozoo.command.sweep import Comparison, of_a_launcher, runs_of

    Comparison.directory = Comparison.failed = None
    Comparison.submitted, why = (), ""
    _exit_code = 0  # jobs in other processes leave it as it is
    # Solvers have options of their own, which conf cannot list: Hydra adds them with ++.
    sys.argv[1:] = [f"++{a}" if a.startswith("solver.") else a for a in sweepable(sys.argv[1:])]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        return complain(_hydra_message(error))
    except KeyboardInterrupt:
        if Comparison.directory is not None:
            Comparison.cut_short("interrupted", "stopped by Ctrl-C")
            sys.stdout.write(f"{Comparison.directory}\n")
        return INTERRUPTED
    except Exception as error:
        if Comparison.directory is None or not of_a_launcher(error):
            raise
        if not runs_of(Comparison.directory):
            return complain(f"no job could be started: {(str(error).splitlines() or [type(error).__name__])[0]}")
        why = "killed from outside (out of memory?), or stopped because another job was"
        Comparison.cut_short("failed", why)
        why = f": {why}; jobs not started: {Comparison.jobs - len(runs_of(Comparison.directory))}"
    if Comparison.directory is not None:
        if Comparison.failed is None:
            return 1
        sys.stdout.write(f"{Comparison.directory / 'report.html'}\n")
        if Comparison.failed or why:
            names = ", ".join(Comparison.failed) or "a job"
            return complain(f"failed: {names}{why} (see {Comparison.directory / 'report.html'})")
    return _exit_code


def sweepable(arguments: list[str]) -> list[str]:
    """Let a sweep over a group take settings of that group: ``inference=em,cavi inference.restarts=20``.

    Hydra first composes what is not swept, where a swept group has not been chosen yet and its settings do not exist;
    as a choice of one, the setting joins the sweep.
    """
    if not {"-m", "--multirun"} & set(arguments):
        return arguments
    swept = {a.split("=", 1)[0] for a in arguments if re.fullmatch(rf"({'|'.join(GROUPS)})=[^=]*,.*", a)}
    swept |= set(GROUPS) if "experiment" in swept else set()  # an experiment chooses of all groups
    return [
        f"{a.split('=', 1)[0]}=choice({a.split('=', 1)[1]})"
        if "=" in a and "." in a.split("=", 1)[0] and a.split(".", 1)[0] in swept and "choice(" not in a
        else a
        for a in arguments
    ]


def _hydra_message(error: Exception) -> str:
    """Say in one line what Hydra says in several."""
    text = str(error)
    cause = error.__cause__
    unknown = re.search(r"Key '(\w+)' is not in struct\s*full_key: ([\w.]+)", f"{text} {cause}")
    if unknown:
        *group, key = unknown[2].split(".")
        if len(group) == 1 and group[0] in GROUPS:
            chosen = re.findall(rf"^{group[0]}=([\w-]+)$", "\n".join(sys.argv[1:]), re.M)
            if not chosen and group[0] == "data":
                chosen = ["simulated"]
            if not chosen:
                return f"{unknown[2]}: not every choice of {group[0]} has this setting"
            valid = set(catalog.settings(group[0], chosen[0])) - set(catalog.ABOUT)
            if unknown[2] == "data.path" and "data=" not in " ".join(sys.argv[1:]):
                return f"data.path: say what kind of file it is, such as data={_file_data()}"
            return f"{group[0]}={chosen[0]} has no setting {key!r}; {suggestion(key, valid)}"
        if found := _groups_of(key):
            return f"there is no setting {unknown[2]!r}; did you mean {' or '.join(found)}?"
        return f"there is no setting {unknown[2]!r} (see --cfg job)"
    if ambiguous := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{ambiguous[1]} asks for several runs; a sweep needs -m (a list is written [1,2])"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)


def _chosen(group: str) -> str | None:
    """Return what the command line chooses of a group, if it is one thing."""
    return next((a.split("=", 1)[1] for a in sys.argv[1:] if re.fullmatch(rf"{group}=[\w-]+", a)), None)


def _file_data() -> str:
    """Return the choice of data that reads a file for the model asked for."""
    model = _chosen("model")
    return catalog.file_data(model) if model in catalog.models() else "table"


def _groups_of(key: str) -> list[str]:
    """Return the settings that are called so, of what is chosen: ``restarts`` is ``inference.restarts``."""
    chosen = {"model": _chosen("model"), "inference": _chosen("inference"), "data": _chosen("data") or "simulated"}
    return [
        f"{g}.{key}" for g, name in chosen.items() if name in catalog.options(g) and key in catalog.settings(g, name)
    ]


def job(config: DictConfig) -> None:
    """Run one job: Hydra calls it, once or for every point of a sweep."""
    global _exit_code
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    info = HydraConfig.get()
    directory, sweep = Path(info.runtime.output_dir), info.mode == RunMode.MULTIRUN
    if config.seed is None:
        # Calibrations of a sweep see the same data sets, which compares their methods best.
        config.seed = int(info.job.num) if sweep and config.task == "fit" else 0
    if sweep and "joblib" in str(info.launcher.get("_target_")):
        config.progress = False  # the bars of several jobs would be drawn over each other
    _exit_code = execute(config, directory, in_sweep=sweep)
    if sweep and _exit_code == INTERRUPTED:
        raise KeyboardInterrupt


def execute(config: DictConfig, directory: Path, *, in_sweep: bool = False, resume: bool = False) -> int:
    """Fit, or calibrate, and write the run directory; a mistake leaves none behind, but in a sweep says why in it.

    Returns:
        The exit code.
    """
    from omegaconf import OmegaConf

    calibrating = config.get("task", "fit") == "calibrate"
    folders = 4 if calibrating else 3
    try:
        from pyrozoo.core.errors import NotApplicable, UserError
        from pyrozoo.run import fit as api
        from pyrozoo.store.run_directory import CHECKPOINT, CONFIG, write_failure, write_text
        from pyrozoo.studies.calibrate import run as calibration
        from pyrozoo.studies.calibrate.page import RANKS
    except KeyboardInterrupt:
        discard(directory, folders)
        raise

    kept = RANKS if calibrating else CHECKPOINT
    if calibrating:
        calibration.fill(config)
    unresolved = OmegaConf.to_yaml(config, resolve=False)
    model, method = str(config.model.name), str(config.inference.name)
    try:
        write_text(directory / CONFIG, unresolved)  # with the seed, so that a killed run can be resumed
        plain: Any = OmegaConf.to_container(config, resolve=True)
        result: Any = (calibration if calibrating else api).run(plain, directory=directory, resume=resume)
        if calibrating and not len(result.ranks):
            raise KeyboardInterrupt
        result.save(directory, unresolved)
    except (UserError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError):
            message = f"{error.strerror or error}: {error.filename or directory}"
        if in_sweep:
            status = "not_applicable" if isinstance(error, NotApplicable) else "failed"
            write_failure(directory, status, message, model, method)
            complain(f"{directory.name}: {message}")
            return 0  # the sweep's own exit code comes from its report
        if (directory / kept).is_file():
            return complain(f"{message} (resume={directory} continues from what is there)")
        discard(directory, folders)
        return complain(message)
    except KeyboardInterrupt:  # outside the engine's loop, where there is nothing partial to keep
        if not (directory / kept).is_file():
            discard(directory, folders)
        raise
    except Exception:
        if not in_sweep:
            if not (directory / kept).is_file():
                discard(directory, folders)
            raise
        traceback.print_exc()
        last = traceback.format_exc().strip().splitlines()[-1]
        write_failure(directory, "failed", last, model, method)
        return 0
    sys.stdout.write(f"{result}\n  {directory / 'report.html'}\n" if calibrating else describe(result, directory))
    return INTERRUPTED if result.status == "interrupted" else 0


def describe(result: Any, directory: Path) -> str:
    """Return what the terminal shows of a finished run."""
    shown = ("elbo", "holdout_elpd", "holdout_rmse", "completion_rmse", "naive_rmse", "loo_elpd")
    figures = "  ".join(f"{name} {result.metrics[name]:.4f}" for name in shown if name in result.metrics)
    lines = [
        f"{result.model_name} by {result.method}: {result.status}, {result.objective_name} {result.objective:.4f}, "
        f"{result.iterations} iterations, {result.seconds:.2f} s",
        *([f"  {figures}"] if figures else []),
        *(f"  {line.level:<4}  {line.about}: {line.sentence}" for line in result.verdict),
        *(f"  note  {note}" for note in result.notes),
        f"  {directory / 'report.html'}",
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


def resume(arguments: list[str]) -> int:
    """Continue a run directory from its checkpoint, or a calibration; other arguments change what may change."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from pyrozoo.core.errors import UserError
    from pyrozoo.run.fit import RESUMABLE
    from pyrozoo.store.run_directory import CHECKPOINT, read_config
    from pyrozoo.studies.calibrate.run import CHANGEABLE

    directory = Path(next(a for a in arguments if a.startswith("resume=")).removeprefix("resume="))
    try:
        config = OmegaConf.create(read_config(directory))
        calibrating = config.get("task") == "calibrate"
        changeable = CHANGEABLE if calibrating else RESUMABLE
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


def recover(experiment: str, arguments: list[str]) -> int:
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
    sys.stdout.write(f"{result}\n{directory / 'report.html'}\n")
    return INTERRUPTED if result.status == "interrupted" else 0


if __name__ == "__main__":
    main()
