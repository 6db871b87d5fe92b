"""Log-likelihoods and predictions for each draw and observation: large, so computed in chunks and kept in 32 bits."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from pushforward.posterior.spaces.base import AbstractSpace, Draw

CHUNK_BYTES = 2**25

Values = dict[str, np.ndarray]
# From a space, a draw and a key to arrays by name.
Prediction = Callable[[AbstractSpace, Draw, PRNGKeyArray], dict[str, Array]]


def log_likelihoods(space: AbstractSpace, draw: Draw, key: PRNGKeyArray) -> dict[str, Array]:
    """The log-likelihood of each observation, as a `Prediction`.

    Args:
        space: the model.
        draw: a draw.
        key: not used.
    """
    return space.pointwise_log_likelihood(draw)


def replicas(space: AbstractSpace, draw: Draw, key: PRNGKeyArray) -> dict[str, Array]:
    """Observations drawn from the model, as a `Prediction`.

    Args:
        space: the model.
        draw: a draw.
        key: the key.
    """
    return space.replicate(draw, key)


def discrete(space: AbstractSpace, draw: Draw, key: PRNGKeyArray) -> dict[str, Array]:
    """The discrete sites that the density sums out, as a `Prediction`.

    Args:
        space: the model.
        draw: a draw.
        key: the key.
    """
    return space.discrete_draws(draw, key)


@eqx.filter_jit
def _run(prediction: Prediction, space: AbstractSpace, draws: Draw, keys: Array) -> dict[str, Array]:
    return jax.vmap(lambda draw, key: prediction(space, draw, key))(draws, keys)


def predict(prediction: Prediction, space: AbstractSpace, draws: Draw, key: PRNGKeyArray | None) -> Values:
    """The predictions of all draws, with real numbers in 32 bits.

    Args:
        prediction: what to compute.
        space: the model.
        draws: draws with leading axes (chains, draws).
        key: the key for all draws; None if the prediction does not use it.

    Raises:
        UnavailablePrediction: if the model does not have the prediction.
    """
    leading = jax.tree.leaves(draws)[0].shape[:2]
    num = leading[0] * leading[1]
    flat = jax.tree.map(lambda leaf: leaf.reshape(num, *leaf.shape[2:]), draws)
    keys = jr.split(jr.key(0) if key is None else key, num)
    shapes = _shapes(prediction, space, jax.tree.map(lambda leaf: leaf[0], flat))
    values = {name: np.empty((num, *shape.shape), _stored(shape.dtype)) for name, shape in shapes.items()}
    chunk = min(num, max(1, CHUNK_BYTES // max(1, _num_bytes(shapes))))
    for start in range(0, num, chunk):
        rows = slice(min(start, num - chunk), min(start, num - chunk) + chunk)  # all of one size: compiled once
        part = _run(prediction, space, jax.tree.map(lambda leaf, rows=rows: leaf[rows], flat), keys[rows])
        for name, value in part.items():
            values[name][rows] = value
    return {name: value.reshape(*leading, *value.shape[1:]) for name, value in values.items()}


def bytes_per_draw(prediction: Prediction, space: AbstractSpace, draw: Draw) -> int:
    """The size of the predictions of one draw.

    Args:
        prediction: what to compute.
        space: the model.
        draw: a draw, or its shapes.

    Raises:
        UnavailablePrediction: if the model does not have the prediction.
    """
    return _num_bytes(_shapes(prediction, space, draw))


def _shapes(prediction: Prediction, space: AbstractSpace, draw: Draw) -> dict[str, jax.ShapeDtypeStruct]:
    return eqx.filter_eval_shape(prediction, space, draw, jr.key(0))


def _num_bytes(shapes: dict[str, jax.ShapeDtypeStruct]) -> int:
    return sum(int(np.prod(shape.shape)) * _stored(shape.dtype).itemsize for shape in shapes.values())


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if np.issubdtype(dtype, np.floating) else np.dtype(dtype)
