"""Translate recorded operations of ATen into loops over strided memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pyrozoo.compiler.steps import (
    C_TYPES,
    Batched,
    Buffer,
    Gather,
    Literal,
    Pointwise,
    Product,
    Reduce,
    Scatter,
    Step,
    View,
)
from pyrozoo.compiler.tape import Call, Tape, Untraceable, name, storage

# What a result is of its operands. NaN goes through everything, as in ATen.
_SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "mul": "*"}
_BITS = {"and": "&", "or": "|", "xor": "^"}
_SAME = (
    "acos", "asin", "atan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "floor", "isinf", "log",
    "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
)  # fmt: skip
"""Functions that C has under the same name."""

POINTWISE = {
    **{word: f"{word}({{0}})" for word in _SAME}, **{word: f"({{0}} {sign} {{1}})" for word, sign in _SIGNS.items()},
    **{f"bitwise_{word}": f"({{0}} {sign} {{1}})" for word, sign in _BITS.items()},
    **{f"logical_{word}": f"(({{0}} != 0) {sign} ({{1}} != 0))" for word, sign in _BITS.items()}, "_to_copy": "{0}",
    "abs": "fabs({0})", "addcdiv": "({0} + {3} * {1} / {2})", "addcmul": "({0} + {3} * {1} * {2})",
    "atan2": "atan2({0}, {1})", "clone": "{0}", "copy": "{1}", "digamma": "zoo_digamma({0})", "isnan": "({0} != {0})",
    "lgamma": "zoo_lgamma({0})", "lift_fresh_copy": "{0}", "logical_not": "({0} == 0)",
    "masked_fill": "({1} ? {2} : {0})", "maximum": "(({0} > {1} || {0} != {0}) ? {0} : {1})",
    "minimum": "(({0} < {1} || {0} != {0}) ? {0} : {1})", "neg": "(-{0})", "reciprocal": "(1.0 / {0})",
    "relu": "(({0} > 0 || {0} != {0}) ? {0} : 0)", "round": "nearbyint({0})", "rsqrt": "(1.0 / sqrt({0}))",
    "sgn": "(({0} > 0) - ({0} < 0))", "sigmoid": "(1.0 / (1.0 + exp(-{0})))",
    "sigmoid_backward": "({0} * (1.0 - {1}) * {1})", "sign": "(({0} > 0) - ({0} < 0))",
    "special_expit": "(1.0 / (1.0 + exp(-{0})))", "square": "({0} * {0})", "tanh_backward": "({0} * (1.0 - {1} * {1}))",
    "where": "({0} ? {1} : {2})", "xlogy": "({1} != {1} ? NAN : ({0} == 0 ? 0 : {0} * log({1})))",
}  # fmt: skip

VIEWS = {
    "_linalg_check_errors", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand",
    "lift_fresh", "permute", "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind",
    "unfold", "unsqueeze", "view",
}  # fmt: skip
"""Operations that compute nothing. Errors of factorisations are seen as NaN in what follows."""

_TRANSLATIONS: dict[str, Callable[[Lowering, Call, Any], None]] = {}


def _translation(*names: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        _TRANSLATIONS.update(dict.fromkeys(names, function))
        return function

    return register


class Lowering:
    """The steps of a recorded density, and the memory that they use.

    Attributes:
        steps: In an order that is right.
        buffers: Buffer 0 is the vector.
        value: Where the value ends up.
        gradient: Where the gradient ends up.
    """

    def __init__(self, tape: Tape):
        self.tape = tape
        self.steps: list[Step] = []
        self.buffers: list[Buffer] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # tensors made here; their memory is their identity, too
        self._view(tape.vector)
        for whole, copy in tape.initial:  # memory that is written later gets its first content, every time
            out = self._view(whole)
            self.buffers[out.buffer] = Buffer(out.dtype, out.shape[0], None)
            self.steps.append(Pointwise(out, "{0}", (self._view(copy),)))
        for call in tape.calls:
            self._translate(call)
        self.value, self.gradient = self._view(tape.value), self._view(tape.gradient)
        written = {0, *(step.writes().buffer for step in self.steps)}
        for number in {view.buffer for step in self.steps for view in step.reads()} - written:
            if self.buffers[number].constant is None:
                raise Untraceable("it uses a result that has no translation into C")

    def _view(self, tensor: Tensor) -> View:
        """Return where a tensor lies; memory met for the first time is a buffer from here on."""
        if tensor.dtype not in C_TYPES:
            raise Untraceable(f"values of type {tensor.dtype} have no translation into C")
        if tensor.device.type != "cpu":
            raise Untraceable(f"values on {tensor.device.type} have no translation into C")
        key = storage(tensor)
        if key not in self._numbers:
            self._numbers[key] = len(self.buffers)
            size = tensor.untyped_storage().nbytes() // tensor.element_size()
            # What depends on the vector is written before it is read; all else is constant.
            content = None if key in self.tape.depends else tensor.detach().as_strided((size,), (1,), 0)
            self.buffers.append(Buffer(tensor.dtype, size, content))
        number = self._numbers[key]
        if self.buffers[number].dtype != tensor.dtype:
            raise Untraceable("memory read as another type has no translation into C")
        return View(number, tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()))

    def _operand(self, value: Any) -> View | Literal:
        if isinstance(value, Tensor):
            return self._view(value)
        if isinstance(value, bool | int):
            return Literal(str(int(value)))
        named = {"nan": "NAN", "inf": "INFINITY", "-inf": "(-INFINITY)"}
        return Literal(named.get(repr(float(value)), f"({float(value)!r})"))

    def _translate(self, call: Call) -> None:
        word = name(call.operation)
        base, results = _base(word), [leaf for leaf in tree_leaves(call.result) if isinstance(leaf, Tensor)]
        if word in VIEWS or not any(result.numel() for result in results):
            return
        if base in POINTWISE:
            factor = [call.kwargs.get("value", 1)] if base in ("addcmul", "addcdiv") else []
            self.pointwise(results[0], POINTWISE[base], [*call.args, *factor])
        else:
            _TRANSLATIONS[base](self, call, call.result)

    def pointwise(self, result: Tensor, expression: str, operands: Sequence[Any]) -> None:
        """Add a step that computes ``result`` from operands that broadcast to its shape."""
        out = self._view(result)
        ready = [self._operand(value) for value in operands[: expression_arity(expression)]]
        if expression.startswith("fabs") and not result.dtype.is_floating_point:
            expression = "({0} < 0 ? -{0} : {0})"
        self.steps.append(Pointwise(out, expression, tuple(each.expanded(out.shape) for each in ready)))

    def copy(self, result: Tensor, source: Tensor | float) -> None:
        """Add a step that copies a tensor, or fills one with a number."""
        self.pointwise(result, "{0}", [source])

    def reduce(self, result: Tensor, kind: str, source: Tensor, dims: Sequence[int]) -> None:
        """Add a step that reduces ``source`` over dimensions; ``result`` may or may not keep them."""
        gone = {d % source.ndim for d in dims} if source.ndim else set()
        out, operand = self._view(result), self._view(source)
        kept, strides = [d for d in range(source.ndim) if d not in gone], [0] * source.ndim
        own = out.strides if result.ndim == len(kept) else [out.strides[d] for d in kept]
        for d, stride in zip(kept, own, strict=True):
            strides[d] = stride if source.shape[d] > 1 else 0
        # A dimension of length one that is kept has no neighbours: stride 0 is as good.
        whole = View(out.buffer, out.dtype, tuple(source.shape), tuple(strides), out.offset)
        self.steps.append(Reduce(whole, kind, operand))

    def whole_numbers(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return indices with truth values turned into the places where they are true."""
        result: list[Tensor | None] = []
        for index in indices:
            truth = index if index is not None and index.dtype == torch.bool else None
            if truth is not None and storage(truth) in self.tape.depends:
                raise Untraceable("a shape depends on values of its sites (indexing by a condition on them)")
            result += [index] if truth is None else truth.nonzero().unbind(1)
        self._alive.append(result)
        return result

    def gathered(self, tensor: Tensor, indices: Sequence[Tensor | None], shape: Sequence[int]) -> Gather:
        """Return the elements that ``tensor[indices]`` names, in the shape of the result.

        Dimensions that are indexed by tensors stand together where they were, or in front when others stand between.
        """
        at = [d for d, index in enumerate(indices) if index is not None]
        together = at == list(range(at[0], at[-1] + 1))
        known = [index for index in indices if index is not None]
        broadcast = torch.broadcast_shapes(*(index.shape for index in known))
        view, first = self._view(tensor), at[0] if together else 0
        rest = [d for d in range(tensor.ndim) if d not in at]
        before, after = (rest[:first], rest[first:]) if together else ([], rest)
        zeros = (0,) * len(broadcast)
        strides = (*(view.strides[d] for d in before), *zeros, *(view.strides[d] for d in after))
        placed = []
        for d, index in zip(at, known, strict=True):
            own = self._view(index).expanded(broadcast)
            whole = (0,) * len(before) + own.strides + (0,) * len(after)
            placed.append((own._replace(shape=tuple(shape), strides=whole), view.strides[d], view.shape[d]))
        return Gather(view._replace(shape=tuple(shape), strides=strides), tuple(placed))

    def along(self, tensor: Tensor, dim: int, index: Tensor) -> Gather:
        """Return the elements that ``tensor.gather(dim, index)`` names."""
        view, places = self._view(tensor), self._view(index)
        strides = tuple(0 if d == dim else s for d, s in enumerate(view.strides))
        where = (places, view.strides[dim], view.shape[dim]) if tensor.ndim else (places, 0, 1)
        return Gather(view._replace(shape=places.shape if tensor.ndim else (), strides=strides), (where,))

    def scatter(self, place: Gather, values: Any, accumulate: bool) -> None:
        """Add a step that writes or adds to elements of memory."""
        values = self._operand(values).expanded(place.base.shape)
        self.steps.append(Scatter(place, values, accumulate))

    def take(self, result: Tensor, source: Gather) -> None:
        """Add a step that copies gathered elements."""
        self.steps.append(Pointwise(self._view(result), "{0}", (source,)))

    def product(self, result: Tensor, left: Tensor, right: Tensor) -> None:
        """Add a step that multiplies matrices, in batches of one when there is no batch."""
        views = [self._view(each.unsqueeze(0) if each.ndim == 2 else each) for each in (result, left, right)]
        self.steps.append(Product(*views))

    def batched(
        self, routine: str, result: Tensor, operands: Sequence[Tensor], inner: int, sizes: Sequence[int] = ()
    ) -> None:
        """Add a call of a routine for every member of a batch."""
        out, ready = self._view(result), []
        for view in map(self._view, operands):
            lead = len(view.shape) - inner
            batch = view._replace(shape=view.shape[:lead], strides=view.strides[:lead])
            batch = batch.expanded(out.shape[: len(out.shape) - inner])
            shape, strides = batch.shape + view.shape[lead:], batch.strides + view.strides[lead:]
            ready.append(view._replace(shape=shape, strides=strides))
        self.steps.append(Batched(routine, out, tuple(ready), inner, tuple(sizes)))


