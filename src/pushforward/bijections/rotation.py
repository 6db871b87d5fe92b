"""Multiplication by a fixed orthogonal matrix."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pushforward.bijections.arrays import ArrayLike, Constant
from pushforward.bijections.base import AbstractBijection, no_log_det
from pushforward.bijections.checks import is_known


class Rotation(AbstractBijection):
    r"""$x = Q u$ with a fixed orthogonal matrix $Q$, which is not trained; the log-determinant is 0.

    Both directions cost one product. `Orthogonal` has a trained rotation, whose products cost several times as much.

    Args:
        matrix: $Q$, a square matrix with $Q^\top Q = I$; it may be a reflection too.
    """

    constant: Constant
    cond_shape: ClassVar[None] = None
    vectorized: ClassVar[bool] = True

    def __init__(self, matrix: ArrayLike):
        matrix = jnp.asarray(matrix, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix must be square, but has shape {matrix.shape}.")
        if is_known(matrix):
            error = np.abs(np.asarray(matrix).T @ np.asarray(matrix) - np.eye(len(matrix))).max(initial=0.0)
            if not error <= np.finfo(matrix.dtype).eps ** 0.5:
                raise ValueError(
                    f"matrix must be orthogonal, but its transpose times itself differs from I by {error:.2g}."
                )
        self.constant = Constant(matrix)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.matrix),)

    @property
    def matrix(self) -> Float[Array, "dim dim"]:
        """$Q$."""
        return self.constant.value

    def _forward(self, u, condition, key):
        return self.matrix @ u, no_log_det(self, u)

    def _inverse(self, x, condition, key):
        return self.matrix.T @ x, no_log_det(self, x)

    def _push_score(self, u, score, condition):
        return *self._forward(u, None, None), self.matrix @ score
