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
        complete: (model) to whether it is about data without holes only.
    """

    site: str
    methods: tuple[str, ...]
    parameters: Callable[[Any, Values], Sequence[Tensor]]
    lines: tuple[Callable[..., Any], ...]
    program: Callable[[Posterior], Program] | None = None
    where: Callable[[Posterior], Tensor] | None = None
    complete: Callable[[Any], bool] | None = None

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


@dataclass(frozen=True)
class Drawn:
    """A distribution of some sites, by what it does.

    Attributes:
        sample: Returns one draw per chain, site -> [C, *shape].
        log_prob: Of such a draw, [C].
    """

    sample: Callable[[], Values]
    log_prob: Callable[[Values], Tensor]


@dataclass(frozen=True)
class Block:
    """Sites that Gibbs draws together, given all else.

    Attributes:
        sites: The sites, as far as the model has them.
        method: The method.
        distribution: (solver, values of all sites of the program, site -> [1, *shape]) to what it draws from, with
            ``sample`` and ``log_prob``, which takes site -> [1, *shape].
        program: The program with what the solver draws beside the sites; None: the model's own.
        complete: (model) to whether it is about data without holes only.
    """

    sites: tuple[str, ...]
    method: str
    distribution: Callable[[Any, Values], Any]
    program: Callable[[Posterior], Program] | None = None
    complete: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Step:
    """How EM or CAVI of a model goes about a step, where that is not as a program's own sites all at once.

    Attributes:
        method: The method.
        program: The program with what is summed out, or has a q of its own, beside the sites; None: the model's own.
        order: Of EM, sites that move together, one set after another; none: all of them together.
        nodes: Of CAVI, (solver, state) to points of each factor of q of one chain, which have the same weight and the
            expected statistics (``math/designs.py``): site -> [node, *shape], in the order in which factors are
            updated; None: the sites of the answer are independent.
        in_turn: Of CAVI, whether factors are updated in turn, each given the new ones before it; else all of them
            together, given the state.
        moved: (solver, state) to what ``step`` returns, without moves that leave the conditionals; None: ``step``.
        complete: (model) to whether the program cannot do with holes in the data.
        local: Of EM, (solver, state) to points of sites beside the state's whose posterior has no family here, such as
            their means: site -> [node, *shape].
    """

    method: str
    program: Callable[[Posterior], Program] | None = None
    order: tuple[tuple[str, ...], ...] = ()
    nodes: Callable[[Any, Any], Sequence[Values]] | None = None
    in_turn: bool = False
    moved: Callable[[Any, Any], tuple[Any, Any]] | None = None
    complete: Callable[[Any], bool] | None = None
    local: Callable[[Any, Any], Values] | None = None


def blocks_of(posterior: Posterior) -> tuple[Block, ...]:
    """Return what the model's folder says of blocks of sites that the posterior has, or an augmented program."""
    every: tuple[Block, ...] = getattr(beside(type(posterior.model), "updates"), "BLOCKS", ())
    return tuple(block for block in every if block.program or set(block.sites) & set(posterior.sites))


def step_of(model: Model, method: str) -> Step:
    """Return how a method of a model goes about a step."""
    module = beside(type(model), "updates")
    return next((each for each in getattr(module, "STEPS", ()) if each.method == method), Step(method))


@dataclass(frozen=True)
class Messages:
    """What the elements of a discrete site tell each other in one method of a model.

    Attributes:
        method: The method.
        site: The site.
        said: (solver, state) to the log messages of one chain, the largest 0, [to, from, value], elements of the site
            in order; 0 from whom none comes.
        beliefs: (solver, state) to the probabilities that these come to, [element, value].
        next: (solver, state) to the state after all messages have been sent once, as they follow from the old ones.
        lines: The functions that compute them.
        program: The program in which the elements are a site; None: the model's own.
    """

    method: str
    site: str
    said: Callable[[Any, Any], Tensor]
    beliefs: Callable[[Any, Any], Tensor]
    next: Callable[[Any, Any], Any]
    lines: tuple[Callable[..., Any], ...]
    program: Callable[[Posterior], Program] | None = None


def messages_of(model: Model, method: str) -> Messages | None:
    """Return what the model's folder says of a method that sends messages; None: it is no such method."""
    module = beside(type(model), "updates")
    return next((each for each in getattr(module, "MESSAGES", ()) if each.method == method), None)
