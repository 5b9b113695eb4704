"""What tests cost: which cases of a law the quick suite leaves to the slow one is found from a trial.

``python -m tests.costs`` makes a short fit of every pair of model and method, runs what else has the mark ``by_cost``,
and records anew, in CPU seconds: other work on the machine changes them little. Names of models, or whatever pytest
takes, record a part; tests of pairs that are named so have a record of their own.
"""

from __future__ import annotations

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

import pytest

COSTS = Path(__file__).with_name("costs.json")

MOST = 8
"""CPU seconds after which a trial ends: it is too long whatever it would take."""

LIMIT = 1.0
"""CPU seconds above which a case is left to the slow suite, where cheaper cases of its test stay."""

FITS = 5
"""Short fits that what a law asks of a pair costs, about: it makes a few, longer ones, or looks at more of them."""

TRIAL = "PYROZOO_TRIAL"
"""Set while costs are recorded: nothing is left out for its cost."""


class Case(NamedTuple):
    """A case of a test.

    Attributes:
        name: As pytest says it.
        test: The function, and the model that it is asked of, if it is.
        pair: The model and the method that it fits, if it does.
    """

    name: str
    test: str
    pair: str

    @classmethod
    def of(cls, item: Any) -> Case:
        """Return what pytest has collected."""
        its = item.callspec.params if hasattr(item, "callspec") else {}
        model, method = (str(its.get(each, "")) for each in ("model", "method"))
        function = item.nodeid.partition("[")[0]
        return cls(item.nodeid, f"{function} {model}", f"{model}-{method}" if model and method else "")


def too_long(cases: Iterable[Case], costs: Mapping[str, float]) -> set[str]:
    """Return the names of the cases that the quick suite does without.

    Args:
        cases: All.
        costs: Name of a case, or pair -> CPU seconds that were recorded.

    Returns:
        Those above the limit, but for the cheapest: every law is asked of every model at least once.
    """
    tests = defaultdict(list)
    for case in cases:
        tests[case.test].append((costs.get(case.name, FITS * costs.get(case.pair, 0.0)), case.name))
    return {name for each in tests.values() for cost, name in each if cost > LIMIT and (cost, name) != min(each)}


def recorded() -> dict[str, float]:
    """Return what was recorded, pair or test -> CPU seconds."""
    return json.loads(COSTS.read_text())


def record(name: str, seconds: float) -> None:
    """Take up what a pair or a test costs."""
    COSTS.write_text(json.dumps(dict(sorted({**recorded(), name: round(seconds, 1)}.items())), indent=1) + "\n")


def cpu() -> float:
    """Return the CPU seconds of this process and of its children."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


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
    """A plugin that records tests.

    Attributes:
        pairs: Those of pairs, too.
    """

    def __init__(self, pairs: bool) -> None:
        self.pairs = pairs

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Choose."""
        items[:] = [item for item in items if self.pairs or not Case.of(item).pair]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Record a test with its fixtures."""
        before = cpu()
        signal.setitimer(signal.ITIMER_PROF, MOST)
        result = yield
        signal.setitimer(signal.ITIMER_PROF, 0)
        record(item.nodeid, min(MOST, cpu() - before))
        return result


def _stop(*_: Any) -> None:
    raise TooLong  # pytest says that the test failed: a trial is about its cost alone


def main(arguments: Sequence[str]) -> int:
    """Record what pairs and tests cost."""
    from tests import test_laws

    os.environ[TRIAL] = "1"
    signal.signal(signal.SIGPROF, _stop)
    models = [each for each in arguments if each in test_laws.MODELS]
    for model, method in test_laws.PAIRS:
        if model in (models or (() if arguments else test_laws.MODELS)):
            record(
                f"{model}-{method}", timed(lambda m=model, x=method: test_laws.fit_tiny(m, x, **test_laws.short(m, x)))
            )
    rest = [each for each in arguments if each not in models]
    if models and not rest:
        return 0
    named = any("::" in each or each.startswith("@") for each in rest)
    return int(pytest.main(["-q", "-n0", "-m", "by_cost and not slow", *rest], plugins=[Trial(named)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
