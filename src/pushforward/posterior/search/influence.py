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
# A coordinate is global if its influence is this many times the median, and larger than rounding noise: a part of the
# largest, and a size. There is a largest number and fraction.
MIN_RATIO, MIN_SHARE, MIN_INFLUENCE = 2.0, 1e-3, 1e-3
# The largest influence is 5 to 23 times the median in hierarchical models, up to 2.5 times in regressions without.
CLEAR_RATIO = 4.0
MAX_GLOBAL, MAX_GLOBAL_FRACTION = 48, 0.35


def find_global(
    target: LogDensity, affine: Triangular, key: PRNGKeyArray, first_ratio: float = MIN_RATIO
) -> tuple[np.ndarray, int]:
    r"""An order of the coordinates, global ones first, and their number; 0 if no coordinate stands out.

    The influence of a coordinate is the root mean square of the change of the curvature when it moves by one standard
    deviation of a Gaussian near the target, and the others with it, as they do on average. The coordinate of the
    largest influence is global if it stands out, and then that of the largest influence given the coordinates before.
    In a hierarchical model these are the parameters that scale many others. A coordinate alone would leave the
    posterior where correlations are strong, and say little: in a random walk, every innovation would seem global.

    Args:
        target: the log-density.
        affine: the map from N(0, I) to the Gaussian.
        key: for draws and directions.
        first_ratio: how many times the median the largest influence must be.
    """
    changes = np.asarray(_changes(target, affine, key), float)
    return order_by_influence(changes, np.asarray(affine.matrix, float), first_ratio)


@jit_quick_compilation
def _changes(target: LogDensity, affine: Triangular, key: PRNGKeyArray) -> Float[Array, "draws dim"]:
    r"""Changes of the curvature along random directions, by whitened coordinates.

    Let g be the gradient and H the Hessian of the log-density, u a draw of the Gaussian $N(b, L L^T)$, and v one of
    $N(0, L L^T)$. They are $L^T (g(u + v/2) - 2 g(u) + g(u - v/2))$, about $\tfrac14 L^T \nabla (v^T H v)$, which is 0
    if the target is Gaussian. The largest hundredth is cut off, in each coordinate.
    """
    draw_key, direction_key = jr.split(key)
    matrix, dtype = affine.matrix, affine.loc.dtype
    shape = (NUM_DRAWS, len(matrix))
    u = affine.loc + jr.normal(draw_key, shape, dtype) @ matrix.T
    v = jr.normal(direction_key, shape, dtype) @ matrix.T
    gradient = jax.grad(target)

    def second_difference(pair):
        u, v = pair
        return gradient(u + v / 2) - 2 * gradient(u) + gradient(u - v / 2)

    found = jax.lax.map(second_difference, (u, v), batch_size=64) @ matrix
    found = jnp.where(jnp.isfinite(found), found, jnp.nan)
    largest = jnp.nanquantile(jnp.abs(found), 0.99, axis=0)
    return jnp.nan_to_num(jnp.clip(found, -largest, largest))


def order_by_influence(
    changes: Float[np.ndarray, "draws dim"], matrix: Float[np.ndarray, "dim dim"], first_ratio: float = MIN_RATIO
) -> tuple[np.ndarray, int]:
    """The coordinates, global ones first, in the order in which they were found, and their number.

    Args:
        changes: changes of the curvature, by whitened coordinates.
        matrix: a row for each coordinate, its part of each whitened coordinate.
        first_ratio: how many times the median the largest influence must be.
    """
    dim, order, first = len(matrix), [], 0.0
    # Unit vectors of the coordinates, without their parts along those of the global ones, and the changes along them.
    rows = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    along, left = rows @ changes.T, np.ones(dim, bool)
    for _ in range(min(MAX_GLOBAL, int(MAX_GLOBAL_FRACTION * dim))):
        lengths = np.maximum(np.linalg.norm(rows, axis=1), np.finfo(float).eps ** 0.5)
        influence = np.sqrt(np.mean(along**2, axis=1)) / lengths
        best = np.argmax(np.where(left, influence, -1))
        first, ratio = first or influence[best], MIN_RATIO if order else first_ratio
        if not influence[best] > max(ratio * np.median(influence[left]), MIN_SHARE * first, MIN_INFLUENCE):
            break
        order.append(best)
        left[best] = False
        parts = rows @ rows[best] / lengths[best]
        along = along - np.outer(parts, along[best] / lengths[best])
        rows = rows - np.outer(parts, rows[best] / lengths[best])
    return np.concatenate([np.array(order, int), np.flatnonzero(left)]), len(order)
