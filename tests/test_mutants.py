"""Changes of the code that tests should notice (``benchmarks.mutation``): what is made of a source."""

from __future__ import annotations

import ast
from pathlib import Path

from benchmarks.mutants import mutants, planted

ROOT = Path(__file__).resolve().parents[1]

SOURCE = '''
"""Words are left alone."""

def f(x: int, *, wide: bool = True) -> float:
    """So are these: 1 + 1."""
    if x < 3 and not wide:
        raise ValueError(f"{x} + 1")
    return sorted(g(x, -x)) + x.sqrt() * 2
'''


def test_every_change_is_small_and_can_be_read(tmp_path):
    (tmp_path / "f.py").write_text(SOURCE)
    found = mutants(tmp_path, "f.py")
    changes = {(each.before, each.after) for each in found}
    for expected in (
        ("x < 3", "(x <= 3)"), ("3", "2"), ("3", "4"), ("x < 3 and not wide", "(x < 3 or not wide)"), ("True", "False"),
        ("not wide", "wide"), ("g(x, -x)", "(g(-x, x))"), ("-x", "x"), ("x.sqrt()", "x"),
        ("x.sqrt() * 2", "(x.sqrt() / 2)"), ("sorted(g(x, -x))", "(g(x, -x))"),
    ):  # fmt: skip
        assert expected in changes
    assert not any("Words" in before or "ValueError" in before or before == "int" for before, _ in changes)
    original = SOURCE.encode()
    for each in found:
        changed = each.source(original)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(original))
        assert each.function == "f"
    assert len({each.key for each in found}) == len(found)


def test_bugs_that_went_unnoticed_once_can_still_be_planted():
    """Where code has moved on, ``benchmarks/planted.py`` moves with it: an error says what is where no more."""
    for each in planted(ROOT):
        ast.parse(each.source((ROOT / each.file).read_bytes()))
