"""Do the tests notice when the code is wrong? ``python -m benchmarks mutation --room diagnostics --size quick``.

Small changes (``benchmarks.mutants``) are made one at a time, and the tests that reach the changed line are run until
one fails. First a map is made: every test runs once, alone, and the lines that it reaches are kept with its seconds;
tests that take long are left out. Both steps go on where they were stopped. Nothing is written into the tree: a
process that has collected all tests forks, and its child gets the changed function's code (or, of what runs on import,
imports the changed source). So a mutant costs the tests' own seconds and no start of an interpreter.

Existing tools copy the tree and start pytest for every mutant, which takes ten seconds here before the first test.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import gc
import hashlib
import importlib
import importlib.machinery
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.mutants import Mutant, mutants, planted
from tests.costs import TRIAL

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "diagnostics": ("pyrozoo/diagnostics/*.py",),
    "views": ("pyrozoo/models/*/view.py", "pyrozoo/models/*/queries.py", "pyrozoo/models/*/synthesis.py"),
    "engines": ("pyrozoo/inference/*.py", "pyrozoo/inference/*/*.py"),
    "data": ("pyrozoo/data/*.py",),
    "store": ("pyrozoo/store/*.py",),
    "studies": ("pyrozoo/studies/*.py", "pyrozoo/studies/*/*.py"),
    "solvers": ("pyrozoo/models/*/*.py",),
    "planted": (),
}
"""Room -> its files; a file belongs to the first that names it. The last is that of ``benchmarks.planted``."""

LEFT_OUT = ("_cuda.py", "__init__.py", "figures.py", "pictures.py", "page.py")
"""How the names end of files that need a card, or that draw what is looked at."""

NOT_THE_TESTS = ("tests/docs", "tests/test_house.py", "tests/typecheck.py", "tests/command", "tests/test_devices.py")
"""Tests of words and of whole commands in processes of their own, which a change in this one does not reach."""

SIZES = {"quick": (12, 60, 5.0), "night": (100, 60, 5.0), "thorough": (100, 1000, 60.0)}
"""Size -> mutants per room, tests per mutant at most, and their CPU seconds."""

EQUIVALENT = Path(__file__).with_name("equivalent")
"""Where mutants stand that change nothing anybody could see, a table per room, each with the reason."""

LONGEST = 16.0
"""CPU seconds of a test, its fixtures included, beyond which it is not run."""


def files_of(room: str) -> list[str]:
    """Return the files of a room that are changed."""
    found: dict[str, str] = {}
    for name, patterns in ROOMS.items():
        for pattern in patterns:
            for path in sorted(ROOT.glob(pattern)):
                found.setdefault(str(path.relative_to(ROOT)), name)
    return [file for file, name in found.items() if name == room and not file.endswith(LEFT_OUT)]


def cpu() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; the last may be cut off."""
    result = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            result.append(json.loads(line))
    return result


def in_child(work: Callable[[Any], None], cpu_seconds: float, wall_seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """Fork, let the child work and say what it finds, a JSON line each; return how it ended and what it said."""
    folder = tempfile.mkdtemp(prefix="mutation_")
    said = Path(folder, "said")
    child = os.fork()
    if not child:
        try:
            os.setpgid(0, 0)
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            with Path(os.devnull).open("w") as nothing, said.open("a", buffering=1) as out:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
                limit = int(cpu() + cpu_seconds) + 1
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 2))
                work(lambda found: out.write(json.dumps(found) + "\n"))
        finally:
            os._exit(0)
    end, state = time.monotonic() + wall_seconds, 0
    while True:
        done, state = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.01)
    result = lines_of(said)
    shutil.rmtree(folder, ignore_errors=True)
    return "too long" if not done else _how(state), result


def _how(state: int) -> str:
    """Say how a child ended."""
    if os.WIFEXITED(state):
        return "in time"
    number = signal.Signals(os.WTERMSIG(state))
    return "too long" if number in (signal.SIGXCPU, signal.SIGKILL) else number.name