def expression_arity(expression: str) -> int:
    """Return how many operands an expression has."""
    return max((n + 1 for n in range(4) if f"{{{n}}}" in expression), default=0)


def _base(word: str) -> str:
    """Return the name of an operation that makes a new tensor for one that writes in place."""
    word = {"__and__": "bitwise_and", "__or__": "bitwise_or", "__xor__": "bitwise_xor"}.get(word, word)
    known = word in POINTWISE or word in _TRANSLATIONS
    return word if known or not word.endswith("_") else word[:-1]


def _argument(call: Call, position: int, word: str, default: Any = None) -> Any:
    return call.args[position] if len(call.args) > position else call.kwargs.get(word, default)


@_translation("add", "sub", "rsub")
def _add(to: Lowering, call: Call, out: Tensor) -> None:
    a, b = call.args[:2]
    word, alpha = _base(name(call.operation)), call.kwargs.get("alpha", _argument(call, 2, "alpha", 1))
    if word == "rsub":
        a, b = b, a
    sign = "+" if word == "add" else "-"
    factor = "" if alpha == 1 else "{2} * "
    to.pointwise(out, f"({{0}} {sign} {factor}{{1}})", [a, b, alpha])


@_translation("div")
def _div(to: Lowering, call: Call, out: Tensor) -> None:
    to.pointwise(out, f"{_argument(call, 2, 'rounding_mode') or ''}((double){{0}} / {{1}})", call.args[:2])


