"""The command line, read once: what is asked for, and what is plainly wrong before anything heavy is imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from pyrozoo.command import files
from pyrozoo.core.settings import suggestion
from pyrozoo.run import catalog

GROUPS = ("model", "inference", "data", "device", "experiment")
TASKS = ("calibrate", "fit")

ALONE = ("explain", "read", "resume", "score", "simulations", "task")
"""Settings that say what to do."""

RECOVERY = ("recovery.simulations", "recovery.seed", "recovery.methods", "recovery.rows", "recovery.resume", "outputs",
            "threads", "progress")  # fmt: skip
"""What can be typed beside an experiment that is a recovery study."""

CALIBRATION = "${outputs}/calibration/${model.name}/${inference.name}/${now:%Y-%m-%d}_${now:%H-%M-%S-%f}"
"""Where a calibration goes."""

OPTIONS = ("-m", "--multirun", "-c", "--cfg", "-i", "--info", "-p", "--package", "-r", "--resolve", "--hydra-help",
           "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp", "--shell-completion", "-sc", "--run",
           "-h", "--help", "--version", "--experimental-rerun")  # fmt: skip
"""What Hydra's command line takes besides settings; some take a value, which comes next."""


@dataclass(frozen=True)
class Arguments:
    """What was typed.

    Attributes:
        words: The arguments, an experiment that is a sweep spelled out.
    """

    words: tuple[str, ...]

    @classmethod
    def read(cls, typed: Sequence[str]) -> Arguments:
        """Read what was typed."""
        words = _verb(list(typed))
        if any(word.startswith(("score=", "read=", "explain=")) for word in words):
            return cls(tuple(words))
        words = spelled_out(words)
        return cls(tuple(files.named(words, bool({"-m", "--multirun"} & {*words}))))

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def has(self, *options: str) -> bool:
        """Return whether one of some options is there."""
        return bool(set(options) & set(self.words))

    @cached_property
    def sweep(self) -> bool:
        """Whether it is a sweep."""
        return self.has("-m", "--multirun")

    @cached_property
    def settings(self) -> dict[str, str]:
        """Settings as they were typed, name -> value."""
        return dict(word.split("=", 1) for word in self.words if "=" in word)

    def chosen(self, group: str) -> list[str]:
        """Return what is chosen of a group: several things in a sweep."""
        value = self.settings.get(group, "")
        return value.split(",") if re.fullmatch(r"[^=\[\](){} ]+", value) else []

    def one(self, group: str) -> str | None:
        """Return what is chosen of a group, if it is one thing."""
        names = self.chosen(group)
        return names[0] if len(names) == 1 else None

    def for_hydra(self) -> list[str]:
        """Return what Hydra takes: settings of swept groups join the sweep, models from outside bring their fields."""
        words = [word for each in self.words for word in _own_model(each, self.sweep)]
        # Solvers have options of their own, which conf cannot list: Hydra adds them with ++.
        return [f"++{word}" if word.startswith("solver.") else word for word in self._sweepable(words)]

    def _sweepable(self, words: Sequence[str]) -> list[str]:
        """Let a sweep over a group take settings of that group: ``inference=em,cavi inference.restarts=20``.

        Hydra first composes what is not swept, where a swept group has not been chosen yet and its settings do not
        exist; as a choice of one, the setting joins the sweep.
        """
        if not self.sweep:
            return list(words)
        swept = {group for group in GROUPS if len(self.chosen(group)) > 1}
        swept |= set(GROUPS) if "experiment" in swept else set()  # an experiment chooses of all groups
        return [_joined(word, swept) for word in words]


def _verb(words: list[str]) -> list[str]:
    """Return ``score run=RUN data=NEW``, ``read FILE`` and ``explain`` as settings: ``score=RUN data.path=NEW`` ..."""
    if words[:1] == ["score"]:
        called = {"run": "score", "data": "data.path"}
        pairs = [word.partition("=") for word in words[1:]]
        return [f"{called.get(name, name)}{sign}{value}" for name, sign, value in pairs]
    if words[:1] == ["explain"]:
        return ["explain=page", *words[1:]]
    if words[:1] == ["read"] and len(words) > 1:
        return [f"read={words[1].removeprefix('data=').removeprefix('data.path=')}", *words[2:]]
    return words


def _joined(word: str, swept: set[str]) -> str:
    name, sign, value = word.partition("=")
    inside = sign and "." in name and name.split(".", 1)[0] in swept and "choice(" not in word
    return f"{name}=choice({value})" if inside else word


