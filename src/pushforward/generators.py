"""Random numbers of NumPy from the keys of JAX."""

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray


def numpy_generator(key: PRNGKeyArray) -> np.random.Generator:
    """NumPy's generator, seeded by a key.

    Args:
        key: the key.
    """
    return np.random.default_rng(np.asarray(jr.key_data(key)).tolist())
