"""Functions that raise errors while they run, such as `equinox.error_if`: results without errors, and where they were.

`equinox.error_if`, and with it the solvers of Diffrax, Optimistix and Lineax, raise an error from inside a compiled
program. One such point in a batch of thousands ends the whole program. Here the function is traced and its equations
are evaluated again without these errors; whether a point would have raised one is a second result. The errors of all
points are separate, also under `jax.vmap`. So are exceptions of functions outside of JAX, in `jax.pure_callback`.

A function with its own derivative rule that holds an error loses the rule. So differentiate first: this module removes
the errors of the function and those of its gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxprs_in_params
from jaxtyping import Array, Bool, Float

from pushforward.posterior.callbacks import CALLBACKS, calls_user, function_of, without_exceptions
from pushforward.posterior.equations import bind, evaluate

# Equinox checks whole batches at once by these primitives.
WHOLE_BATCH = {"unvmap_any": jnp.any, "unvmap_all": jnp.all, "unvmap_max": jnp.max}


def can_raise(fn: Callable, *args: Any) -> bool:
    """Whether a function holds errors that `without_errors` replaces, which is found by tracing alone.

    Args:
        fn: a function of pytrees of arrays.
        *args: its arguments, or `jax.ShapeDtypeStruct`s.
    """
    return _holds_error(jax.make_jaxpr(fn)(*args).jaxpr)


@eqx.filter_custom_vjp
def zero_at_errors(u: Float[Array, " dim"], log_density: Callable[[Array], Float[Array, ""]]) -> Float[Array, ""]:
    """The log-density, -inf at points where it raises an error; there the gradient is NaN.

    Args:
        u: the point.
        log_density: the log-density, a pytree.
    """
    value, failed = without_errors(log_density)(u)
    return jnp.where(failed, -jnp.inf, value)


@zero_at_errors.def_fwd
def _value_and_gradient(perturbed, u, log_density):
    del perturbed
    (value, gradient), failed = without_errors(jax.value_and_grad(log_density))(u)
    return jnp.where(failed, -jnp.inf, value), jnp.where(failed, jnp.nan, gradient)


@zero_at_errors.def_bwd
def _pull_back(gradient, cotangent, perturbed, u, log_density):
    del perturbed, u, log_density
    return cotangent * gradient


def without_errors(fn: Callable) -> Callable[..., tuple[Any, Bool[Array, ""]]]:
    """A function that returns the result, and whether the function would have raised an error.

    Args:
        fn: a function of pytrees of arrays.
    """

    def call(*args):
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
        results, failed = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), results), failed

    return call


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> tuple[list, Bool[Array, ""]]:
    """The results of equations, and whether one of them would have raised an error."""
    failed, checks = jnp.array(False), any(map(_is_check, jaxpr.eqns))

    def results_of(equation, values):
        nonlocal failed
        if checks and equation.primitive.name in WHOLE_BATCH:
            return [WHOLE_BATCH[equation.primitive.name](*values)]
        if not _holds_error(equation):
            return bind(equation, values)
        results, also = _evaluate_with_errors(equation, values)
        failed = failed | also
        return results

    results = evaluate(jaxpr, consts, args, results_of)
    return results, failed


def _evaluate_with_errors(equation: JaxprEqn, values: list) -> tuple[list, Bool[Array, ""]]:
    """The results of an equation that holds errors."""
    parameters = equation.params
    match equation.primitive.name:
        case name if name in CALLBACKS:
            return without_exceptions(equation, values)
        case "cond" if _is_error(equation):
            index, *operands = values
            safe = next(i for i, branch in enumerate(parameters["branches"]) if not _calls_error(branch.jaxpr))
            branch = parameters["branches"][safe]
            return _evaluate(branch.jaxpr, branch.consts, operands)[0], index != safe
        case "cond":
            index, *operands = values
            branches = [_as_function(branch) for branch in parameters["branches"]]
            return jax.lax.switch(jnp.asarray(index, jnp.int32), branches, *operands)
        case "scan":
            return _scan(parameters, values)
        case "while":
            return _while(parameters, values)
        case "checkpoint" | "remat" | "remat2":
            inner = parameters["jaxpr"]
            again = jax.checkpoint(
                lambda *args: _evaluate(inner, (), args),
                prevent_cse=parameters["prevent_cse"],
                policy=parameters["policy"],
            )
            return again(*values)
        case _:
            called = _called(equation)
            if len(called) != 1:  # such as `jax.shard_map`, which shares values out among devices: errors stay
                return bind(equation, values), jnp.array(False)
            (inner,) = called  # a call, whose equations join the others
            return _evaluate(inner.jaxpr, inner.consts, values)


def _scan(parameters: dict[str, Any], values: list) -> tuple[list, Bool[Array, ""]]:
    num_consts, num_carry = parameters["num_consts"], parameters["num_carry"]
    consts, carry, columns = _parts(values, num_consts, num_carry)
    body = _as_function(parameters["jaxpr"])

    def step(state, row):
        carry, failed = state
        results, also = body(*consts, *carry, *row)
        return (results[:num_carry], failed | also), results[num_carry:]

    options = {name: parameters[name] for name in ("length", "reverse", "unroll")}
    (carry, failed), rows = jax.lax.scan(step, (carry, jnp.array(False)), columns, **options)
    return [*carry, *rows], failed


def _while(parameters: dict[str, Any], values: list) -> tuple[list, Bool[Array, ""]]:
    cond_consts, body_consts, carry = _parts(values, parameters["cond_nconsts"], parameters["body_nconsts"])
    goes_on, body = _as_function(parameters["cond_jaxpr"]), _as_function(parameters["body_jaxpr"])

    def step(state):
        results, also = body(*body_consts, *state[0])
        return results, state[1] | also

    return jax.lax.while_loop(lambda state: goes_on(*cond_consts, *state[0])[0][0], step, (carry, jnp.array(False)))


def _parts(values: list, first: int, second: int) -> tuple[list, list, list]:
    return values[:first], values[first : first + second], values[first + second :]


def _as_function(closed: ClosedJaxpr) -> Callable[..., tuple[list, Bool[Array, ""]]]:
    return lambda *args: _evaluate(closed.jaxpr, closed.consts, args)


def _holds_error(part: Jaxpr | JaxprEqn) -> bool:
    """Whether some equation, also of an inner function, raises an error."""
    if isinstance(part, Jaxpr):
        return any(map(_holds_error, part.eqns))
    return (
        _is_error(part)
        or calls_user(part)
        or any(_holds_error(getattr(j, "jaxpr", j)) for j in jaxprs_in_params(part.params))
    )


def _is_check(equation: JaxprEqn) -> bool:
    """Whether it raises an error, at most inside the derivative rule of `equinox.error_if`."""
    rule = equation.primitive.name == "custom_jvp_call"
    return _is_error(equation) or (rule and any(_is_error(e) for c in _called(equation) for e in c.jaxpr.eqns))


def _is_error(equation: JaxprEqn) -> bool:
    """Whether it chooses between its operands and an error."""
    return equation.primitive.name == "cond" and any(_calls_error(b.jaxpr) for b in equation.params["branches"])


def _calls_error(jaxpr: Jaxpr) -> bool:
    """Whether it is a branch that only raises an error."""
    callbacks = [function_of(equation) for equation in jaxpr.eqns if equation.primitive.name == "pure_callback"]
    return any(getattr(call, "__module__", None) == "equinox._errors" for call in callbacks)


def _called(equation: JaxprEqn) -> list[ClosedJaxpr]:
    return [value for value in equation.params.values() if isinstance(value, ClosedJaxpr)]
