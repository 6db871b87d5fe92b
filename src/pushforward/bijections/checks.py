"""Checks of arguments."""

from numbers import Integral

from jax.core import Tracer

from pushforward.bijections.arrays import ArrayLike
from pushforward.bijections.base import AbstractBijection


def check_bijections(taker: str, *given: object) -> None:
    """Raise unless all are instances of bijections."""
    for other in given:
        if not isinstance(other, AbstractBijection):
            hint = f"; for an instance write {other.__name__}(...)" if isinstance(other, type) else ""
            raise TypeError(f"{taker} takes bijections, but got {other!r}{hint}.")


def check_transformer(bijection: AbstractBijection) -> None:
    """Raise unless the bijection is scalar and unconditional, as a transformer must be."""
    check_bijections("a conditioner or Elementwise", bijection)
    if bijection.shape != () or bijection.cond_shape is not None:
        raise ValueError(
            f"a transformer must be a scalar bijection without a condition, but {type(bijection).__name__} has "
            f"shape {bijection.shape} and cond_shape {bijection.cond_shape}."
        )


def check_sizes(**sizes: int | None) -> None:
    """Raise unless all sizes are positive integers or None."""
    if not all(size is None or is_size(size) for size in sizes.values()):
        given = ", ".join(f"{name}={size!r}" for name, size in sizes.items() if size is not None)
        raise ValueError(f"sizes must be positive whole numbers, but got {given}.")


def is_size(value: object, least: int = 1) -> bool:
    """Whether the value is an integer of at least `least`."""
    return isinstance(value, Integral) and int(value) >= least


def is_known(*arrays: ArrayLike) -> bool:
    """Whether the arrays have concrete values: they do not while JAX traces a function."""
    return not any(isinstance(array, Tracer) for array in arrays)
