"""What tests cost: which cases the quick suite leaves to the slow one is found from a trial.

``python -m tests.costs`` makes a short fit of every pair of model and method, runs all tests that are not slow, and
records anew, in CPU seconds: other work on the machine changes them little. Names of models record their pairs alone;
whatever else pytest takes records those tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

COSTS = Path(__file__).with_name("costs.json")

MOST = 8
"""CPU seconds after which a trial ends: it is too long whatever it would take."""

LIMIT = 0.3
"""CPU seconds above which a case is left to the slow suite, where a cheaper case of its test stays for its model."""

HEAVY = 1.0
"""CPU seconds above which a case is left to it, too, where a cheaper one of its test stays for another model."""

LONG = 5.0
"""CPU seconds above which a case is left to it whatever stays, unless it is marked ``quick``."""

NOTED = 0.3
"""CPU seconds from which a case is recorded."""

FITS = 5
"""Short fits that what a law asks of a pair costs, about, of which nothing else is recorded."""

TRIAL = "PYROZOO_TRIAL"
"""Set while costs are recorded: nothing is left out for its cost."""


class Case(NamedTuple):
    """A case of a test.

    Attributes:
        name: As pytest says it.
        test: The function.
        model: That it is asked of, if it is.
        method: By which it fits it, if it does.
    """

    name: str
    test: str
    model: str = ""
    method: str = ""

    @classmethod
    def of(cls, item: Any) -> Case:
        """Return what pytest has collected."""
        its = item.callspec.params if hasattr(item, "callspec") else {}
        model, method = (str(its.get(each, "")) for each in ("model", "method"))
        return cls(item.nodeid, item.nodeid.partition("[")[0], model, method)

    @property
    def pair(self) -> str:
        """Return the names of model and method as they are recorded, if it has both."""
        return f"{self.model}-{self.method}" if self.model and self.method else ""


def too_long(cases: Iterable[Case], costs: Mapping[str, float]) -> set[str]:
    """Return the names of the cases that the quick suite does without.

    Args:
        cases: All.
        costs: Name of a case, or pair -> CPU seconds that were recorded.

    Returns:
        Those above the limit, but for the cheapest of each test and model, or of the test alone where that is heavy.
    """
    of_model, of_test = defaultdict(list), defaultdict(list)
    for case in cases:
        cost = costs.get(case.name, FITS * costs.get(case.pair, 0.0)), case.name
        of_model[case.test, case.model].append(cost)
        of_test[case.test].append(cost)
    kept = {min(each) for each in of_test.values() if min(each)[0] <= LONG}
    kept |= {min(each) for each in of_model.values() if min(each)[0] <= HEAVY}
    every = {each for its in of_test.values() for each in its}
    return {name for cost, name in every - kept if cost > LIMIT}


def recorded() -> dict[str, float]:
    """Return what was recorded, pair or test -> CPU seconds."""
    return json.loads(COSTS.read_text())


def record(found: Mapping[str, float]) -> None:
    """Take up what pairs and tests cost."""
    known = {name: round(seconds, 1) for name, seconds in {**recorded(), **found}.items()}
    COSTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")


def cpu() -> float:
    """Return the CPU seconds of this process and of all that it started, a browser that still lives among them."""
    spent = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(each.cpu_times()[:4])
    return spent


class TooLong(BaseException):
    """A trial has taken ``MOST`` seconds."""


def timed(function: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call, which ends after ``MOST``."""
    before = cpu()
    signal.setitimer(signal.ITIMER_PROF, MOST)
    try:
        function()
    except TooLong:
        return MOST
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return cpu() - before


class Trial:
    """A plugin that finds what tests cost.

    Attributes:
        found: Name -> CPU seconds with the fixtures that no other test has, of those that are recorded.
        shared: CPU seconds of other fixtures so far.
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self.shared = 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        """Time a fixture that several tests have: without this one, the next would pay for it."""
        before, others = cpu(), self.shared
        result = yield
        if fixturedef.scope != "function":
            self.shared = others + cpu() - before
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Time a test."""
        before, self.shared = cpu(), 0.0
        signal.setitimer(signal.ITIMER_PROF, MOST)
        result = yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        cost, case = cpu() - before - self.shared, Case.of(item)
        cost = min(MOST, max(0.0, cost))  # what is killed has no cost left
        if cost >= NOTED or case.pair or case.name in recorded():
            self.found[case.name] = cost
        return result


def _stop(*_: Any) -> None:
    raise TooLong  # pytest says that the test failed: a trial is about its cost alone


def main(arguments: Sequence[str]) -> int:
    """Record what pairs and tests cost."""
    from tests import test_laws

    os.environ[TRIAL] = "1"
    signal.signal(signal.SIGPROF, _stop)
    models = [each for each in arguments if each in test_laws.MODELS]
    pairs = [pair for pair in test_laws.PAIRS if pair[0] in (models or (() if arguments else test_laws.MODELS))]
    record({"-".join(p): timed(lambda p=p: test_laws.fit_tiny(*p, **test_laws.short(*p))) for p in pairs})
    rest = [each for each in arguments if each not in models]
    if models and not rest:
        return 0
    trial = Trial()
    code = int(pytest.main(["-q", "-n0", *rest], plugins=[trial]))
    record(trial.found)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
