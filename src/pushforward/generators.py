"""Generators of NumPy and further keys from the keys of JAX."""

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray


def numpy_generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's generator, seeded by a key.

    Args:
        key: the key.
    """
    return np.random.default_rng(np.asarray(jr.key_data(key)).tolist())


def separate_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """A key that differs from all into which `key` is split, which `fold_in(key, i)` does not for small i.

    Args:
        key: the key, which is split too.
    """
    return jr.fold_in(key, 2**32 - 1)
