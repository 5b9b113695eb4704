"""Write the C source of a density: loops of one shape become one, and only what others read is kept in memory."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from importlib.resources import files

import torch

from pyrozoo.compiler.layout import SHORT, laid_out
from pyrozoo.compiler.lowering import Lowering
from pyrozoo.compiler.steps import (
    C_TYPES,
    Batched,
    Gather,
    Literal,
    Operand,
    Pointwise,
    Product,
    Reduce,
    Scatter,
    Step,
    View,
)

ALIGNMENT = 64

STARTS = {"sum": "0", "prod": "1", "any": "0", "all": "1"}
EXTREMES = {
    "double": ("-INFINITY", "INFINITY"), "float": ("-INFINITY", "INFINITY"), "long long": ("LLONG_MIN", "LLONG_MAX"),
    "int": ("INT_MIN", "INT_MAX"), "short": ("SHRT_MIN", "SHRT_MAX"), "signed char": ("SCHAR_MIN", "SCHAR_MAX"),
    "unsigned char": ("0", "UCHAR_MAX"),
}  # fmt: skip
COMBINE = {
    "sum": "{0} + {1}", "prod": "{0} * {1}", "max": "({1} > {0} ? {1} : {0})", "min": "({1} < {0} ? {1} : {0})",
    "any": "({0} | ({1} != 0))", "all": "({0} & ({1} != 0))",
}  # fmt: skip
SIMD = {"sum": "+", "prod": "*", "max": "max", "min": "min", "any": "|", "all": "&"}


def _first(step: Reduce) -> str:
    """Return what a reduction begins with."""
    return STARTS.get(step.kind) or EXTREMES[C_TYPES[step.out.dtype]][step.kind == "min"]


def _place(view: View) -> tuple[int, tuple[int, ...], int]:
    """Return what tells two windows of one shape apart."""
    strides = tuple(0 if n == 1 else s for n, s in zip(view.shape, view.strides, strict=True))
    return view.buffer, strides, view.offset


def _before(steps: list[Step]) -> list[set[int]]:
    """Return for every step those that must come before it, by what they read and write."""
    written: dict[int, int] = {}
    read: dict[int, list[int]] = defaultdict(list)
    result: list[set[int]] = []
    for i, step in enumerate(steps):
        first = {written[view.buffer] for view in step.reads() if view.buffer in written}
        buffer = step.writes().buffer
        first |= set(read[buffer]) | ({written[buffer]} if buffer in written else set())
        for view in step.reads():
            read[view.buffer].append(i)
        written[buffer], read[buffer] = i, []
        # Writers of parts of one buffer (cat, padding) stand in order, so the last stands for all of them.
        result.append(first - {i})
    return result


FUSIBLE = Pointwise | Reduce
"""What can share a loop."""


def _joins(step: Step, other: Step) -> bool:
    """Return whether a step may follow another one inside the same loop: element by element, on the same elements."""
    if not isinstance(other, Pointwise):
        return False
    shared = other.out.buffer
    touched = [view for view in (*step.reads(), step.writes()) if view.buffer == shared]
    touched += [view for view in other.reads() if view.buffer == step.writes().buffer]
    operands = (*getattr(step, "operands", ()), *other.operands)
    gathered = {operand.base for operand in operands if isinstance(operand, Gather)}
    own = {shared: _place(other.out), step.writes().buffer: _place(step.writes())}
    if isinstance(step, Reduce) and step.out.buffer in {view.buffer for view in (*other.reads(), other.out)}:
        return False
    return all(_place(view) == own[view.buffer] and view not in gathered for view in touched)


def schedule(steps: list[Step]) -> list[list[int]]:
    """Group steps into loops: small shapes first, so that large ones find all their operands ready.

    Args:
        steps: In an order that is right.

    Returns:
        The numbers of the steps of each loop; loops in an order that is right.
    """
    before = _before(steps)
    done: set[int] = set()
    left = list(range(len(steps)))
    loops: list[list[int]] = []
    while left:
        ready = [i for i in left if before[i] <= done]
        first = min(ready, key=lambda i: (math.prod(steps[i].domain), i))
        loop = [first]
        if isinstance(steps[first], FUSIBLE):
            domain, member = steps[first].domain, {first}
            for i in left:
                step = steps[i]
                fits = i != first and isinstance(step, FUSIBLE) and step.domain == domain and before[i] <= done | member
                if fits and all(_joins(step, steps[j]) for j in before[i] & member):
                    loop.append(i)
                    member.add(i)
        done |= set(loop)
        left = [i for i in left if i not in done]
        loops.append(loop)
    return loops


class Source:
    """The C source of a density and the memory that it wants.

    Attributes:
        text: The source; it depends on shapes and operations, not on data.
        constants: The constants that it takes, in order.
        work: Bytes of work space of one call.
    """

    def __init__(self, lowering: Lowering):
        outputs = {0, lowering.value.buffer, lowering.gradient.buffer}
        self.lowering = lowering
        self.steps, self.buffers = laid_out(lowering.steps, lowering.buffers, outputs)
        self.loops = schedule(self.steps)
        self.at = {i: number for number, loop in enumerate(self.loops) for i in loop}
        self.routines: set[str] = set()
        self._kept()
        self._place_buffers()
        self.kernels: dict[str, str] = {}  # source -> name; loops that differ in their memory alone are one
        calls = [f"  {self._call(loop)}" for loop in self.loops]
        size, value, gradient = self.buffers[0].size, lowering.value, lowering.gradient
        narrow = self.buffers[0].dtype != torch.float64
        vector = [f"  float x[{size}];", f"  for (long i = 0; i < {size}; i++) x[i] = (float)x0[i];"]
        copied = f"g[i] = ({self._memory(gradient.buffer)})[i * {gradient.strides[0]} + {gradient.offset}];"
        self.text = "\n".join([
            files("pyrozoo.compiler").joinpath("prelude.h").read_text(encoding="utf-8"),
            *sorted(self.routines),
            *(text.replace("KERNEL", name, 1) for text, name in self.kernels.items()),
            "int zoo_density(unsigned long n, const double *x0, double *g, double *value, zoo_memory *memory) {",
            "  const void **c = memory->constants;",
            "  char *w = memory->work;",
            *(vector if narrow else ["  const double *x = x0;"]),
            *calls,
            f"  *value = ({self._memory(value.buffer)})[{value.offset}];",
            "  int bad = !isfinite(*value);",
            f"  for (long i = 0; i < {size}; i++) {{ {copied} bad |= !isfinite(g[i]); }}",
            "  return bad;",
            "}",
            "",
        ])  # fmt: skip

    def _kept(self) -> None:
        """Find the buffers that must lie in memory: those read outside the loop that writes them, or in other ways."""
        writers: dict[int, list[int]] = defaultdict(list)
        loops: dict[int, set[int]] = defaultdict(set)  # that read or write a buffer
        for i, step in enumerate(self.steps):
            writers[step.writes().buffer].append(i)
            for view in (*step.reads(), step.writes()):
                loops[view.buffer].add(self.at[i])
        outputs = {self.lowering.value.buffer, self.lowering.gradient.buffer}
        alone = {b for b, by in writers.items() if len(by) == len(loops[b]) == 1 and b not in outputs}
        self.register = {b for b in alone if isinstance(self.steps[writers[b][0]], Pointwise)}
        for buffer in outputs:
            loops[buffer].add(len(self.loops))
        self.span = {b: (min(loops[b]), max(loops[b])) for b in writers if b not in self.register}

    def _place_buffers(self) -> None:
        """Give buffers places in the work space; those that are never alive together may share one."""
        buffers = self.buffers
        self.offsets: dict[int, int] = {}
        taken: list[tuple[int, int, int]] = []  # from, to, last loop
        self.work = ALIGNMENT
        for buffer in sorted(self.span, key=lambda b: self.span[b][0]):
            begin, end = self.span[buffer]
            taken = [each for each in taken if each[2] >= begin]
            size = buffers[buffer].size * torch.empty(0, dtype=buffers[buffer].dtype).element_size()
            size = -(-size // ALIGNMENT) * ALIGNMENT
            at = 0
            for low, high, _ in sorted(taken):
                if low - at >= size:
                    break
                at = max(at, high)
            self.offsets[buffer] = at
            taken.append((at, at + size, end))
            self.work = max(self.work, at + size)
        kept = {number: each.constant for number, each in enumerate(buffers) if each.constant is not None}
        self.positions, self.constants = {number: i for i, number in enumerate(kept)}, list(kept.values())

    def _memory(self, buffer: int) -> str:
        """Return the C expression of where a buffer lies."""
        kind = C_TYPES[self.buffers[buffer].dtype]
        if buffer == 0:
            return "x"
        if buffer in self.positions:
            return f"(const {kind} *)c[{self.positions[buffer]}]"
        return f"({kind} *)(w + {self.offsets[buffer]})"

    def _call(self, loop: list[int]) -> str:
        """Return the call of a loop's kernel, a C function of the memory that it reads and writes."""
        steps = [self.steps[i] for i in loop]
        if isinstance(steps[0], FUSIBLE):
            body = Nest(self, steps).lines()
        elif isinstance(steps[0], Scatter):
            body = self._scatter(steps[0])
        else:
            body = self._product(steps[0]) if isinstance(steps[0], Product) else self._batched(steps[0])
        text = "\n".join(f"  {line}" for line in body)
        # Buffers are numbered anew as they come, so that the same work on other memory is the same text.
        order = list(dict.fromkeys(int(number) for number in re.findall(r"\b[bh](\d+)(?=\b|_)", text)))
        place_of = {number: i for i, number in enumerate(order)}
        text = re.sub(r"\b([bh])(\d+)(?=\b|_)", lambda found: f"{found[1]}{place_of[int(found[2])]}", text)
        written = {step.writes().buffer for step in steps}
        parameters = [
            f"{'' if number in written else 'const '}{C_TYPES[self.buffers[number].dtype]} *restrict b{i}"
            for i, number in enumerate(order)
        ]
        kernel = f"static void __attribute__((noinline)) KERNEL({', '.join(parameters)}) {{\n{text}\n}}"
        name = self.kernels.setdefault(kernel, f"kernel_{len(self.kernels)}")
        return f"{name}({', '.join(self._memory(number) for number in order)});"

    def _scatter(self, step: Scatter) -> list[str]:
        lines, names = _loops(step.domain)
        value = step.values.text if isinstance(step.values, Literal) else load(step.values, names)
        sign = f"{'+=' if step.accumulate else '='} ({C_TYPES[step.place.base.dtype]})"
        return [*lines, f"{load(step.place, names)} {sign}{value};", "}" * len(step.domain)]

    def _product(self, step: Product) -> list[str]:
        (batch, rows, inner), columns = step.left.shape, step.right.shape[2]
        kind = C_TYPES[step.out.dtype]
        views = ((step.out, "bij"), (step.left, "bik"), (step.right, "bkj"))
        out, left, right = (load(view, list(names)) for view, names in views)
        loop = "for (long {0} = 0; {0} < {1}; {0}++) {{".format
        lines, across = [loop("b", batch), loop("i", rows)], loop("j", columns)
        if columns >= 4 and step.right.strides[2] == 1:  # whole rows of the right matrix at a time
            lines += [f"#pragma GCC ivdep\n{across} {out} = 0; }}", loop("k", inner), f"const {kind} a = {left};"]
            lines += [f"#pragma GCC ivdep\n{across} {out} += a * {right}; }}", "}"]
        else:
            lines += [across, f"{kind} sum = 0;", "#pragma omp simd reduction(+:sum)"]
            lines += [f"{loop('k', inner)} sum += {left} * {right}; }}", f"{out} = sum;", "}"]
        return [*lines, "}}"]

    def _batched(self, step: Batched) -> list[str]:
        batch = step.out.shape[: len(step.out.shape) - step.inner]
        lines, names = _loops(batch)
        arguments = []
        for view in (step.out, *step.operands):
            lead = view._replace(shape=batch, strides=view.strides[: len(batch)])
            arguments.append(f"b{view.buffer} + {place(lead, names)}")
            arguments += [str(stride) for stride in view.strides[len(batch) :]]
        result, operand = C_TYPES[step.out.dtype], C_TYPES[step.operands[0].dtype]
        name = f"{step.routine}_{result}_{operand}".replace(" ", "_")
        self.routines.add(f"zoo_define_{step.routine}({name}, {result}, {operand})")
        call = f"{name}({', '.join([*arguments, *map(str, step.sizes)])});"
        return [*lines, call, "}" * len(batch)]


