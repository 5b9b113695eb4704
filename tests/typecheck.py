"""The checker of annotations in tests: beartype, with whole numbers allowed where floats are."""

import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

Decorator = Callable[..., Any]

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_made: dict[Any, Callable[..., Any]] = {}


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have the annotations of an empty function checked, which jaxtyping calls beside the one that it stands for.

    A function inside another is made anew at every call of that, and making a check takes milliseconds: what has the
    same name and annotations has the same check.
    """
    if "<locals>" not in function.__qualname__:
        return _check(function)
    parameters = inspect.signature(function).parameters.values()
    annotated = tuple((each.name, each.kind, repr(each.annotation)) for each in parameters)
    key = (function.__module__, function.__qualname__, annotated, repr(function.__annotations__.get("return")))
    if key not in _made:
        _made[key] = _check(function)
    return _made[key]


def sparing(jaxtyped: Decorator) -> Decorator:
    """Leave functions inside others as they are while shapes are unchecked: they are decorated at every call of those.

    Args:
        jaxtyped: What decorates.
    """

    def decorator(*arguments: Any, **settings: Any) -> Any:
        decorate = jaxtyped(*arguments, **settings)
        if arguments:
            return decorate
        return lambda made: made if jaxtyping.config.jaxtyping_disable and _inside(made) else decorate(made)

    return decorator


def _inside(made: Any) -> bool:
    return "<locals>" in getattr(made, "__qualname__", "")
