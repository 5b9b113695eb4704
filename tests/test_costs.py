"""Which cases of a law the quick suite runs."""

from pathlib import Path

from tests.case import PAIRS
from tests.costs import FITS, LIMIT, Case, recorded, too_long

HERE = Path(__file__).parent


def test_long_cases_are_left_out_but_every_law_is_asked_of_every_model():
    cases = [Case(f"law[{model}-{method}]", f"law {model}", f"{model}-{method}") for model in "ab" for method in "xyz"]
    cases.append(Case("alone", "alone ", ""))
    costs = {"a-x": (LIMIT + 2) / FITS, "a-y": (LIMIT + 1) / FITS, "a-z": LIMIT / FITS, "alone": LIMIT + 9}
    assert too_long(cases, costs) == {"law[a-x]", "law[a-y]"}
    assert too_long(cases, costs | {"law[a-x]": LIMIT}) == {"law[a-y]"}
    assert too_long(cases, costs | {f"b-{method}": LIMIT for method in "xyz"}) == {
        "law[a-x]", "law[a-y]", "law[b-y]", "law[b-z]"
    }  # fmt: skip


def test_what_is_recorded_is_still_there():
    """Else `python -m tests.costs` records anew."""
    pairs = {"-".join(pair) for pair in PAIRS}
    for function in {name.partition("[")[0] for name in recorded() if name not in pairs}:
        path, _, name = function.partition("::")
        assert f"def {name}(" in (HERE.parent / path).read_text(), name
