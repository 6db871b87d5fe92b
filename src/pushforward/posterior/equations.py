"""Functions as the equations that JAX traces, evaluated one by one."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn, Literal


def evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], results_of: Callable[[JaxprEqn, list], list]
) -> list:
    """The results of equations.

    Args:
        jaxpr: the equations.
        consts: the values of their constants.
        args: the values of their arguments.
        results_of: computes the results of one equation from the values of its operands; `bind` does what JAX does.
    """
    known: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(variable):
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        results = results_of(equation, [read(variable) for variable in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def bind(equation: JaxprEqn, values: list) -> list:
    """The results of an equation.

    Args:
        equation: the equation.
        values: the values of its operands.
    """
    parameters = equation.primitive.get_bind_params(equation.params)
    # Versions of JAX differ: some return the functions of the parameters separately.
    functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)
    with equation.ctx.manager:
        results = equation.primitive.bind(*functions, *values, **parameters)
    return [*results] if equation.primitive.multiple_results else [results]