@_translation("pow")
def _pow(to: Lowering, call: Call, out: Tensor) -> None:
    base, exponent = call.args[:2]
    short = {
        1: "{0}", 2: "({0} * {0})", 3: "({0} * {0} * {0})", 4: "(({0} * {0}) * ({0} * {0}))", 0: "(0 * {0} + 1)",
        -1: "(1.0 / {0})", -2: "(1.0 / ({0} * {0}))", 0.5: "sqrt({0})", -0.5: "(1.0 / sqrt({0}))",
    }  # fmt: skip
    if not isinstance(exponent, Tensor) and exponent in short and isinstance(base, Tensor):
        to.pointwise(out, short[exponent], [base])
    else:
        to.pointwise(out, "pow({0}, {1})", [base, exponent])


@_translation("clamp", "clamp_min", "clamp_max")
def _clamp(to: Lowering, call: Call, out: Tensor) -> None:
    word = _base(name(call.operation))
    least = _argument(call, 1, "min") if word != "clamp_max" else None
    most = {"clamp": _argument(call, 2, "max"), "clamp_max": _argument(call, 1, "max"), "clamp_min": None}[word]
    least, most = (-math.inf if least is None else least), (math.inf if most is None else most)
    if least == -math.inf and not isinstance(least, Tensor):
        to.pointwise(out, "({0} > {1} ? {1} : {0})", [call.args[0], most])
    elif most == math.inf and not isinstance(most, Tensor):
        to.pointwise(out, "({0} < {1} ? {1} : {0})", [call.args[0], least])
    else:
        to.pointwise(out, "({0} > {2} ? {2} : ({0} < {1} ? {1} : {0}))", [call.args[0], least, most])


