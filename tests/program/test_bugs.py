"""Complete conditionals of programs that nobody here has thought out: the BUGS examples, and models of posteriordb."""

from __future__ import annotations

from pathlib import Path

import pyro
import pytest
import torch

from pyrozoo.contracts.model import Program
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.data.arguments import Arguments
from pyrozoo.inference.derived import gibbs
from pyrozoo.program.conditionals.conditional import Conditionals
from tests.bugs import posteriordb, programs
from tests.bugs.example import examples

pytestmark = pytest.mark.usefixtures("unchecked")

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {**examples(programs), **examples(posteriordb)}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def said(structure) -> str | None:
    if structure.kind == "other":
        return None
    if structure.kind == "discrete":
        return "enumeration"
    size = structure.blocks.size if structure.family.name == "Normal" else 1
    return structure.family.name + (f" of {size}" if size > 1 else "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_families_are_those_known_by_hand(name):
    example = EXAMPLES[name]
    found = Conditionals(example.run).structures.found
    assert {site: said(each) for site, each in found.items()} == example.families
    # A refusal names the density that no family has, or the support.
    for site, word in example.why.items():
        assert f": {word} is" in found[site].reason or f"has {word}" in found[site].reason, (site, found[site].reason)
    assert {site for site, family in example.families.items() if family is None} == set(example.why)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_says_what_is_known(name):
    assert EXAMPLES[name].row(name) in DOCS.joinpath("derived.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rats", "pumps", "stacks_normal", "stacks_ridge", "surgical_apart", "leuk"])
def test_gibbs_finds_what_is_published(name):
    pyro.set_rng_seed(1)
    solver = gibbs.Solver(Posterior.of(Program(EXAMPLES[name].run), Arguments(args=())))
    state, kept = solver.init(32), []
    for sweep in range(600):
        state, _ = solver.step(state)
        if sweep >= 300:
            kept.append(EXAMPLES[name].quantities(solver.layout.values(state)))
    draws = {quantity: torch.stack([each[quantity] for each in kept], 1).numpy() for quantity in kept[0]}
    assert EXAMPLES[name].from_published(draws) < 4.5