def _loops(domain: tuple[int, ...]) -> tuple[list[str], list[str]]:
    names = [f"i{d}" for d in range(len(domain))]
    return [f"for (long {n} = 0; {n} < {size}; {n}++) {{" for n, size in zip(names, domain, strict=True)], names


def place(view: View, names: list[str]) -> str:
    """Return the C expression of where the element of a view at the loop's indices lies."""
    terms = [f"{name} * {s}" for name, s, n in zip(names, view.strides, view.shape, strict=True) if s and n > 1]
    return " + ".join([*terms, str(view.offset)])


def element(gather: Gather, names: list[str]) -> str:
    """Return the C expression of where a gathered element lies."""
    terms = [place(gather.base, names)]
    for view, stride, size in gather.indices:
        value = load(view, names)
        terms.append(f"({value} + ({value} < 0 ? {size} : 0)) * {stride}")
    return " + ".join(terms)


def load(operand: View | Gather, names: list[str]) -> str:
    """Return the C expression of an operand at the loop's indices."""
    if isinstance(operand, View):
        return f"b{operand.buffer}[{place(operand, names)}]"
    return f"b{operand.base.buffer}[{element(operand, names)}]"


class Nest:
    """One nest of loops over pointwise steps and reductions of one shape."""

    def __init__(self, source: Source, steps: list[Step]):
        self.source = source
        indexed = any("{i" in step.expression for step in steps if isinstance(step, Pointwise))
        self.steps, self.shape = (list(steps), steps[0].domain) if indexed else collapsed(list(steps))
        self.order = list(range(len(self.shape)))
        if len(self.shape) > 1 and self.shape[-1] < SHORT and max(self.shape) > self.shape[-1]:
            longest = max(self.order, key=lambda d: self.shape[d])
            self.order = [d for d in self.order if d != longest] + [longest]

    def lines(self) -> list[str]:
        """Return the lines of the nest."""
        names = [f"i{d}" for d in range(len(self.shape))]
        inner = self.order[-1] if self.order else None
        known: dict[tuple[int, tuple[int, ...], int], str] = {}
        sums: list[tuple[str, str]] = []  # accumulator and clause of a reduction
        lines: list[list[str]] = [[], [], [], []]
        start, hoisted, body, after = lines
        for t, step in enumerate(self.steps):
            kind = C_TYPES[step.writes().dtype]
            if isinstance(step, Reduce):
                value = self._value(step.operand, names, known, hoisted)
                target = load(step.out, names)
                start += self._start(step)
                if inner is None or not step.out.strides[inner] or self.shape[inner] == 1:
                    name = f"s{t}"
                    sums.append((f"{kind} {name} = {_first(step)};", f"{SIMD[step.kind]}:{name}"))
                    body.append(f"{name} = {COMBINE[step.kind].format(name, value)};")
                    after.append(f"{target} = {COMBINE[step.kind].format(target, name)};")
                else:
                    body.append(f"{target} = {COMBINE[step.kind].format(target, value)};")
                continue
            assert isinstance(step, Pointwise)
            values = [self._value(operand, names, known, hoisted) for operand in step.operands]
            expression = step.expression.format(*values, **{name: name for name in names})
            truth = "!= 0" if step.out.dtype == torch.bool else ""
            body.append(f"const {kind} v{t} = ({kind})({expression}{truth});")
            known[_place(step.out)] = f"v{t}"
            if step.out.buffer not in self.source.register:
                body.append(f"{load(step.out, names)} = v{t};")
        return [*start, *hoisted, *self._nested(body, sums, after)]

    def _value(self, operand: Operand, names: list[str], known: dict, hoisted: list[str]) -> str:
        """Return the C expression of an operand: a name of this loop, one from before it, or memory."""
        if isinstance(operand, Literal):
            return operand.text
        if isinstance(operand, View):
            if _place(operand) in known:
                return known[_place(operand)]
            if not any(s for s, n in zip(operand.strides, operand.shape, strict=True) if n > 1):
                name = f"h{operand.buffer}_{operand.offset}"
                line = f"const {C_TYPES[operand.dtype]} {name} = b{operand.buffer}[{operand.offset}];"
                if line not in hoisted:
                    hoisted.append(line)
                return name
        return load(operand, names)

    def _start(self, step: Reduce) -> list[str]:
        kept = tuple(n if s else 1 for n, s in zip(self.shape, step.out.strides, strict=True))
        lines, names = _loops(kept)
        out = step.out._replace(shape=kept)
        return [" ".join([*lines, f"{load(out, names)} = {_first(step)};", "}" * len(kept)])]

    def _nested(self, body: list[str], sums: list[tuple[str, str]], after: list[str]) -> list[str]:
        begun = [line for line, _ in sums]
        if not self.order:
            return ["{", *begun, *body, *after, "}"]
        *outer, inner = (f"for (long i{d} = 0; i{d} < {self.shape[d]}; i{d}++) {{" for d in self.order)
        reductions = "".join(f" reduction({clause})" for _, clause in sums)
        lines = [inner, *(f"  {line}" for line in body), "}"]
        return [*outer, *begun, f"#pragma omp simd{reductions}", *lines, *after, "}" * len(outer)]


def collapsed(steps: list[Step]) -> tuple[list[Step], tuple[int, ...]]:
    """Merge neighbouring dimensions wherever all operands run through them as through one."""
    shape = steps[0].domain
    all_views = [view for step in steps for view in (*step.reads(), step.writes())]
    groups: list[list[int]] = []
    for d in [d for d in range(len(shape)) if shape[d] != 1]:
        previous = groups[-1][-1] if groups else None
        if previous is not None and all(v.strides[previous] == v.strides[d] * shape[d] for v in all_views):
            groups[-1].append(d)
        else:
            groups.append([d])
    new = tuple(math.prod(shape[d] for d in group) for group in groups)

    def view(old: View) -> View:
        return old._replace(shape=new, strides=tuple(old.strides[group[-1]] for group in groups))

    return [step.seen(view) for step in steps], new
