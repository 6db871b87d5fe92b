"""Which coordinates are global: those on which the shape of the others' posterior depends."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import Triangular
from pushforward.posterior.curvature import LogDensity
from pushforward.training.compilation import jit_quick_compilation

NUM_DRAWS = 512
# A coordinate is global if its influence is this many times the median, and larger than rounding noise;
# there is a largest number and fraction.
MIN_RATIO, MIN_SHARE = 2.0, 1e-3
MAX_GLOBAL, MAX_GLOBAL_FRACTION = 48, 0.35


@jit_quick_compilation
def influence(target: LogDensity, affine: Triangular, key: PRNGKeyArray) -> Float[Array, " dim"]:
    r"""How much each coordinate changes the curvature of the log-density, near a Gaussian N(b, L L^T).

    Let g be the gradient and H the Hessian of the log-density, u a draw of the Gaussian, and v a draw of N(0, L L^T).
    The influence of coordinate k is its standard deviation times the root mean square of
    $g_k(u + v/2) - 2 g_k(u) + g_k(u - v/2) \approx \tfrac14 v^T \partial_k H(u) v$. If the target is Gaussian, it is 0.
    In a hierarchical model it is large for the parameters that scale many others. The largest hundredth of the squares
    is cut off.

    Args:
        target: the log-density.
        affine: b and L.
        key: for draws and directions.
    """
    draw_key, direction_key = jr.split(key)
    matrix, dtype = affine.matrix, affine.loc.dtype
    scales = jnp.linalg.norm(matrix, axis=1)
    shape = (NUM_DRAWS, len(scales))
    u = affine.loc + jr.normal(draw_key, shape, dtype) @ matrix.T
    v = jr.normal(direction_key, shape, dtype) @ matrix.T
    gradient = jax.grad(target)

    def second_difference(pair):
        u, v = pair
        return gradient(u + v / 2) - 2 * gradient(u) + gradient(u - v / 2)

    squares = (scales * jax.lax.map(second_difference, (u, v), batch_size=64)) ** 2
    squares = jnp.where(jnp.isfinite(squares), squares, jnp.nan)
    largest = jnp.nanquantile(squares, 0.99, axis=0)
    return jnp.sqrt(jnp.nanmean(jnp.minimum(squares, largest), axis=0))


def order_by_influence(influence: Float[np.ndarray, " dim"]) -> tuple[np.ndarray, int]:
    """The coordinates in decreasing order of their influence, and the number of global ones.

    If no coordinate stands out, there are none.

    Args:
        influence: the influence of each coordinate.
    """
    influence = np.nan_to_num(influence)
    order = np.argsort(-influence, kind="stable")
    least = max(MIN_RATIO * np.median(influence), MIN_SHARE * influence.max())
    stands_out = int((influence > least).sum())
    return order, min(stands_out, MAX_GLOBAL, int(MAX_GLOBAL_FRACTION * len(influence)))
