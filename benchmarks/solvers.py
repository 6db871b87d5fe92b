"""The library's solvers compared with Optimistix's, which take their linear solves from Lineax.

    make solvers

Four problems, as the inverses of bijections pose them, each solved for a batch of events in float64 at the same
tolerance by both: a scalar increasing function (logit of a mixture of sigmoids), a contraction, a system of a few
equations (a Sylvester flow's) and a triangular fixed point (a masked autoregressive network's). For the value and for
the gradient of its sum with respect to the parameters, the figure is the median time of the other solver over the
library's, from turns in one process: above 1, the library is faster. `failed` counts events whose residual is above
1e-8, or that are NaN.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import optimistix as optx

from pushforward.bijections.solvers.contraction import solve_contraction
from pushforward.bijections.solvers.monotone import invert_monotone
from pushforward.bijections.solvers.newton import invert_newton
from pushforward.bijections.solvers.triangular import solve_triangular_fixed_point

EVENTS, TURNS, TOLERANCE = 512, 15, 1e-12
RATE = 0.9
LIMITS: dict[str, Any] = {"max_steps": 1000, "throw": False}
ITERATIVE = optx.ImplicitAdjoint(lx.GMRES(TOLERANCE, TOLERANCE))


def mixture(y, args):
    """The logit of a mixture of eight sigmoids, flat between two groups of them."""
    locs, log_scales = args
    return jax.scipy.special.logit(jnp.mean(jax.nn.sigmoid((y[..., None] - locs) * jnp.exp(-log_scales)), -1))


def contraction(y, args):
    matrix, x = args
    return x - RATE * matrix @ jnp.tanh(y)


def sylvester(u, args):
    matrix, x = args
    return u + matrix @ jnp.tanh(u) - x


def triangular(y, args):
    matrix, x = args
    return x + jnp.tril(matrix, -1) @ jnp.tanh(y)


def root_finder(solver: Any, **options) -> Callable:
    """A solution by Optimistix, called with a residual, a start and arguments."""
    return lambda residual, y, args: (
        optx.root_find(residual, solver, y, args, max_steps=1000, throw=False, **options).value
    )


def iteration(fn: Callable, **options) -> Callable:
    """A solution by Optimistix's fixed-point iteration of `fn`, called as a `root_finder`."""
    solver = optx.FixedPointIteration(TOLERANCE, TOLERANCE)
    return lambda _, y, args: optx.fixed_point(fn, solver, y, args, **LIMITS, **options).value


def problems() -> dict[str, tuple[Callable, tuple[Any, Any], Callable, dict[str, Callable]]]:
    """By name: the residual, its parameters and the batch of targets, our solution, and other solvers."""
    keys = jr.split(jr.key(0), 8)
    x = 3 * jr.normal(keys[0], (EVENTS,))
    bracket = {"options": {"lower": -1e3, "upper": 1e3}}
    locs = jnp.concatenate([jr.normal(keys[1], (4,)) - 4, jr.normal(keys[2], (4,)) + 4])
    square = jr.normal(keys[3], (10, 10))
    contractive = square / jnp.linalg.norm(square, 2)
    vectors = 2 * jr.normal(keys[4], (EVENTS, 10))
    positive = jr.normal(keys[5], (4, 4))
    positive = positive @ positive.T / 4
    return {
        "increasing": (
            lambda y, args: mixture(y, args[0]) - args[1],
            ((locs, 0.3 * jr.normal(keys[6], (8,)) - 1), x),
            lambda residual, args: invert_monotone(mixture, args[1], args[0]),
            {
                "Newton": root_finder(optx.Newton(TOLERANCE, TOLERANCE)),
                "Bisection": root_finder(optx.Bisection(TOLERANCE, TOLERANCE, expand_if_necessary=True), **bracket),
            },
        ),
        "contraction": (
            lambda y, args: contraction(y, args) - y,
            (contractive, vectors),
            lambda residual, args: solve_contraction(contraction, args[1], args, RATE),
            {
                "FixedPointIteration": iteration(contraction),
                "FixedPointIteration, GMRES": iteration(contraction, adjoint=ITERATIVE),
            },
        ),
        "few equations": (
            sylvester,
            (positive, vectors[:, :4]),
            lambda residual, args: invert_newton(lambda u, m: u + m @ jnp.tanh(u), args[1], args[0]),
            {
                "Newton": root_finder(optx.Newton(TOLERANCE, TOLERANCE)),
                "Dogleg": root_finder(optx.Dogleg(TOLERANCE, TOLERANCE)),
            },
        ),
        "triangular": (
            lambda y, args: triangular(y, args) - y,
            (square, vectors),
            lambda residual, args: solve_triangular_fixed_point(triangular, args[1], args),
            {
                "FixedPointIteration": iteration(triangular),
                "Newton": root_finder(optx.Newton(TOLERANCE, TOLERANCE)),
            },
        ),
    }


def compiled(solve: Callable, residual: Callable, args: Any) -> tuple[Callable, Callable, np.ndarray]:
    """The batched solution, the gradient of its sum, and the residuals."""

    def batched(parameters, x):
        return jax.vmap(lambda x: solve(residual, (parameters, x)))(x)

    value = jax.jit(batched)
    gradient = jax.jit(jax.grad(lambda parameters, x: jnp.sum(batched(parameters, x)), argnums=0))
    y = value(*args)
    residuals = jax.vmap(lambda y, x: residual(y, (args[0], x)))(y, args[1])
    return lambda: value(*args), lambda: gradient(*args), np.abs(np.asarray(residuals)).reshape(EVENTS, -1).max(1)


def seconds(run: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    print(f"{'problem':14} {'solver':28} {'value':>7} {'gradient':>9} {'failed':>7} {'ours failed':>12}")
    for name, (residual, args, ours, others) in problems().items():
        mine = compiled(ours, residual, args)
        for other_name, other in others.items():
            theirs = compiled(lambda fn, args, other=other: other(fn, args[1], args), residual, args)
            ratios = []
            for turn in range(TURNS + 1):
                # The first turn compiles.
                times = [(seconds(b), seconds(a)) for a, b in zip(mine[:2], theirs[:2], strict=True)]
                if turn:
                    ratios.append([other_time / own_time for other_time, own_time in times])
            value, gradient = np.median(ratios, axis=0)
            failed, own_failed = (int((~(r < 1e-8)).sum()) for r in (theirs[2], mine[2]))
            print(f"{name:14} {other_name:28} {value:7.2f} {gradient:9.2f} {failed:7} {own_failed:12}")


if __name__ == "__main__":
    main()
