"""Newton paths: from each starting point towards a mode, with the Gaussian of the local curvature at each point."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.posterior.curvature import LogDensity, hessian, hessian_products, inverse_factor
from pushforward.posterior.rounding import cautious_log_density
from pushforward.posterior.search.candidates import apply, gaussian_log_weights, truncated_elbo
from pushforward.posterior.target import finite_or_zero
from pushforward.training.compilation import jit_quick_compilation

# Up to this dimension the curvature is the exact Hessian, beyond it only the Hessian's diagonal.
MAX_HESSIAN_DIM = 256
NUM_ITERATIONS = 40
MIN_GAIN = 1e-6
# Up to this dimension there are many paths. Beyond it, where Hessians are expensive, a path ends when no Gaussian along
# it was better for PATIENCE iterations: it climbs into the neck of a funnel, whose mode is at infinity.
MANY_PATHS_DIM, PATIENCE = 64, 5
NUM_DRAWS, NUM_PROBES = 24, 16
# The longest Newton step, relative to the point's distance from the center of the coordinates. Where the density has
# hardly any curvature, as in exponential tails, the step would be so long that all lengths of the line search are too.
MAX_STEP = 1e3
# Step lengths of the line search along the Newton direction, all evaluated at once.
STEP_LENGTHS = 2.0 ** np.arange(1, -20, -1)


def newton_paths(target: LogDensity, starts: Float[Array, "paths dim"], key: PRNGKeyArray) -> tuple[Array, Array]:
    """The best Gaussian on the Newton path from each start.

    Args:
        target: the log-density.
        starts: the starting points.
        key: for draws, and for probes of the Hessian's diagonal.

    Returns:
        The means, and triangular factors of the covariances; beyond MAX_HESSIAN_DIM dimensions, the diagonals of
        diagonal factors.
    """
    dim = starts.shape[1]
    patience = PATIENCE if dim > MANY_PATHS_DIM else NUM_ITERATIONS
    key, probe_key = jr.split(key)
    noise = jr.normal(key, (NUM_DRAWS, dim), starts.dtype)
    dense = dim <= MAX_HESSIAN_DIM
    probes = jr.rademacher(probe_key, (NUM_PROBES, dim), starts.dtype)
    products = hessian_products(target, starts[0])
    hessian_at = hessian(products, dim)

    def curvature(u):
        """The gradient, and a factor of the inverse of minus the Hessian with positive eigenvalues."""
        gradient = jax.grad(target)(u)
        if dense:
            return gradient, inverse_factor(-hessian_at(u))
        diagonal = jnp.abs(jnp.mean(probes * products(u, probes), 0))
        return gradient, jax.lax.rsqrt(jnp.maximum(diagonal, jnp.finfo(u.dtype).tiny ** 0.5))

    def step(state):
        iteration, u, value, best, last_better, _ = state
        gradient, factor = curvature(u)
        move = apply(factor, apply(factor.T, gradient))
        move = move * jnp.minimum(1.0, MAX_STEP * (1 + jnp.abs(u).max()) / jnp.abs(move).max())
        # The mean of the Gaussian of the local curvature is the end of the full Newton step.
        locs = jnp.stack([u + move, u])
        elbos = jax.vmap(lambda loc: truncated_elbo(gaussian_log_weights(target, loc, factor, noise)))(locs)
        elbos = jnp.where(jnp.isfinite(elbos), elbos, -jnp.inf)
        better = (jnp.max(elbos) > best[0]) & jnp.isfinite(factor).all()
        # Before the first Gaussian with a finite ELBO, the path has only begun.
        last_better = jnp.where(better | jnp.isinf(best[0]), iteration, last_better)
        new = jnp.max(elbos), locs[jnp.argmax(elbos)], factor
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), new, best)
        values = jax.vmap(lambda length: cautious_log_density(target, u + length * move))(
            jnp.asarray(STEP_LENGTHS, u.dtype)
        )
        values = finite_or_zero(values)
        longest = jnp.argmax(values)
        climbs = values[longest] > value
        u = jnp.where(climbs, u + jnp.asarray(STEP_LENGTHS, u.dtype)[longest] * move, u)
        gain = jnp.where(climbs, values[longest] - value, 0.0)
        return iteration + 1, u, jnp.where(climbs, values[longest], value), best, last_better, gain

    def goes_on(state):
        iteration, last_better, gain = state[0], *state[-2:]
        return (iteration < NUM_ITERATIONS) & (iteration - last_better <= patience) & (gain > MIN_GAIN)

    def path(start):
        value = finite_or_zero(cautious_log_density(target, start))
        minus = jnp.array(-jnp.inf, start.dtype)
        best = (minus, start, unit_factor(start))
        state = jax.lax.while_loop(goes_on, step, (0, start, value, best, 0, jnp.array(jnp.inf, start.dtype)))
        return state[3][1:]

    return jax.lax.map(path, starts)


# Compiled as a whole; otherwise it compiles five small programs.
@jit_quick_compilation
def unit_factor(u: Float[Array, " dim"]) -> Array:
    """The factor of the covariance I in the form that `newton_paths` returns.

    Args:
        u: any point; it gives the dimension and the dtype.
    """
    return jnp.eye(u.size, dtype=u.dtype) if u.size <= MAX_HESSIAN_DIM else jnp.ones_like(u)
