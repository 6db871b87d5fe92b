"""Which outputs of a function depend on which inputs?"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal
from jaxtyping import PyTree


def dependence(fn: Callable[..., PyTree], *arguments: Any) -> tuple[PyTree, list[frozenset[int]]]:
    """The outputs' shapes, and for each output leaf the indices of the input leaves that it may depend on.

    It follows the operations of the traced function, not values: no derivative or value that happens to be zero hides a
    dependence. Operations that contain others, such as a scan, count as if all outputs depend on all inputs.

    Args:
        fn: a function of pytrees of arrays.
        *arguments: its arguments.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    jaxpr = closed.jaxpr
    sources: dict[Any, frozenset[int]] = {var: frozenset({index}) for index, var in enumerate(jaxpr.invars)}

    def of(variables: list) -> frozenset[int]:
        return frozenset().union(*(sources.get(v, frozenset()) for v in variables if not isinstance(v, Literal)))

    for equation in jaxpr.eqns:
        found = of(equation.invars)
        sources.update((var, found) for var in equation.outvars)
    return shapes, [of([var]) for var in jaxpr.outvars]
