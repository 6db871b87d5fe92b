"""How many digits of a function's value are correct? Stochastic arithmetic: each operation is rounded at random.

A function of floating-point numbers can be smooth and wrong: for large x, log-gamma(x + 1) - log-gamma(x) is computed
as exactly 0, at all points nearby, and is log(x). If the result of each operation is changed by its rounding error, up
or down at random, the values of several runs differ by as much as rounding may have changed the value.

References:
    Parker, Monte Carlo Arithmetic (1997).
    Vignes, Discrete Stochastic Arithmetic for Validating Results of Numerical Software (2004).
    https://doi.org/10.1023/B:NUMA.0000049483.75679.ce
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import Array, Float

from pushforward.posterior.equations import bind, evaluate

NUM_RUNS = 8
# The random signs of a run; each operation takes a part of them.
NUM_SIGNS = 8192
# Operations that only move numbers, choose among them or change their sign are exact. All others are rounded, loops and
# solvers as one operation.
ROUNDED = """
acos acosh add add_any asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt cholesky conv_general_dilated cos cosh
cumlogsumexp cumprod cumsum custom_linear_solve digamma div dot_general eigh erf erf_inv erfc exp exp2 expm1 igamma
igammac integer_pow lgamma log log1p logistic lu mul polygamma pow qr reduce_prod reduce_sum
regularized_incomplete_beta rsqrt scan sin sinh sqrt square sub svd tan tanh triangular_solve while zeta
"""
# Calls, whose operations join the others.
CALLS = "checkpoint closed_call core_call custom_jvp_call custom_vjp_call custom_vjp_call_jaxpr jit pjit remat remat2"


def spread_of_runs(fn: Callable[[Array], Float[Array, ""]], u: Float[Array, " dim"]) -> Float[Array, ""]:
    """The largest minus the smallest value of several runs with random rounding; 0 if fewer than two are finite.

    Args:
        fn: the function, which JAX can trace.
        u: the point.
    """
    closed = jax.make_jaxpr(fn)(u)
    signs = np.random.default_rng(0).choice([-1, 1], (NUM_RUNS, NUM_SIGNS)).astype(np.int8)
    values = jax.lax.map(lambda run: _Run(run).evaluate(closed.jaxpr, closed.consts, [u])[0], jnp.asarray(signs))
    finite = jnp.isfinite(values)
    high, low = (jnp.where(finite, values, -sign * jnp.inf) for sign in (1, -1))
    return jnp.where(finite.sum() > 1, high.max() - low.min(), 0.0)


class _Run:
    """One evaluation with random rounding.

    Args:
        signs: random signs.
    """

    def __init__(self, signs: Array):
        self._signs, self._rng = signs, np.random.default_rng(1)

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list:
        """The results of equations.

        Args:
            jaxpr: the equations.
            consts: the values of their constants.
            args: the values of their arguments.
        """
        return evaluate(jaxpr, consts, args, self._results_of)

    def _results_of(self, equation: JaxprEqn, values: list) -> list:
        called = [value for value in equation.params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
        if equation.primitive.name in CALLS.split() and len(called) == 1:
            inner = called[0]
            closed = isinstance(inner, ClosedJaxpr)
            return self.evaluate(inner.jaxpr if closed else inner, inner.consts if closed else (), values)
        results = bind(equation, values)
        return [self._rounded(result) for result in results] if equation.primitive.name in ROUNDED.split() else results

    def _rounded(self, x: Array) -> Array:
        """The numbers, with the last digit changed, up or down; small integers are exact."""
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        eps = jnp.finfo(x.dtype).eps
        signs = jnp.roll(self._signs, int(self._rng.integers(NUM_SIGNS)))
        signs = jnp.resize(signs, x.shape).astype(x.dtype)
        exact = (jnp.round(x) == x) & (jnp.abs(x) < 1 / eps)
        return jnp.where(exact, x, x * (1 + eps * signs))