@_translation("sum", "amax", "amin", "prod", "any", "all", "mean")
def _reduction(to: Lowering, call: Call, out: Tensor) -> None:
    source, dims, word = call.args[0], _argument(call, 1, "dim"), name(call.operation)
    dims = [dims] if isinstance(dims, int) else (list(dims) if dims else list(range(source.ndim)))
    to.reduce(out, {"amax": "max", "amin": "min", "mean": "sum"}.get(word, word), source, dims)
    if word == "mean":
        to.pointwise(out, "({0} / {1})", [out, float(source.numel() // max(out.numel(), 1))])


@_translation("index_put", "_unsafe_index_put", "_index_put_impl")
def _index_put(to: Lowering, call: Call, out: Tensor) -> None:
    source, values, indices = call.args[0], call.args[2], to.whole_numbers(call.args[1])
    if not name(call.operation).endswith("_"):
        to.copy(out, source)
    shape = torch.empty(0, device="meta").new_empty(out.shape)[tuple(
        slice(None) if index is None else index.to("meta") for index in indices
    )].shape  # fmt: skip
    to.scatter(to.gathered(out, indices, shape), values, bool(_argument(call, 3, "accumulate", False)))


@_translation("scatter", "scatter_add", "scatter_reduce")
def _scatter(to: Lowering, call: Call, out: Tensor) -> None:
    source, dim, index, values = call.args[:4]
    word = name(call.operation)
    if word.startswith("scatter_reduce") or call.kwargs.get("reduce"):
        raise Untraceable(f"the operation {call.operation} has no translation into C")
    if not word.endswith("_"):
        to.copy(out, source)
    if isinstance(values, Tensor):
        values = values[tuple(slice(0, n) for n in index.shape)]
    to.scatter(to.along(out, dim % max(out.ndim, 1), index), values, "add" in word)


@_translation("index_select")
def _index_select(to: Lowering, call: Call, out: Tensor) -> None:
    source, dim, index = call.args[:3]
    to.take(out, to.gathered(source, [None] * (dim % source.ndim) + [index], out.shape))


@_translation("index_add")
def _index_add(to: Lowering, call: Call, out: Tensor) -> None:
    source, dim, index, values = call.args[:4]
    if call.kwargs.get("alpha", 1) != 1:
        raise Untraceable("index_add with a factor has no translation into C")
    if not name(call.operation).endswith("_"):
        to.copy(out, source)
    indices = [None] * (dim % max(out.ndim, 1)) + [index]
    to.scatter(to.gathered(out, indices, values.shape), values, True)


@_translation("cat")
def _cat(to: Lowering, call: Call, out: Tensor) -> None:
    at, dim = 0, _argument(call, 1, "dim", 0)
    for part in call.args[0]:
        if part.ndim == out.ndim and part.numel():
            to.copy(out.narrow(dim, at, part.shape[dim]), part)
            at += part.shape[dim]


@_translation("stack")
def _stack(to: Lowering, call: Call, out: Tensor) -> None:
    dim = _argument(call, 1, "dim", 0)
    for i, part in enumerate(call.args[0]):
        to.copy(out.select(dim, i), part)


@_translation("constant_pad_nd")
def _pad(to: Lowering, call: Call, out: Tensor) -> None:
    source, pad = call.args[:2]
    inside = out
    for i, (before, after) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = out.ndim - 1 - i
        # A negative width cuts the source.
        source = source.narrow(dim, max(-before, 0), source.shape[dim] + min(before, 0) + min(after, 0))
        inside = inside.narrow(dim, max(before, 0), source.shape[dim])
    to.copy(out, _argument(call, 2, "value", 0.0))
    to.copy(inside, source)


@_translation("slice_backward", "select_backward", "diagonal_backward")
def _part_backward(to: Lowering, call: Call, out: Tensor) -> None:
    gradient, _, *where = call.args
    part: dict[str, Any] = {"slice": torch.ops.aten.slice.Tensor, "select": Tensor.select, "diagonal": Tensor.diagonal}
    to.copy(out, 0.0)
    to.copy(part[name(call.operation).removesuffix("_backward")](out, *where), gradient)


@_translation("diag_embed")
def _diag_embed(to: Lowering, call: Call, out: Tensor) -> None:
    where = ((1, "offset", 0), (2, "dim1", -2), (3, "dim2", -1))
    to.copy(out, 0.0)
    to.copy(out.diagonal(*(_argument(call, *each) for each in where)), call.args[0])


@_translation("flip")
def _flip(to: Lowering, call: Call, out: Tensor) -> None:
    source, offset = to._view(call.args[0]), 0
    strides = list(source.strides)
    for dim in call.args[1]:
        offset += (source.shape[dim] - 1) * strides[dim]
        strides[dim] = -strides[dim]
    turned = source._replace(strides=tuple(strides), offset=source.offset + offset)
    to.steps.append(Pointwise(to._view(out), "{0}", (turned,)))


@_translation("tril", "triu")
def _triangle(to: Lowering, call: Call, out: Tensor) -> None:
    k, n = _argument(call, 1, "diagonal", 0), out.ndim
    sign = "<=" if name(call.operation).startswith("tril") else ">="
    to.pointwise(out, f"(({{i{n - 1}}} - {{i{n - 2}}} {sign} {k}) ? {{0}} : 0)", call.args[:1])


@_translation("cumsum", "cumprod")
def _cumulative(to: Lowering, call: Call, out: Tensor) -> None:
    source, dim = call.args[0], call.args[1]
    if not out.ndim:
        return to.copy(out, source)
    routine = name(call.operation).rstrip("_")
    to.batched(routine, out.movedim(dim, -1), [source.movedim(dim, -1)], 1, [out.shape[dim]])


@_translation("max", "min")
def _extreme(to: Lowering, call: Call, out: Any) -> None:
    source, kind = call.args[0], name(call.operation)
    if isinstance(out, Tensor):
        return to.reduce(out, kind, source, range(source.ndim))
    values, indices = out
    if not source.ndim:
        to.copy(values, source)
        return to.copy(indices, 0)
    dim = call.args[1] % source.ndim
    if values.ndim == source.ndim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    to.reduce(values, kind, source, [dim])
    to.batched(f"arg{kind}", indices.unsqueeze(-1), [source.movedim(dim, -1)], 1, [source.shape[dim]])


@_translation("argmax", "argmin")
def _arg(to: Lowering, call: Call, out: Tensor) -> None:
    source, dim = call.args[0], _argument(call, 1, "dim")
    if dim is None:
        raise Untraceable("argmax over all dimensions has no translation into C")
    if out.ndim == source.ndim:
        out = out.squeeze(dim)
    kind = name(call.operation)
    to.batched(kind, out.unsqueeze(-1), [source.movedim(dim, -1)], 1, [source.shape[dim]])


@_translation("mm", "bmm", "mv", "dot")
def _matrices(to: Lowering, call: Call, out: Tensor) -> None:
    left, right = call.args
    if right.ndim == 1:  # a column, and in a dot product a row before it
        left, right = left if left.ndim == 2 else left.unsqueeze(0), right.unsqueeze(1)
        out = out.view(1, 1) if out.ndim == 0 else out.unsqueeze(1)
    to.product(out, left, right)


@_translation("linalg_cholesky_ex")
def _cholesky(to: Lowering, call: Call, out: Any) -> None:
    factor, info = out
    upper = bool(_argument(call, 1, "upper", False))
    n = factor.shape[-1]
    to.batched("cholesky", factor.mT if upper else factor, [call.args[0]], 2, [n])
    to.pointwise(info, "({0} != {0})", [factor[..., n - 1, n - 1]])  # NaN reaches the last of the diagonal


@_translation("linalg_solve_triangular")
def _solve_triangular(to: Lowering, call: Call, out: Tensor) -> None:
    (matrix, right), given = call.args[:2], {"upper": False, "left": True, "unitriangular": False} | call.kwargs
    upper, left, unit = (given[word] for word in ("upper", "left", "unitriangular"))
    if not left:  # X A = B is A' X' = B'
        matrix, right, out, upper = matrix.mT, right.mT, out.mT, not upper
    to.batched("solve_triangular", out, [matrix, right], 2, [*out.shape[-2:], int(upper), int(unit)])


@_translation("triangular_solve")
def _old_solve_triangular(to: Lowering, call: Call, out: Any) -> None:
    right, matrix = call.args[:2]
    asked = ((2, "upper", True), (3, "transpose", False), (4, "unitriangular", False))
    upper, transposed, unit = (_argument(call, *each) for each in asked)
    matrix, upper = (matrix.mT, not upper) if transposed else (matrix, upper)
    sizes = [*out[0].shape[-2:], int(upper), int(unit)]
    to.batched("solve_triangular", out[0], [matrix, right], 2, sizes)


@_translation("cholesky_solve")
def _cholesky_solve(to: Lowering, call: Call, out: Tensor) -> None:
    right, factor = call.args[:2]
    factor = factor.mT if _argument(call, 2, "upper", False) else factor
    sizes = list(out.shape[-2:])
    to.batched("solve_triangular", out, [factor, right], 2, [*sizes, 0, 0])
    to.batched("solve_triangular", out, [factor.mT, out], 2, [*sizes, 1, 0])


_NOT = ("(~{0})", "({0} == 0)")
_TRANSLATIONS |= {
    "bitwise_not": lambda to, call, out: to.pointwise(
        out, "({0} == 0)" if out.dtype == torch.bool else "(~{0})", call.args
    ),
    "fill": lambda to, call, out: to.copy(out, call.args[1]),
    "gather": lambda to, call, out: to.take(out, to.along(call.args[0], call.args[1] % max(out.ndim, 1), call.args[2])),
    "index": lambda to, call, out: to.take(out, to.gathered(call.args[0], to.whole_numbers(call.args[1]), out.shape)),
    "zero": lambda to, call, out: to.copy(out, 0.0),
}
_TRANSLATIONS["_unsafe_index"] = _TRANSLATIONS["index"]

_KNOWN = {*POINTWISE, *_TRANSLATIONS}
TRANSLATED = frozenset(VIEWS | _KNOWN | {f"{word}_" for word in _KNOWN} | {"__and__", "__or__", "__xor__"})
"""Names of operations that may stand on a tape."""
