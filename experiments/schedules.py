"""Learning rates that experiments share."""

import functools

import optax


@functools.cache
def cosine(rate: float, epochs: int, num_images: int, batch_size: int) -> optax.Schedule:
    """A cosine decay to a hundredth over all steps.

    Equal arguments give the same object, so that equal models compile once.
    """
    return optax.cosine_decay_schedule(rate, epochs * (num_images // batch_size), 0.01)
