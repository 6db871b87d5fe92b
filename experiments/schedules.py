"""Learning rates that experiments share."""

import functools

import optax


@functools.cache
def cosine(rate: float, epochs: int, num_images: int, batch_size: int) -> optax.Schedule:
    """Down to a hundredth over all steps; one object for equal arguments, so that equal models compile once."""
    return optax.cosine_decay_schedule(rate, epochs * (num_images // batch_size), 0.01)
