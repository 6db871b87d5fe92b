"""Arguments of `fit_density` that are no data."""

from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pushforward.bijections.checks import is_size


def check_options(key: Any, validation: Any, learning_rate: Any, **counts: Any) -> None:
    """Raise unless there is a key, a share of the rows, a positive rate, and all others are whole and positive."""
    if not _is_key(key):
        raise ValueError(f"key must be a random key, as jax.random.key(0), but is {key!r}.")
    if not _is_number(validation) or not 0 < validation < 1:
        given = f"is an array of shape {np.shape(validation)}" if np.ndim(validation) else f"is {validation!r}"
        raise ValueError(
            f"validation must be the share of rows to hold out, 0 < validation < 1, as 0.1, but {given}. Rows of one's "
            "own choice cannot be given; judge the flow by them afterwards, with its log_prob."
        )
    if not _is_number(learning_rate) or not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate must be a positive number, but is {learning_rate!r}.")
    for name, value in counts.items():
        if not is_size(value):
            raise ValueError(f"{name} must be a whole number of 1 or more, but is {value!r}.")


def _is_key(key: Any) -> bool:
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.shape == ()
    return key.dtype == np.uint32 and key.ndim == 1


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