def _own_model(word: str, sweep: bool) -> list[str]:
    """Return a choice of a model from outside as Hydra can take it: the group left out, its fields put in."""
    group, _, name = word.partition("=")
    if group != "model" or name in catalog.models() or catalog.source_of(name) is None:
        return [word]
    fields = catalog.model_settings(name)
    return ["~model", *(f"+model.{field}={_quoted(value)}" for field, value in fields.items())]


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, list | tuple):
        return f"[{','.join(_quoted(each) for each in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


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


def early_problem(arguments: Arguments) -> str | None:
    """Return what is plainly wrong with the command line, before anything heavy is imported."""
    if problem := _no_setting(arguments) or _task_problem(arguments):
        return problem
    chosen = {group: names for group in GROUPS if (names := arguments.chosen(group))}
    for group, names in chosen.items():
        if problem := _choice_problem(group, names, arguments):
            return problem
    launcher = next((word for word in arguments if word.startswith("hydra/launcher=submitit_")), None)
    if launcher and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        return f"{launcher} needs a package more: pip install 'pyrozoo[cluster]'"
    if arguments.has("--cfg", "-c", "--info", "-i", "--hydra-help") or "experiment" in chosen:
        return None
    reference = arguments.settings.get("reference", "null")
    if reference != "null" and not Path(reference, "metrics.json").is_file():
        return f"reference={reference} is not a finished run directory (no metrics.json)"
    if "resume" not in arguments.settings:
        for group in ("model", "inference"):
            if not any(re.match(rf"\+?{group}(@[\w.]+)?=.", word) for word in arguments):
                valid = catalog.models() if group == "model" else catalog.options(group)
                return f"{group}=... is missing; {suggestion('', valid)}"
    paired = not arguments.sweep and "model" in chosen and "inference" in chosen
    if paired and (problem := catalog.check_pair(chosen["model"][0], chosen["inference"][0])):
        return problem
    data = arguments.one("data")
    return None if data is None else files.problem_of(arguments.one("model"), data, arguments.settings)


def _choice_problem(group: str, names: Sequence[str], arguments: Arguments) -> str | None:
    """Return what is wrong with what is chosen of a group."""
    if group == "experiment" and len(names) > 1 and (studies := set(names) & set(catalog.recoveries())):
        return f"experiment={min(studies)} is a recovery study: it runs by itself, in no sweep"
    if len(names) > 1 and not arguments.sweep:
        return f"{group}={','.join(names)} asks for several runs; a sweep needs -m"
    if group == "model" and len(names) > 1 and (outside := [name for name in names if catalog.source_of(name)]):
        return f"model={outside[0]} comes from outside of the zoo: a sweep can have one such model, and no other"
    for name in names:
        if problem := catalog.check_choice(group, name, next(iter(arguments.chosen("model")), None)):
            return problem
    return None


def _no_setting(arguments: Arguments) -> str | None:
    """Return what is wrong with arguments of another command line's habits: ``--model zip_mixture``, ``method=em``."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        name, _, value = argument.partition("=")
        if "=" in argument:
            if argument.startswith("--") and name not in OPTIONS:
                return f"{argument}: settings have no dashes: {name.lstrip('-')}={value}"
            if name == "method":
                return f"{argument}: did you mean inference={value}?"
            known = (*GROUPS, *ALONE, *catalog.own_settings())
            whole = re.fullmatch(r"\w+", name) and name not in known
            if whole and (near := difflib.get_close_matches(name, known, 1, cutoff=0.75)):
                return f"there is no setting {name!r}; did you mean {near[0]}={value}?"
        elif argument.startswith("-"):
            if argument not in OPTIONS:
                return f"{argument} is no option; settings are NAME=VALUE, such as model=zip_mixture (see --help)"
        elif before not in OPTIONS[2:] and not argument.startswith("~"):
            groups = [g for g in ("model", "inference", "data", "experiment") if argument in catalog.options(g)]
            meant = f"did you mean {groups[0]}={argument}?" if groups else "see --help"
            return f"{argument!r} is no setting; settings are NAME=VALUE: {meant}"
    return None


def _task_problem(arguments: Arguments) -> str | None:
    """Return what is wrong with the task, or with what is asked of it."""
    named = arguments.settings
    task = named.get("task", "fit")
    if task not in TASKS:
        if set(task.split(",")) <= set(TASKS):
            return f"task={task}: all runs of a sweep have one task"
        return f"task={task} does not exist; {suggestion(task, TASKS)}"
    if task == "fit" and "simulations" in named and "resume" not in named:
        return f"simulations={named['simulations']} is a setting of task=calibrate"
    for data in arguments.chosen("data") if task == "calibrate" else ():
        if data in catalog.options("data") and catalog.settings("data", data)["source"] != "simulated":
            return f"data={data} is not simulated; task=calibrate draws data from the model: leave data out"
    return None
