"""Every call in ``vla`` is checked against its annotations; the sizes of arrays are remembered where there are some.

jaxtyping's hook binds the arguments of each function anew for each call, checks them twice and keeps a memory of sizes,
also where no annotation speaks of shapes: most of the suite's time went there. Such functions go to beartype alone,
which checks the same types; a name like ``b`` never meant the same in two functions, so nothing is lost.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, jaxtyped

_typed = beartype(conf=BeartypeConf(violation_type=TypeCheckError))


def speaks_of_shapes(annotation: Any) -> bool:
    """Whether there is an array of a known shape in it; a name in quotes may hide one."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    if get_origin(annotation) is Literal:
        return False
    parts = annotation if isinstance(annotation, list | tuple) else get_args(annotation)
    return any(speaks_of_shapes(part) for part in parts if part is not annotation)


def checked(*, typechecker: Callable) -> Callable[[Any], Any]:
    """What the hook puts on each function and class of ours."""

    def decorate(thing: Any) -> Any:
        if inspect.isclass(thing) and not (dataclasses.is_dataclass(thing) and "__init__" in vars(thing)):
            return thing
        function = thing.__init__ if inspect.isclass(thing) else thing
        if any(speaks_of_shapes(annotation) for annotation in function.__annotations__.values()):
            return jaxtyped(thing, typechecker=typechecker)
        if not inspect.isclass(thing):
            return _typed(thing)
        thing.__init__ = _typed(function)
        return thing

    return decorate


def install() -> None:
    """The hook's decorator is looked up when a module of ours is imported."""
    jaxtyping.jaxtyped = checked
