"""Belief propagation on a page: what elements of a site tell each other, and what they come to believe."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Messages
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.state import take
from pyrozoo.program.conditionals.cells import Joint
from pyrozoo.program.conditionals.held import AGREE, apart
from pyrozoo.program.conditionals.pairs import Pairs
from pyrozoo.report.explanation import Check, Section, Traced, compared, written

SWEEPS, MOST = 2, 2000
"""Sweeps from random messages to those that are traced, and at most to those that stand still."""

SHOWN, STILL = 2, 1e-12

FORMULAS = [
    r"\log\, m_{i \to j}(l) = \log\, \sum_k \exp\,(\psi_{ij}(k, l) + \varphi_i(k)"
    r" + \sum_{n \neq j} \log\, m_{n \to i}(k)) + \mathrm{const}",
    r"\log\, b_i(k) = \varphi_i(k) + \sum_n \log\, m_{n \to i}(k) + \mathrm{const}",
]
"""Of messages and beliefs: phi is what is said of an element alone, psi what is said of two."""


def told_messages(posterior: Posterior, said: Messages, solver: Any, seed: int) -> tuple[Section, list[Check]]:
    """Return what is said of the site whose elements send messages, and checks of the whole.

    Args:
        posterior: A model given few data.
        said: What the model's folder says of its messages.
        solver: The hand-built one.
        seed: Of the messages.
    """
    program = posterior.program if said.program is None else said.program(posterior)
    with seeded(seed), torch.no_grad(), pyro.validation_enabled(False):
        joint = Joint(program, posterior.data)
        pairs = Pairs.of(joint, said.site, joint.draw())
        state = take(solver.init(2), torch.tensor([1]))  # the first says nothing yet
        for _ in range(SWEEPS):
            state, _ = solver.step(state)
        old, new = said.said(solver, state), said.said(solver, said.next(solver, state))
        built = said.beliefs(solver, state)
        difference = max(apart(pairs.sent(old), new), apart(pairs.beliefs(old).softmax(-1), built))
        checks = _checks(pairs, said, solver, state)
    same, count = difference <= AGREE, int(pairs.joined.sum()) // 2
    word = "those that follow" if same else "others than those that follow"
    sentence = (
        f"discrete, with {len(pairs.values)} values. Its {len(pairs.joined)} elements act on each other in {count} "
        "pairs. A belief is what is said of an element alone, times all messages that come in. A conditional has the "
        "neighbours' values in the messages' place."
    )
    section = Section(
        said.site, sentence, FORMULAS, _traced(pairs, old, new, built, _names(joint, said.site)), _lines(said.lines),
        f"Messages and beliefs are {word} from the program: the largest relative difference is {difference:.1e}.", same,
    )  # fmt: skip
    return section, checks


def _checks(pairs: Pairs, said: Messages, solver: Any, state: Any) -> list[Check]:
    """Go on until messages stand still; hold the derived ones to that, and beliefs to exact probabilities."""
    for _ in range(MOST):
        state, info = solver.step(state)
        if info.residual is not None and float(info.residual.max()) < STILL:
            break
    messages = said.said(solver, state)
    moved = float((pairs.sent(messages) - messages).abs().max())
    found = [
        Check(
            "Where the hand-built messages stand still, those that follow from the program do",
            f"they change by {moved:.1e}", moved < 1e-9,
        )
    ]  # fmt: skip
    if (exact := pairs.marginals()) is not None:
        beliefs = pairs.beliefs(messages).softmax(-1)
        off = float((beliefs - exact).abs().max())
        loops = int(pairs.joined.sum()) // 2 >= len(pairs.joined)
        why = "messages go round in loops, and beliefs are near" if loops else "there is no loop, and beliefs are exact"
        told = f"{written(beliefs[0])} of the first, where {written(exact[0])} is exact; to {off:.1e} of all: {why}"
        word = "There, beliefs are the probabilities that a sum over all values gives"
        found.append(Check(word, told, None if loops else off < 1e-9))
    return found


def _traced(
    pairs: Pairs, old: Tensor, new: Tensor, built: Tensor, called: Callable[[int], str]
) -> list[Traced]:  # fmt: skip
    """Return beliefs of the first elements, and the messages that they send next."""
    result, beliefs, sent = [], pairs.beliefs(old), pairs.sent(old)
    for i in range(min(SHOWN, len(beliefs))):
        near = pairs.joined[i].nonzero().flatten().tolist()
        alone = [f"{written(each[i])} from {term}" for term, each in pairs.single.items() if bool((each[i] != 0).any())]
        parts = " + ".join([*alone, *(f"{written(old[i, j])} from {called(j)}" for j in near)])
        belief = beliefs[i].softmax(-1)
        result.append(
            compared(Traced(called(i), "belief", written(belief), f"exp({parts}), normalised"), belief, built[i])
        )
        for j in near:
            knows = pairs.beliefs(old)[i] - old[i, j]
            others = " and ".join(called(n) for n in near if n != j)
            heard = f", with what it hears from {others}" if others else ""
            parts = f"a sum over its own values, with \u03c8: it knows {written(knows)}{heard}"
            message = Traced(called(i), f"message to {called(j)}", written(sent[j, i]), parts)
            result.append(compared(message, sent[j, i], new[j, i]))
    return result


def _names(joint: Joint, site: str) -> Callable[[int], str]:
    """Return what says which element a place is."""
    dims, shape = joint.dims[site], joint.nodes[site]["value"].shape

    def called(place: int) -> str:
        at = [int(each) for each in torch.unravel_index(torch.tensor(place), shape)]
        return ", ".join(f"{dim} {i + 1}" for dim, i, size in zip(dims, at, shape, strict=True) if size > 1)

    return called


def _lines(functions: tuple[Callable[..., Any], ...]) -> dict[str, str]:
    return {
        f"{each.__module__.replace('.', '/')}.py, {each.__qualname__}": textwrap.dedent(inspect.getsource(each))
        for each in map(inspect.unwrap, functions)
    }
