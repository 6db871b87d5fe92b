"""Check a flow of whitened samples, and convert it to a flow of samples in the original units."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pushforward.bijections import AbstractBijection, Chain, OntoCircles, RescaledCondition
from pushforward.bijections.intervals import bounds
from pushforward.density.data.columns import Circle
from pushforward.density.whitening.tails import ConditionScaling
from pushforward.flow import Flow, check_flow


def check_whitened_flow(flow: Any, dim: int, cond_dim: int | None, angles: tuple[bool, ...]) -> None:
    """Raise unless this is a flow that can be trained on whitened samples.

    Args:
        flow: the argument of the user.
        dim: the number of columns.
        cond_dim: the number of columns of the condition, None without a condition.
        angles: which columns are angles.

    Raises:
        TypeError: if it is not a `Flow`.
        ValueError: if its shapes, angles or support do not fit the samples.
    """
    check_flow(flow, (dim,), None if cond_dim is None else (cond_dim,), "the samples and their condition")
    own = tuple(circle is not None for circle in flow.bijection.circles or (None,) * dim)
    if own != angles:
        raise ValueError(
            f"the flow must have angles where the support is circular, as pushforward.flows.circular({dim}, "
            f"angles={list(angles)}) has, but its angles are {list(own)}."
        )
    lower, upper = bounds(flow.bijection.codomain)
    if not np.all(np.isinf(lower) & np.isinf(upper) | np.array(angles)):
        raise ValueError(
            f"the flow must have the whole space for its codomain, but has {flow.bijection.codomain}. It is trained on "
            "whitened samples; give the support of the columns by support= instead."
        )


def with_rescaled_condition(flow: Flow, scaling: ConditionScaling) -> Flow:
    """The flow with a rescaled condition, so that the inputs of its networks are of order one.

    Args:
        flow: the flow of whitened samples.
        scaling: the location and scale of each column of the condition.
    """
    return _with_inner(flow, lambda bijection: RescaledCondition(bijection, *scaling), flow.bijection.circles)


def in_original_units(flow: Flow, whitening: AbstractBijection, circles: Sequence[Circle | None]) -> Flow:
    """The flow of samples in the original units.

    Args:
        flow: the flow of whitened samples.
        whitening: the bijection from whitened samples to samples.
        circles: the ends of the interval of each angle; None for other columns.
    """
    return _with_inner(flow, lambda bijection: Chain([bijection, whitening]), circles)


def _with_inner(
    flow: Flow, change: Callable[[AbstractBijection], AbstractBijection], circles: Sequence[Circle | None] | None
) -> Flow:
    """The flow with its bijection changed before the part, if there is one, that maps onto circles."""
    if circles is not None and isinstance(flow.bijection, OntoCircles):
        return Flow(flow.base, OntoCircles(change(flow.bijection.bijection), circles))
    return Flow(flow.base, change(flow.bijection))
