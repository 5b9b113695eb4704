"""What a hand-built solver says of a conditional, so that it can be held to the one that is derived from the program.

A model's folder may hold ``updates.py`` with ``UPDATES``. A law compares each with the conditional derived from the log
joint, and ``pyrozoo explain`` shows both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyrozoo.contracts.model import Model, beside
from pyrozoo.contracts.posterior import Posterior
from pyrozoo.core.draws import Values
from pyrozoo.program.trace import Program


@dataclass(frozen=True)
class Update:
    """One site's conditional, as solvers of a model compute it.

    Attributes:
        site: The site.
        methods: The methods whose solvers do.
        parameters: (solver, values of all sites of the program, site -> [chain, *shape]) to the parameters that the
            family of the site has (``Family.parameters``), [chain, ...]; of a discrete site its log probabilities, up
            to a constant, [chain, *batch, value]. Of EM, where a site that is not discrete goes, [chain, *shape].
        lines: The functions that compute it.
        program: The program with what the solver draws beside the sites; None: the model's own.
        where: (posterior) to a mask of the elements that it is about, [*batch]; None: all.
    """

    site: str
    methods: tuple[str, ...]
    parameters: Callable[[Any, Values], Sequence[Tensor]]
    lines: tuple[Callable[..., Any], ...]
    program: Callable[[Posterior], Program] | None = None
    where: Callable[[Posterior], Tensor] | None = None

    def program_of(self, posterior: Posterior) -> Program:
        """Return the program whose conditional it is."""
        return posterior.program if self.program is None else self.program(posterior)


class Augmented(Posterior):
    """A posterior with another program for the same sites.

    Args:
        posterior: The posterior.
        program: The program.
    """

    def __init__(self, posterior: Posterior, program: Program):
        super().__init__(posterior.model, posterior.data)
        self.of_own, self.augmented = posterior, program

    @property
    def program(self) -> Program:
        """The program."""
        return self.augmented

    def initial(self, chains: int) -> Values:
        """Return the posterior's own starting points."""
        return self.of_own.initial(chains)


def updates_of(model: Model, method: str | None = None) -> tuple[Update, ...]:
    """Return what the model's folder says of the updates of a method; None: of all methods."""
    module = beside(type(model), "updates")
    every: tuple[Update, ...] = () if module is None else module.UPDATES
    return tuple(update for update in every if method in (None, *update.methods))
