"""Which cases of a law the quick suite runs."""

from pathlib import Path

from tests.case import PAIRS
from tests.costs import FITS, HEAVY, LIMIT, LONG, Case, recorded, too_long

HERE = Path(__file__).parent


def test_long_cases_are_left_out_but_every_law_is_asked_of_every_model():
    cases = [Case(f"law[{model}-{method}]", "law", model, method) for model in "ab" for method in "xyz"]
    cases.append(Case("alone", "alone"))
    costs = {"a-x": (LIMIT + 0.2) / FITS, "a-y": (LIMIT + 0.1) / FITS, "a-z": 0.9 * LIMIT / FITS, "alone": LONG}
    assert too_long(cases, costs) == {"law[a-x]", "law[a-y]"}
    assert too_long(cases, costs | {"law[a-x]": LIMIT}) == {"law[a-y]"}
    assert too_long(cases, costs | {f"b-{method}": 1.5 * LIMIT / FITS for method in "xyz"}) == {
        "law[a-x]", "law[a-y]", "law[b-y]", "law[b-z]"
    }  # fmt: skip


def test_what_is_heavy_is_asked_of_the_cheapest_model_only():
    cases = [Case(f"{law}[{model}-{method}]", law, model, method) for law in "mn" for model in "ab" for method in "xy"]
    costs = {f"m[{model}-{method}]": HEAVY + 1 for model in "ab" for method in "xy"} | {"m[b-x]": HEAVY + 0.5}
    assert too_long(cases, costs) == {"m[a-x]", "m[a-y]", "m[b-y]"}
    assert too_long(cases, costs | {"m[a-y]": HEAVY}) == {"m[a-x]", "m[b-x]", "m[b-y]"}
    assert too_long(cases, dict.fromkeys(costs, HEAVY + 1)) == {"m[a-y]", "m[b-x]", "m[b-y]"}, "one is left"


def test_what_takes_long_is_left_out_alone_or_not():
    cases = [Case("alone", "alone"), Case("two[a]", "two", "a"), Case("two[b]", "two", "b")]
    assert too_long(cases, {"alone": LONG + 1, "two[a]": LONG + 1, "two[b]": LONG + 2}) == {each.name for each in cases}
    assert too_long(cases, {"alone": LONG + 1, "two[a]": LONG + 1, "two[b]": LONG}) == {"alone", "two[a]"}


def test_what_is_recorded_is_still_there():
    """Else `python -m tests.costs` records anew."""
    pairs = {"-".join(pair) for pair in PAIRS}
    for function in {name.partition("[")[0] for name in recorded() if name not in pairs}:
        path, _, name = function.partition("::")
        assert f"def {name}(" in (HERE.parent / path).read_text(), name