class Server:
    """A pytest plugin: in the place of running the collected tests, hand them to some work."""

    def __init__(self, work: Callable[[dict[str, pytest.Item]], None]):
        self.work, self.failed = work, False
        self.seen: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Work, and run nothing else."""
        self.work({item.nodeid: item for item in session.items})
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember whether anything failed, and what ran."""
        self.failed |= report.failed
        if report.when == "call" and report.passed:
            self.seen.add(report.nodeid)

    def passes(self, item: pytest.Item, following: pytest.Item | None = None) -> bool:
        """Run a test; return whether it passed."""
        self.failed = False
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return not self.failed


def with_tests(work: Callable[[Server, dict[str, pytest.Item]], None], tests: list[str]) -> None:
    """Collect tests in this process and work with them."""
    server = Server(lambda items: work(server, items))
    os.environ[TRIAL] = "1"  # what the quick suite leaves out for its cost is asked, too: the map says what it costs
    os.chdir(ROOT)
    code = pytest.main([*tests, "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"], plugins=[server])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(f"the tests were not collected ({code})")


def tests_of(named: list[str]) -> list[str]:
    """Return the files of tests that are named, or all."""
    found = [Path(each).resolve() for each in named] or [ROOT / "tests"]
    files = [file for each in found for file in (sorted(each.rglob("test_*.py")) if each.is_dir() else [each])]
    paths = [str(file.relative_to(ROOT)) for file in files]
    return [path for path in paths if not path.startswith(NOT_THE_TESTS)]


