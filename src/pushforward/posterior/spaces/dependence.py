"""Which outputs of a function depend on which inputs?"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.extend.core import Jaxpr, Literal
from jaxtyping import PyTree

Sources = frozenset[int]


def dependence(fn: Callable[..., PyTree], *arguments: Any) -> tuple[PyTree, list[Sources]]:
    """The outputs' shapes, and for each output leaf the indices of the input leaves that it may depend on.

    It follows the operations of the traced function, not values: no derivative or value that happens to be zero hides a
    dependence. It looks into compiled functions, scans, loops and conditions. Other operations that contain operations
    count as if all outputs depend on all inputs.

    Args:
        fn: a function of pytrees of arrays.
        *arguments: its arguments.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    return shapes, _sources(closed.jaxpr, [frozenset({index}) for index in range(len(closed.jaxpr.invars))])


def dependent(fn: Callable[..., dict[str, PyTree]], *arguments: Any) -> frozenset[str]:
    """The names of the entries of a function's result of which an array may depend on an argument.

    Args:
        fn: a function of pytrees of arrays that returns a dict.
        *arguments: its arguments.
    """
    shapes, sources = dependence(lambda *values: eqx.filter(fn(*values), eqx.is_array_like), *arguments)
    names = [path[0].key for path, _ in jax.tree.leaves_with_path(shapes)]
    return frozenset(name for name, source in zip(names, sources, strict=True) if source)


def _sources(jaxpr: Jaxpr, inputs: list[Sources]) -> list[Sources]:
    """The sources of each output, from those of each input."""
    sources: dict[Any, Sources] = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(variable: Any) -> Sources:
        return frozenset() if isinstance(variable, Literal) else sources.get(variable, frozenset())

    for equation in jaxpr.eqns:
        found = [of(variable) for variable in equation.invars]
        if equation.primitive.name == "jit":
            outputs = _sources(equation.params["jaxpr"].jaxpr, found)
        elif equation.primitive.name == "scan":
            outputs = _sources_of_scan(equation.params, found)
        elif equation.primitive.name == "while":
            outputs = _sources_of_loop(equation.params, found)
        elif equation.primitive.name == "cond":
            branches = [_sources(branch.jaxpr, found[1:]) for branch in equation.params["branches"]]
            outputs = [found[0].union(*output) for output in zip(*branches, strict=True)]
        else:
            outputs = [frozenset().union(*found)] * len(equation.outvars)
        sources.update(zip(equation.outvars, outputs, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _sources_of_scan(params: dict[str, Any], inputs: list[Sources]) -> list[Sources]:
    """Steps are followed until the carry depends on nothing new."""
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    while True:
        outputs = _sources(params["jaxpr"].jaxpr, inputs)
        carry = [before | after for before, after in zip(inputs[first:last], outputs, strict=False)]
        if carry == inputs[first:last]:
            return outputs
        inputs = [*inputs[:first], *carry, *inputs[last:]]


def _sources_of_loop(params: dict[str, Any], inputs: list[Sources]) -> list[Sources]:
    """Iterations are followed until the carry depends on nothing new; all of it depends on when the loop ends."""
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    of_condition, of_body, carry = inputs[:first], inputs[first:last], inputs[last:]
    while True:
        [end] = _sources(params["cond_jaxpr"].jaxpr, [*of_condition, *carry])
        after = _sources(params["body_jaxpr"].jaxpr, [*of_body, *carry])
        new = [one | other | end for one, other in zip(carry, after, strict=True)]
        if new == carry:
            return carry
        carry = new
