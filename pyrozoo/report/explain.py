"""A page that derives the updates of a method: each site's conditional, where its numbers come from, and the check."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrozoo.contracts.posterior import Posterior
from pyrozoo.contracts.updates import Augmented, Update, messages_of, updates_of
from pyrozoo.core.draws import Values
from pyrozoo.core.errors import NotApplicable
from pyrozoo.core.picture import Picture
from pyrozoo.core.seeds import seeded
from pyrozoo.inference.derived import cavi, em
from pyrozoo.program.conditionals.blocks import owners
from pyrozoo.program.conditionals.conditional import Conditional, Conditionals
from pyrozoo.program.conditionals.families import NormalFamily
from pyrozoo.program.conditionals.held import AGREE, apart, held
from pyrozoo.program.conditionals.structure import Structure
from pyrozoo.report.explain_checks import checks_of
from pyrozoo.report.explain_messages import told_messages
from pyrozoo.report.explanation import Check, Explanation, Section, Traced, compared, flat, written
from pyrozoo.report.html import figures, number, page, png
from pyrozoo.report.mathematics import drawn, name
from pyrozoo.report.plates import draw_plates

SHOWN, MOST_CELLS = 3, 400
"""Elements of a site whose numbers are traced; cells of a table that is shown."""

DENSITY = {
    "Normal": r"\exp\,(-\frac{1}{2}\, x^T \Lambda\, x + h^T x),\quad \Lambda = \mathrm{precision},"
    r"\ h = \mathrm{precision} \times \mathrm{mean}",
    "Gamma": r"x^{\mathrm{shape}-1}\, e^{-\mathrm{rate}\cdot x}",
    "InverseGamma": r"x^{-\mathrm{shape}-1}\, e^{-\mathrm{scale}/x}",
    "Beta": r"x^{\mathrm{alpha}-1}\,(1-x)^{\mathrm{beta}-1}",
    "Dirichlet": r"\prod_k x_k^{\mathrm{concentration}_k-1}",
    "Wishart": r"|X|^{(\mathrm{degrees}-n-1)/2}\, e^{-\frac{1}{2}\mathrm{tr}(S\,X)},\quad S = \mathrm{inverse\ scale}",
    "InverseWishart": r"|X|^{-(\mathrm{degrees}+n+1)/2}\, e^{-\frac{1}{2}\mathrm{tr}(S\,X^{-1})},"
    r"\quad S = \mathrm{scale}",
}
"""Family -> its density, up to a constant."""


CALLED = {"weighted": r"(\mathrm{precision} \times \mathrm{mean})"}
"""Parameter -> its name in mathematics, where that is another."""


ROUNDING = 1e-12
"""What is smaller, against the parameter, is rounding."""


@dataclass(frozen=True)
class Does:
    """What a method does with a site.

    Attributes:
        known: With one whose conditional has a family.
        discrete: With a discrete one.
        other: With one that is neither.
    """

    known: str
    discrete: str
    other: str


WHAT = {
    "gibbs": Does("gibbs draws it", "gibbs draws it", "NUTS moves it"),
    "em": Does(
        "the M-step goes to its mode, with expectations over the discrete sites in its parameters",
        "the E-step has these probabilities", "the M-step climbs by Newton's method",
    ),
    "cavi": Does(
        "its factor of q has the expectations of these parameters", "its factor of q has the expected logarithms",
        "no factor of q has an exact update",
    ),
}  # fmt: skip
"""By method."""


def explain_posterior(posterior: Posterior, method: str, solver: Any = None, seed: int = 0) -> Explanation:
    """Explain the updates of a method.

    Args:
        posterior: A model given few data: numbers are traced.
        method: ``gibbs``, ``em``, ``cavi``, or one that sends messages.
        solver: The hand-built solver; None: the method is derived.
        seed: Of the state at which numbers are traced.

    Raises:
        NotApplicable: The method is none of these, or its messages do not go round by pairs.
    """
    augmented, messages = False, None if solver is None else messages_of(posterior.model, method)
    if messages is not None:
        section, checks = told_messages(posterior, messages, solver, seed)
        sections, augmented = [section], messages.program is not None
    elif method in WHAT:
        sections, augmented = _sections(posterior, method, solver, seed)
        checks = checks_of(posterior, method, solver or _derived(posterior, method), solver is not None, seed)
    else:
        raise NotApplicable(f"{method} cannot be explained: {posterior.model.name} says nothing of its messages")
    answer = _answer(method, sections, checks, solver is not None)
    title = f"{posterior.model.name} by {method}"
    pictures = [
        Picture("plates", "The program: its sites, what depends on what, and its plates.", draw_plates(posterior))
    ]
    html = page(
        "explain.html.j2",
        {
            "title": title, "answer": answer, "sections": sections, "checks": checks, "drawn": drawn,
            "failed": False in [*(each.same for each in sections), *(each.same for each in checks)],
            "messages": messages is not None, "compared": any(each.same is not None for each in sections),
            "pictures": figures([(picture, png(picture)) for picture in pictures]), "table": _table(posterior),
            "derived": augmented,
        },
    )  # fmt: skip
    return Explanation(title, answer, sections, checks, html)


def _sections(posterior: Posterior, method: str, solver: Any, seed: int) -> tuple[list[Section], bool]:
    """Return what is said of every site, and whether some are those of an augmented program."""
    updates = {} if solver is None else {update.site: update for update in updates_of(posterior.model, method)}
    programs = {None: posterior.program} | {u.program: u.program_of(posterior) for u in updates.values()}
    base = None if solver is None else _base(posterior, method)
    if base is not None:
        programs[base.program] = base.program_of(posterior)
    first = base.program if base is not None else None
    found = {key: Conditionals(program, posterior.data) for key, program in programs.items()}
    values = _state(found, seed)
    q = _Q.of(Augmented(posterior, programs[first]), seed) if method == "cavi" and not updates else None
    every = dict.fromkeys(site for conditionals in found.values() for site in conditionals.joint.sites)
    names = [site for site in every if site in updates or site in found[first].joint.sites]
    sections = []
    for site in names:
        update = updates.get(site)
        conditionals = found[update.program if update else first]
        given = {each: values[each] for each in conditionals.joint.sites}
        kind = _Expected if method == "em" and not conditionals.joint.discrete(site) else _Told
        kind = _Averaged if q is not None and update is None else kind
        told = kind(conditionals, site, given, method, posterior, update, solver)
        told.q = q
        sections.append(told.section())
    return sections, first is not None


def _derived(posterior: Posterior, method: str) -> Any:
    """Return the solver that follows from the program; None: there is none."""
    try:
        return None if method == "gibbs" else {"em": em, "cavi": cavi}[method].Solver(posterior)
    except NotApplicable:
        return None


def _base(posterior: Posterior, method: str) -> Update | None:
    """Return an update whose program has in it what solvers of the method draw beside the model's own sites, or None.

    EM sums that out: a program of which no update of EM is stated is of no use to it.
    """
    every = updates_of(posterior.model, "em" if method == "em" else None)
    return next((update for update in every if update.program is not None), None)


def _state(found: Mapping[Any, Conditionals], seed: int) -> dict[str, Tensor]:
    """Return one state of all sites of all programs."""
    with seeded(seed), torch.no_grad(), pyro.validation_enabled(False):
        values: dict[str, Tensor] = {}
        for conditionals in found.values():
            values = {**conditionals.draw(), **values}
    return values


def _answer(method: str, sections: Sequence[Section], checks: Sequence[Check], built: bool) -> str:
    compared = [section for section in sections if section.same is not None]
    held = [check for check in checks if check.same is not None]
    if wrong := [section.site for section in compared if not section.same]:
        return f"The hand-built update of {', '.join(wrong)} is not the one that follows from the program."
    if failed := [check.said for check in held if not check.same]:
        return f"It does not hold: {failed[0][0].lower()}{failed[0][1:]}."
    more = f" {len(held)} checks of the whole method hold." if len(held) > 1 else ""
    if compared:
        many = f"{len(compared)} hand-built updates are those that follow"
        return (
            f"{'One hand-built update is the one that follows' if len(compared) == 1 else many} from the program.{more}"
        )
    exact = sum(bool(section.traced) for section in sections)
    none = "; no hand-built update of one site is stated" if built else ""
    return f"{exact} of {len(sections)} sites have a conditional that {method} knows exactly{none}.{more}"


def _table(posterior: Posterior) -> list[list[str]]:
    """Return the data as rows of words, where they are a small table."""
    data = posterior.data
    value = getattr(data, "values", None)
    if not hasattr(data, "filled") or not isinstance(value, Tensor) or value.ndim != 2 or value.numel() > MOST_CELLS:
        return []
    columns = list(getattr(data, "column_labels", ())) or [str(i) for i in range(value.shape[1])]
    if len(columns) != value.shape[1]:
        return []
    rows = list(getattr(data, "row_labels", ())) or [str(i) for i in range(len(value))]
    cells = [[number(float(each)) or "missing" for each in row] for row in value]
    return [["", *map(str, columns)], *([str(row), *each] for row, each in zip(rows, cells, strict=False))]


@dataclass
class _Told:
    """Makes the section of one site."""

    conditionals: Conditionals
    site: str
    values: Values
    method: str
    posterior: Posterior
    update: Update | None
    solver: Any
    q: Any = None

    @property
    def structure(self) -> Structure:
        return self.conditionals.structures[self.site]

    def section(self) -> Section:
        """Return it."""
        structure = self.structure
        if structure.kind == "other":
            nearest = f" What makes it conjugate, {structure.nearest}." if structure.nearest else ""
            return Section(self.site, f"not conjugate, {structure.reason}: {WHAT[self.method].other}.{nearest}")
        conditional = self._conditional()
        check, same, built = self._check()
        return Section(
            self.site, self._sentence(), self._formulas(conditional), self._traced(conditional, built), self._lines(),
            check, same,
        )  # fmt: skip

    def _conditional(self) -> Conditional:
        return self.conditionals(self.site, self.values)

    def _sentence(self) -> str:
        structure, family = self.structure, self.structure.family
        if structure.values is not None:
            return f"discrete, with {len(structure.values)} values: {WHAT[self.method].discrete}."
        assert family is not None
        count, size = structure.blocks.count, structure.blocks.size
        blocks = "one block" if count == 1 else f"{count} independent blocks"
        numbers = f" of {size} numbers each" if size > 1 and isinstance(family, NormalFamily) else ""
        return f"{family.name}, {blocks}{numbers}: {WHAT[self.method].known}."

    def _check(self) -> tuple[str, bool | None, Sequence[Tensor]]:
        if self.update is None:
            return "", None, ()
        where = None if self.update.where is None else self.update.where(self.posterior)
        found = held(self.conditionals, self.site, self.values, partial(self.update.parameters, self.solver), where)
        largest = max(found.difference, default=0.0)
        built = found.built
        said = "the derived one" if found.same else "another"
        return f"The hand-built update is {said}: the largest relative difference is {largest:.1e}.", found.same, built

    def _formulas(self, conditional: Conditional) -> list[str]:
        structure, site = self.structure, name(self.site)
        if structure.family is None:
            terms = r"\, +\, ".join(
                self._sum(term, r"\log\, p(" + name(term) + r"\,|\,\cdots)") for term in conditional.contributions
            )
            return [rf"\log\, p({site} = k \,|\, \cdots) = {terms} + \mathrm{{const}}"]
        result = [rf"p({site} = x \,|\, \cdots)\; \propto\; {DENSITY[structure.family.name]}"]
        for i, parameter in enumerate(conditional.names):
            letter = CALLED.get(parameter, name(parameter))
            parts = [
                self._sum(term, rf"{letter}_{{{name(term)}}}")
                for term, each in conditional.contributions.items()
                if term == self.site or bool((each[i].abs() > 1e-12 * (1 + each[i].abs().amax())).any())
            ]
            result.append(rf"{letter} = " + r"\, +\, ".join(parts))
        return result

    def _sum(self, term: str, body: str) -> str:
        plates = self._plates(term)
        return rf"\sum_{{{name(', '.join(plates))}}} {body}" if plates and term != self.site else body

    def _plates(self, term: str) -> list[str]:
        joint = self.conditionals.joint
        node = joint.nodes.get(term) or joint.data_nodes[term]
        mine = {frame.name for frame in joint.nodes[self.site]["cond_indep_stack"]}
        return [frame.name for frame in node["cond_indep_stack"] if frame.name not in mine and frame.size > 1]

    def _traced(self, conditional: Conditional, built: Sequence[Tensor]) -> list[Traced]:
        structure, result = self.structure, []
        batch, cells = structure.blocks.batch, self._cells()
        masked = self.update is not None and self.update.where is not None
        for nth, place in enumerate(self._chosen(structure.blocks.count)):
            element = self._called(place)
            for i, parameter in enumerate(conditional.names):
                value = flat(conditional.parameters[i], batch, place)
                parts = self._parts(conditional, i, place, cells)
                other = None if not built else built[i][nth] if masked else flat(built[i], batch, place)
                if structure.family is None:
                    chance = value.softmax(-1)
                    parts, parameter, value = f"{written(value)} = {parts}; so p =", "p", chance
                    other = None if other is None else other.exp()
                result.append(compared(Traced(element, parameter, written(value), parts), value, other))
            result += self._more(element, batch, place)
        return result

    def _more(self, element: str, batch: tuple[int, ...], place: int) -> list[Traced]:
        """Return what else is traced of an element."""
        return []

    def _parts(self, conditional: Conditional, i: int, place: int, cells: Mapping[str, Tensor]) -> str:
        """Return what a parameter of an element is made of."""
        structure = self.structure
        size = 1 + flat(conditional.parameters[i], structure.blocks.batch, place).abs().amax()
        offset = 0.0 if structure.family is None else structure.family.offset(structure.event_size)[i]
        said = []
        for term, each in conditional.contributions.items():
            value = flat(each[i], structure.blocks.batch, place)
            value = value + offset if term == self.site else value
            value = torch.where(value.abs() > ROUNDING * size, value, 0.0)
            if term == self.site or bool((value != 0).any()):
                said.append(f"{written(value)} {self._from(term, cells, place)}")
        return " + ".join(said)

    def _chosen(self, count: int) -> list[int]:
        """Return the elements shown: the first ones, or those that the update is about."""
        places = list(range(count))
        if self.update is not None and self.update.where is not None:
            places = self.update.where(self.posterior).flatten().nonzero().flatten().tolist()
        return places[:SHOWN]

    def _from(self, term: str, cells: Mapping[str, Tensor], place: int) -> str:
        if term == self.site:
            return "from the prior"
        known = cells.get(term)
        if known is None:
            return f"from {term}"
        many = int(known[place])
        return f"from {many} {'cell' if many == 1 else 'cells'} of {term}"

    def _cells(self) -> dict[str, Tensor]:
        """Return how many cells of every site have to do with each block, where that is known."""
        structure = self.structure
        with torch.no_grad(), pyro.validation_enabled(False), seeded(0):
            found = owners(self.conditionals.joint, self.site, self.values, structure.blocks)
        return {
            term: torch.bincount(each.owner.flatten(), minlength=each.count + 1)[: each.count]
            for term, each in (found or {}).items()
        }

    def _called(self, place: int) -> str:
        structure, dims = self.structure, self.conditionals.joint.dims[self.site]
        shape = structure.blocks.shape
        kept = [i for i in range(len(shape)) if i - len(shape) not in structure.blocks.within]
        words, left = [], place
        for i in reversed(kept):
            left, at = divmod(left, shape[i])
            if shape[i] > 1:
                label, dim = self._label(dims[i], at), dims[i].replace("_", " ").strip()
                words.append(label if label.startswith(dim) else f"{dim} {label}")
        return ", ".join(reversed(words)) or "all"

    def _label(self, dim: str, at: int) -> str:
        labels = getattr(self.posterior.data, f"{dim}_labels", None) if dim in ("row", "column") else None
        return str(labels[at]) if labels is not None and len(labels) > at else str(at + 1)

    def _lines(self) -> dict[str, str]:
        if self.update is None:
            return {}
        result = {}
        for function in self.update.lines:
            plain = inspect.unwrap(getattr(function, "__func__", function))
            place = f"{plain.__module__.replace('.', '/')}.py, {plain.__qualname__}"
            result[place] = textwrap.dedent(inspect.getsource(plain))
        return result


class _Expected(_Told):
    """Makes the section of a site that EM moves: contributions are expectations over the discrete sites."""

    @cached_property
    def solver_of_program(self) -> em.Solver:
        """The derived solver."""
        return em.Solver(Augmented(self.posterior, self.conditionals.program))

    @cached_property
    def state(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Values of the sites of one chain, and posterior probabilities of the discrete ones."""
        values = {site: self.values[site].unsqueeze(0) for site in self.solver_of_program.sites}
        return values, self.solver_of_program.expectation.weights(values)[1]

    @cached_property
    def built(self) -> Tensor:
        """Where the hand-built solver goes, [1, *shape]."""
        assert self.update is not None
        (found,) = self.update.parameters(self.solver, self.state[0])
        return found

    def _more(self, element: str, batch: tuple[int, ...], place: int) -> list[Traced]:
        structure = self.structure
        mode = structure.shaped(self.solver_of_program.best(self.site, *self.state)[0])
        value = flat(mode, batch, place)
        other = None if self.update is None else flat(structure.shaped(self.built[0]), batch, place)
        return [compared(Traced(element, "mode", written(value), "where the density is highest"), value, other)]

    def _conditional(self) -> Conditional:
        structure, expectation, (values, weights) = self.structure, self.solver_of_program.expectation, self.state
        family = structure.family
        assert family is not None
        points = structure.points(values[self.site])
        contributions = {}
        for i, term in enumerate(expectation.names(values)):
            if term in structure.terms:
                alone = [each if i == j else torch.zeros_like(each) for j, each in enumerate(weights)]
                slopes = expectation.slopes(self.site, values, points, alone)
                found = structure.read(points, slopes)
                contributions[term] = tuple(each[0] for each in found)
        return Conditional(structure, {term: contributions[term] for term in structure.terms})

    def _from(self, term: str, cells: Mapping[str, Tensor], place: int) -> str:
        return "from the prior" if term == self.site else f"expected from {term}"

    def _cells(self) -> dict[str, Tensor]:
        return {}

    def _check(self) -> tuple[str, bool | None, Sequence[Tensor]]:
        if self.update is None:
            return "", None, ()
        values, weights = self.state
        derived = self.solver_of_program.best(self.site, values, weights)
        difference = apart(derived, self.built)
        said = "where the derived one does" if difference <= AGREE else "elsewhere"
        return f"The hand-built M-step goes {said}: the largest relative difference is {difference:.1e}.", \
            difference <= AGREE, ()  # fmt: skip


@dataclass(frozen=True)
class _Q:
    """Factors of all sites.

    Attributes:
        solver: The derived solver.
        factors: Site -> parameters, of one chain.
    """

    solver: cavi.Solver
    factors: dict[str, Sequence[Tensor]]

    @classmethod
    def of(cls, posterior: Posterior, seed: int) -> _Q | None:
        """Return those after a step; None: expectations are not exact."""
        try:
            with seeded(seed), pyro.validation_enabled(False):
                solver = cavi.Solver(posterior)
                state, _ = solver.step(solver.init(1))
        except NotApplicable:
            return None
        return cls(solver, solver.factors(state))


class _Averaged(_Told):
    """Makes the section of a site whose factor has an exact update: contributions are expectations."""

    def _conditional(self) -> Conditional:
        with torch.no_grad(), pyro.validation_enabled(False):
            found = self.q.solver.contributions(self.site, self.q.factors)
        return Conditional(self.structure, {term: tuple(e[0] for e in each) for term, each in found.items()})

    def _from(self, term: str, cells: Mapping[str, Tensor], place: int) -> str:
        return "from the prior" if term == self.site else f"expected from {term}"

    def _cells(self) -> dict[str, Tensor]:
        return {}
