"""A function of tensors as the list of tensor operations that it comes to, run again without its Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from pyrozoo.compiler.tape import SHAPE_ONLY, VALUE_DEPENDENT, Untraceable, name, storage

Function = Callable[..., tuple[Tensor, ...]]


class _Reference:
    """A tensor that is made anew at every run.

    Args:
        name: Its name in the function that is written.
    """

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name


class _Recorder(TorchDispatchMode):
    """Writes down what happens to tensors that depend on some.

    As on a ``Tape``, memory is identity: a tensor depends on the arguments when its storage was written from something
    that does.
    """

    def __init__(self, arguments: Sequence[Tensor]):
        super().__init__()
        self.alive: list[Any] = list(arguments)  # memory is identity, so none may be given back while recording
        self.names = {id(each): f"a{i}" for i, each in enumerate(arguments)}
        self.bases: dict[int, str] = {}
        self.depends = {storage(each) for each in arguments}
        self.constants: list[Any] = []
        self.calls: list[tuple[str, set[int], set[int]]] = []
        """Lines, with the memory that each reads and writes."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave PyTorch's compiler out, which takes seconds to load."""
        return False

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise Untraceable(f"the function draws random numbers ({name(func)})")
        touched = any(storage(each) in self.depends for each in given)
        if not touched or name(func) in SHAPE_ONLY:
            result = func(*args, **kwargs)
            self.alive.append((given, result))
            return result
        if name(func) in VALUE_DEPENDENT:
            raise Untraceable(f"its course depends on values ({name(func)})")
        written = [each for each, argument in zip(args, func._schema.arguments, strict=False)
                   if argument.alias_info is not None and argument.alias_info.is_write]  # fmt: skip
        written += [value for key, value in kwargs.items() if isinstance(value, Tensor) and key == "out"]
        for each in tree_leaves(written):
            self._begin(each)
        line = f"{self._constant(func)}(*{self._said(args)}, **{self._said(kwargs)})"
        reads = {storage(each) for each in given}
        result = func(*args, **kwargs)
        self.alive.append((given, result))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        writes = {storage(each) for each in [*made, *tree_leaves(written)]}
        self.depends |= writes
        target = f"v{len(self.calls)}"
        self.calls.append((f"{target} = {line}", reads, writes))
        if isinstance(result, Tensor):
            self.names[id(result)] = target
        else:
            self.names |= {id(e): f"{target}[{i}]" for i, e in enumerate(result or ()) if isinstance(e, Tensor)}
        return result

    def _begin(self, tensor: Tensor) -> None:
        """Have memory that was constant, and is written now, made anew at every run."""
        memory = storage(tensor)
        if memory in self.depends:
            return
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        whole = tensor.as_strided((size,), (1,), 0).clone()
        base = f"b{len(self.bases)}"
        self.calls.append((f"{base} = {self._constant(whole)}.clone()", set(), {memory}))
        self.bases[memory] = base
        self.depends.add(memory)

    def _constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"c[{len(self.constants) - 1}]"

    def _said(self, tree: Any) -> str:
        def one(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return _Reference(self.called(leaf))
            plain = isinstance(leaf, bool | int | str) or leaf is None
            return leaf if plain else _Reference(self._constant(leaf))

        return repr(tree_map(one, tree))

    def called(self, tensor: Tensor) -> str:
        """Return what stands for a tensor."""
        memory = storage(tensor)
        if memory not in self.depends:
            return self._constant(tensor)
        if id(tensor) in self.names:
            return self.names[id(tensor)]
        if memory in self.bases:
            place = tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset()
            return f"{self.bases[memory]}.as_strided({place[0]}, {place[1]}, {place[2]})"
        raise Untraceable("a tensor came from nowhere")


def replayed(function: Function, arguments: Sequence[Tensor]) -> Function:
    """Return a function as the operations that it comes to at some arguments.

    It is the function itself at all arguments of these shapes as long as its course depends on no value; who uses it
    holds it to the function at others.

    Args:
        function: From tensors to a tuple of tensors. It may differentiate inside.
        arguments: The tensors.

    Raises:
        Untraceable: It looks at values, or draws random numbers.
    """
    own = [each.detach().clone() for each in arguments]
    recorder = _Recorder(own)
    with torch.no_grad(), recorder:
        results = function(*own)
    returned = [recorder.called(each) for each in results]
    live, lines = {storage(each) for each in results}, []
    for line, reads, writes in reversed(recorder.calls):
        if writes & live:
            lines.append(line)
            live |= reads
    names = ", ".join(f"a{i}" for i in range(len(own)))
    body = "\n ".join([*reversed(lines), f"return ({', '.join(returned)},)"])
    scope: dict[str, Any] = {"c": recorder.constants}
    exec(f"def run({names}):\n {body}", scope)  # what is written above, and nothing from outside
    run: Function = scope["run"]
    return run