def _functions(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _functions(each)


def _shape(code: CodeType) -> tuple[Any, ...]:
    return code.co_code, code.co_names, tuple(_shape(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)


class Planter:
    """Changes functions of this process in place."""

    def __init__(self) -> None:
        for room in ROOMS:
            for file in files_of(room):
                importlib.import_module(_module(file))
        gc.unfreeze()
        self.live: dict[tuple[str, str, int], list[FunctionType]] = defaultdict(list)
        for each in gc.get_objects():
            if isinstance(each, FunctionType) and each.__code__.co_filename.startswith(str(ROOT / "pyrozoo")):
                code = each.__code__
                self.live[code.co_filename, code.co_qualname, code.co_firstlineno].append(each)
        gc.freeze()

    def plant(self, mutant: Mutant) -> bool | None:
        """Change a mutant's functions; return whether it was possible, None if it is the same code."""
        return self.replace(mutant.file, mutant.source((ROOT / mutant.file).read_bytes()))

    def replace(self, file: str, source: bytes) -> bool | None:
        """Give the functions of a file the code of another source of it."""
        path = str(ROOT / file)
        compiled: Any = sys.modules[_module(file)].__loader__.source_to_code  # with what the hook of shapes adds
        before, after = compiled(Path(path).read_bytes(), path), compiled(source, path)
        if _shape(before) == _shape(after):
            return None
        pairs = list(zip(_functions(before), _functions(after), strict=False))
        if any(old.co_qualname != new.co_qualname for old, new in pairs):  # a function inside it is gone
            return False
        planted = False
        for old, new in pairs:
            if _shape(old) != _shape(new):
                for function in self.live[path, old.co_qualname, old.co_firstlineno]:
                    try:
                        function.__code__ = new
                    except ValueError:  # another number of closure variables
                        return False
                    planted = True
        return planted


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


class Marks(ast.NodeTransformer):
    """Has every statement of a file's functions say that it was reached: ``__reached__[k] = 1`` before it."""

    def __init__(self, file: str, places: list[tuple[str, int]]):
        self.file, self.places, self.depth = file, places, 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if self.depth and isinstance(statements, list):
                setattr(node, name, [part for each in statements for part in self._marked(each)])
        return super().generic_visit(node)

    def _marked(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, (ast.Global, ast.Nonlocal)) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            return [node]
        self.places.append((self.file, node.lineno))
        return [*ast.parse(f"__reached__[{len(self.places) - 1}] = 1").body, node]


class Recorder:
    """A pytest plugin: which lines tests reach, and their seconds; shared fixtures have entries of their own."""

    def __init__(self, planter: Planter):
        self.places: list[tuple[str, int]] = []
        self.say: Any = None
        for room in ROOMS:
            for file in files_of(room):
                tree = ast.parse((ROOT / file).read_bytes())
                marked = ast.fix_missing_locations(Marks(file, self.places).visit(tree))
                planter.replace(file, ast.unparse(marked).encode())
        self.reached = builtins.__reached__ = bytearray(len(self.places))
        self.stack: list[float] = []

    @contextlib.contextmanager
    def recorded(self, found: dict[str, Any]) -> Iterator[None]:
        """Look at what happens inside; what shared fixtures do there is not counted."""
        before, started = bytes(self.reached), cpu()
        self.reached[:] = bytes(len(self.reached))
        self.stack.append(0.0)
        try:
            yield
        finally:
            lines: dict[str, set[int]] = defaultdict(set)
            for k in np.flatnonzero(np.frombuffer(self.reached, np.uint8)):
                lines[self.places[k][0]].add(self.places[k][1])
            self.reached[:] = before
            spent = cpu() - started
            found["seconds"] = round(spent - self.stack.pop(), 3)
            found["lines"] = {file: sorted(each) for file, each in lines.items()}
            if self.stack:
                self.stack[-1] += spent

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """Record what a shared fixture does."""
        if fixturedef.scope == "function" or not self.stack:
            return (yield)
        found: dict[str, Any] = {}
        with self.recorded(found):
            result = yield
        self.say({"fixture": _key(request._pyfuncitem, fixturedef.argname)} | found)
        return result

    def record(self, server: Server, item: pytest.Item, following: pytest.Item | None) -> None:
        """Run a test and say what it reaches; one that goes on for too long fails."""
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        found: dict[str, Any] = {}
        with self.recorded(found):
            passed = server.passes(item, following)
        signal.setitimer(signal.ITIMER_PROF, 0)
        fixtures = [_key(item, name) for name in getattr(item, "fixturenames", ())]
        self.say({"test": item.nodeid, "passed": passed and item.nodeid in server.seen, "fixtures": fixtures} | found)


def _key(item: Any, fixture: str) -> str:
    index = getattr(getattr(item, "callspec", None), "indices", {}).get(fixture, 0)
    return f"{item.nodeid.split('::')[0]}::{fixture}[{index}]"


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {LONGEST} s")


def make_map(folder: Path, named: list[str]) -> None:
    """Run every test that is not in the map, and append the lines that it reaches; files in children of their own."""
    known = {each["test"] for each in lines_of(folder / "map.jsonl") if "test" in each}

    def of_file(server: Server, items: list[pytest.Item], recorder: Recorder, say: Any) -> None:
        signal.signal(signal.SIGPROF, _too_long)
        recorder.say = say
        items[0].config.pluginmanager.register(recorder)
        for item, following in zip(items, [*items[1:], None], strict=True):
            recorder.record(server, item, following)

    def work(server: Server, items: dict[str, pytest.Item]) -> None:
        recorder = Recorder(Planter())
        with (folder / "map.jsonl").open("a") as out:
            for file in dict.fromkeys(name.split("::")[0] for name in items):
                mine = [item for name, item in items.items() if name.split("::")[0] == file and name not in known]
                if mine:
                    ended, said = in_child(lambda say, mine=mine: of_file(server, mine, recorder, say), 600, 3600)
                    out.writelines(json.dumps(each) + "\n" for each in said)
                    out.flush()
                    print(file, len(mine), ended, sum(each["seconds"] for each in said), file=sys.stderr, flush=True)

    with_tests(work, tests_of(named))


class Map:
    """Which tests reach which line, and their seconds."""

    def __init__(self, folder: Path):
        entries = lines_of(folder / "map.jsonl")
        self.fixtures = {each["fixture"]: each for each in entries if "fixture" in each}
        self.seconds: dict[str, float] = {}
        self.uses: dict[str, list[str]] = {}
        self.by_line: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.by_file: dict[str, set[str]] = defaultdict(set)
        for each in entries:
            if each.get("passed"):
                test = each["test"]
                self.uses[test] = [name for name in each["fixtures"] if name in self.fixtures]
                self.seconds[test] = each["seconds"]
                for part in (each, *(self.fixtures[name] for name in self.uses[test])):
                    for file, lines in part["lines"].items():
                        self.by_file[file].add(test)
                        for line in lines:
                            self.by_line[file, line].add(test)

    def alone(self, test: str, paid: set[str] | frozenset[str] = frozenset()) -> float:
        """Return the seconds of a test with its fixtures, but for those that are paid for."""
        return self.seconds[test] + sum(self.fixtures[each]["seconds"] for each in self.uses[test] if each not in paid)

    def reaching(self, mutant: Mutant, last: int) -> set[str]:
        """Return the tests that reach a mutant, which ends in a line."""
        if not mutant.function:
            return self.by_file[mutant.file]
        # A long statement may be known by its first line, and a signature by what follows it.
        ends = (mutant.line, last), (max(mutant.line - 12, mutant.start), last), (mutant.start, last), (last, last + 40)
        for first, end in ends:
            if found := {test for line in range(first, end + 1) for test in self.by_line.get((mutant.file, line), ())}:
                return found
        return set()

    def tests(self, mutant: Mutant, last: int, most: int, budget: float) -> list[str]:
        """Return tests that reach a mutant: of every function the cheapest first, and those of its room."""
        words = set(Path(mutant.file).with_suffix("").parts[1:]) - {"models", "view", "model"}
        ranked: list[tuple[Any, ...]] = []
        turn: dict[str, int] = defaultdict(int)
        found = self.reaching(mutant, last)
        for test in sorted(found, key=self.alone):
            function = test.split("[")[0]
            near = any(word in test for word in words)
            ranked.append((turn[function] + (not near), self.alone(test), test))
            turn[function] += 1
        chosen: list[str] = []
        spent, paid = 0.0, set[str]()
        for _, _, test in sorted(ranked):
            seconds = self.alone(test, paid)
            if len(chosen) < most and spent + seconds <= budget:
                chosen.append(test)
                spent += seconds
                paid |= set(self.uses[test])
        cheapest: dict[str, float] = {}
        for test in chosen:
            file = test.split("::")[0]
            cheapest[file] = min(cheapest.get(file, 1e9), self.alone(test))
        return sorted(chosen, key=lambda each: (cheapest[each.split("::")[0]], each.split("::")[0], self.alone(each)))


def judge(server: Server, items: dict[str, pytest.Item], chosen: list[str], found: Map, say: Any) -> None:
    """Run tests until one fails; say which, and which is running."""
    chosen = [name for name in chosen if name in items]
    for name, following in zip(chosen, [*chosen[1:], None], strict=True):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        own = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(own.ru_utime + own.ru_stime + 5 * found.alone(name) + 5)
        resource.setrlimit(resource.RLIMIT_CPU, (min(limit, hard), hard))
        say({"running": name})
        if not server.passes(items[name], items[following] if following else None):
            say({"killed": name})
            return
    say({"survived": True})


def on_import(mutant: Mutant, chosen: list[str], found: Map, say: Any) -> None:
    """Import the changed source, collect the tests anew and judge."""
    path, original = str(ROOT / mutant.file), importlib.machinery.SourceFileLoader.get_data
    changed = mutant.source(Path(path).read_bytes())
    sys.dont_write_bytecode = True

    def get_data(self: Any, asked: str) -> bytes:
        if asked == path:
            return changed
        if asked.endswith(".pyc") and Path(asked).name.split(".")[0] == Path(path).stem:
            raise OSError(asked)
        return original(self, asked)

    importlib.machinery.SourceFileLoader.get_data = get_data
    say({"running": "import"})
    files = sorted({name.split("::")[0] for name in chosen})
    try:
        with_tests(lambda server, items: judge(server, items, chosen, found, say), files)
    except SystemExit:
        say({"killed": "import"})


def verdict(ended: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    """Say what became of a mutant."""
    for each in said:
        if "killed" in each or "survived" in each or "same" in each:
            return {"end": next(iter(each)), "by": each.get("killed")}
    running = [each["running"] for each in said if "running" in each]
    if running and ended != signal.SIGXFSZ.name:  # it hung, or took the process with it
        return {"end": "killed", "by": f"{running[-1]} ({ended})"}
    return {"end": "failed", "by": ended}  # a test that limits what its process may do, or a fault of ours


def sample(room: str, count: int, seed: int) -> list[Mutant]:
    """Return mutants of a room, as many of every file as of any other while it has any."""
    if room == "planted":
        return planted(ROOT)
    queues = []
    for file in files_of(room):
        made = sorted(mutants(ROOT, file), key=lambda each: _lot(seed, each.key))  # the same when others are edited
        queues.append([(turn, _lot(seed, file), mutant) for turn, mutant in enumerate(made)])
    ordered = sorted((each for queue in queues for each in queue), key=lambda each: each[:2])
    return [mutant for _, _, mutant in ordered[:count]]


def _lot(seed: int, name: str) -> str:
    return hashlib.sha1(f"{seed} {name}".encode()).hexdigest()


def equivalent(room: str) -> dict[str, str]:
    """Return the reasons why mutants of a room change nothing: key -> reason.

    Raises:
        ValueError: A line names no mutant: the code has changed, and so may the reason have.
    """
    path = EQUIVALENT / f"{room}.csv"
    if not path.is_file():
        return {}
    found, missed = {}, []
    lines = pd.read_csv(path, dtype=str, keep_default_na=False)
    made = {file: {each.key: each for each in mutants(ROOT, file)} for file in set(lines.file)}
    for number, line in enumerate(lines.itertuples(), 2):
        same = [each for each in made[line.file].values() if (each.function, each.before, each.after) == line[2:5]]
        same = [each for each in same if line.twin in ("all", str(each.twin))]
        found |= {each.key: line.why for each in same}
        missed += [] if same else [f"{path.name}:{number} names no mutant of {line.file}"]
    if missed:
        raise ValueError("; ".join(missed))
    return found


def _asked(chosen: list[str]) -> str:
    """Return what a mutant was asked: a digest of tests and of the files that they stand in."""
    files = sorted({test.split("::")[0] for test in chosen})
    return hashlib.sha1(
        "\0".join([*sorted(chosen), *((ROOT / each).read_text() for each in files)]).encode()
    ).hexdigest()


def campaign(folder: Path, rooms: list[str], size: str, seed: int, again: bool) -> None:
    """Judge the mutants of a sample, room by room in turns, and append what became of them.

    Those that are judged already are left out; ``again``: those that no test noticed are judged by other tests.
    """
    count, most, budget = SIZES[size]
    count, _, _ = SIZES["night"] if again else SIZES[size]
    alike = {key: why for room in rooms for key, why in equivalent(room).items()}
    found = Map(folder)
    done = _last(folder)
    samples = {room: sample(room, count, seed) for room in rooms}
    turns = [
        (room, chosen[i])
        for i in range(max(map(len, samples.values())))
        for room, chosen in samples.items()
        if i < len(chosen)
    ]
    late = {key for key, each in done.items() if each["end"] in ("survived", "unreached", "failed")}
    todo = [(room, mutant) for room, mutant in turns if (mutant.key in late if again else mutant.key not in done)]
    files = sorted({test.split("::")[0] for test in found.seconds})

    def one(mutant: Mutant, server: Server, items: dict[str, pytest.Item], planter: Planter) -> dict[str, Any]:
        text = (ROOT / mutant.file).read_bytes()[mutant.span[0] : mutant.span[1]]
        chosen = found.tests(mutant, mutant.line + text.count(b"\n"), most, budget)
        if mutant.key in alike:
            return {"end": "same", "by": alike[mutant.key]}
        if not chosen:
            return {"end": "unreached", "by": None}
        asked = _asked(chosen)
        if done.get(mutant.key, {}).get("asked") == asked:
            return {"end": "asked"}

        def work(say: Any) -> None:
            planted = planter.plant(mutant)
            if planted is None:
                say({"same": True})
            elif planted:
                judge(server, items, chosen, found, say)
            else:
                say({"import": True})

        total = sum(found.alone(each) for each in chosen)
        ended, said = in_child(work, 5 * total + 30, 20 * total + 60)
        if said and "import" in said[0]:
            return {"end": "import", "tests": chosen, "by": None, "asked": asked}
        return verdict(ended, said) | {"tests": len(chosen), "asked": asked}

    def write(out: Any, room: str, mutant: Mutant, result: dict[str, Any], spent: float) -> None:
        about = {"key": mutant.key, "room": room, "file": mutant.file, "line": mutant.line, "function": mutant.function}
        about["twin"] = mutant.twin
        change = {"before": mutant.before, "after": mutant.after, "seconds": round(spent, 2)}
        out.write(json.dumps(about | change | result) + "\n")
        out.flush()

    def work(server: Server, items: dict[str, pytest.Item]) -> None:
        planter = Planter()
        with (folder / "results.jsonl").open("a") as out:
            for room, mutant in todo:
                started = cpu()
                result = one(mutant, server, items, planter)
                if result["end"] == "import":
                    about = [room, mutant.key, result["tests"], result["asked"]]
                    os.write(pipe[1], (json.dumps(about) + "\n").encode())
                elif result["end"] != "asked":
                    write(out, room, mutant, result, cpu() - started)

    pipe = os.pipe()
    child = os.fork()  # this process stays one that has imported nothing of the project
    if not child:
        os.close(pipe[0])
        try:
            with_tests(work, files)
        finally:
            os._exit(0)
    os.close(pipe[1])
    by_key = {mutant.key: mutant for _, mutant in todo}
    with os.fdopen(pipe[0]) as asked, (folder / "results.jsonl").open("a") as out:
        for line in asked:
            room, key, chosen, digest = json.loads(line)
            started, mutant = cpu(), by_key[key]
            ended, said = in_child(lambda say, m=mutant, c=chosen: on_import(m, c, found, say), 90 + budget, 600)
            write(out, room, mutant, verdict(ended, said) | {"tests": len(chosen), "asked": digest}, cpu() - started)
    os.waitpid(child, 0)


def _last(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what became of every mutant when it was judged last."""
    return {each["key"]: each for each in lines_of(folder / "results.jsonl")}


def table(folder: Path) -> pd.DataFrame:
    """Return the score of every room: the part of mutants that tests noticed."""
    last = _last(folder)
    counts = pd.DataFrame(last.values()).groupby(["room", "end"]).size().unstack(fill_value=0)
    names = ["killed", "survived", "unreached", "failed", "same"]
    counts = counts.reindex(columns=names, fill_value=0)
    counts.loc["all"] = counts.sum()
    counts["score"] = (100 * counts["killed"] / counts[names[:-1]].sum(1)).round(1)
    return counts


def main(arguments: list[str]) -> None:
    """Make the map, judge a sample of mutants, and print the score of every room and what survived."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mutation")
    parser.add_argument("--room", action="append", choices=ROOMS, help="which rooms; all if none is named")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "mutation", help="of the map and results")
    parser.add_argument("--map", action="store_true", help="make the map, or add tests to it, and no more")
    parser.add_argument("--tests", nargs="*", default=[], help="files or folders of tests for the map")
    parser.add_argument("--again", action="store_true", help="judge only what no test noticed, after new ones")
    parser.add_argument("--table", action="store_true", help="print the results only")
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    rooms = asked.room or list(ROOMS)
    if not asked.table:
        _loaded()
        if asked.map or not (asked.folder / "map.jsonl").is_file():
            child = os.fork()  # this process stays one that has imported nothing of the project
            if not child:
                try:
                    make_map(asked.folder, asked.tests)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
        if not asked.map:
            campaign(asked.folder, rooms, asked.size, asked.seed, asked.again)
    if not asked.map:
        for each in _last(asked.folder).values():
            if each["end"] in ("survived", "unreached") and each["room"] in rooms:
                print(f"{each['file']}:{each['line']} {each['before'][:60]!r} -> {each['after'][:60]!r} {each['end']}")
        print(table(asked.folder).to_string())


def _loaded() -> None:
    """Load what is slow and not the project's own, once for all children."""
    for name in ("torch", "pyro", "pyro.infer.autoguide", "hydra", "arviz", "sklearn.decomposition",
                 "scipy.stats", "matplotlib.pyplot", "xarray", "h5netcdf", "hypothesis", "PIL.Image", "pyarrow.parquet",
                 "openpyxl", "beartype"):  # fmt: skip
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
