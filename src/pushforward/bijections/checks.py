"""Checks of arguments, which raise where something else was expected."""

from numbers import Integral

from jax.core import Tracer
from jaxtyping import Array

from pushforward.bijections.base import AbstractBijection


def check_bijections(taker: str, *given: object) -> None:
    """Raise unless all are bijections, and not their classes."""
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
    """Raise unless they are positive; None is for what there is none of."""
    if not all(size is None or is_size(size) for size in sizes.values()):
        given = ", ".join(f"{name}={size!r}" for name, size in sizes.items() if size is not None)
        raise ValueError(f"sizes must be positive whole numbers, but got {given}.")


def is_size(value: object, least: int = 1) -> bool:
    """Whether it is a whole number, and at least so large."""
    return isinstance(value, Integral) and int(value) >= least


def is_known(*arrays: Array) -> bool:
    """Whether their values can be looked at: of what is computed in a compiled program nothing is known yet."""
    return not any(isinstance(array, Tracer) for array in arrays)
