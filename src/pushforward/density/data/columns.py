"""The declared properties of columns: supports (intervals and circles), and the steps of discrete columns."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.arguments import checked
from pushforward.bijections import OntoBox
from pushforward.bijections.circular import to_circle
from pushforward.bijections.intervals import bounds
from pushforward.density.data.arrays import column_index

# A value lies on the grid of a discrete column if it is within this fraction of a step: decimal numbers are rounded,
# and in single precision more so.
GRID_TOLERANCE = 0.01
# Two values of a column are equal if they differ by less than this fraction of the column's range.
EQUAL_TOLERANCE = 1e-9

# The lower and upper end of the interval that represents a circle; both are the same point.
Circle = tuple[float, float]
Support = Constraint | Sequence[Constraint | None] | Mapping[int | str, Constraint | None] | None
Discrete = Bool[np.ndarray, " dim"] | Int[np.ndarray, " columns"] | Collection[int | str] | Mapping[Any, float]


class Circular(Constraint):
    """The support of an angle: numbers in [lower, lower + period), whose two ends are the same point.

    Data are taken modulo the period. `numpyro.distributions.constraints.circular` is the support [-pi, pi).

    Args:
        period: a full turn, in the units of the data.
        lower: the lower end of the interval in which draws lie.
    """

    @checked()
    def __init__(self, period: float = 2 * math.pi, lower: float = 0.0):
        if not (period > 0 and lower < lower + period < math.inf):
            raise ValueError(
                "Circular needs a positive, finite period and a finite lower end, from which the period differs, but "
                f"got period={period}, lower={lower}."
            )
        self.lower_bound, self.upper_bound = float(lower), float(lower + period)

    def __call__(self, x):
        return (self.lower_bound <= x) & (x <= self.upper_bound)

    def __repr__(self):
        return f"Circular(period={self.upper_bound - self.lower_bound:g}, lower={self.lower_bound:g})"

    def tree_flatten(self):
        return (self.lower_bound, self.upper_bound), (("lower_bound", "upper_bound"), {})


def parse_support(
    support: Support, names: Sequence[str] | None, labels: Sequence[str]
) -> tuple[OntoBox, tuple[Circle | None, ...]]:
    """Convert the argument `support` to a bijection onto the box of the intervals, and the circle of each angle.

    In the box an angle has the whole real line.

    Args:
        support: one constraint for all columns, one for each, or a mapping from some columns (by index or name) to
            constraints; None is the real line.
        names: the names of the columns, or None.
        labels: the labels of the columns in messages.

    Returns:
        The bijection, and for each column the ends of its circle, or None if it is not an angle.

    Raises:
        ValueError: for other arguments, and for constraints that are not intervals, or whose ends are not in order.
    """
    per_column: list[Any] = [None] * len(labels)
    if isinstance(support, Mapping):
        for column, constraint in support.items():
            per_column[column_index(column, names, labels, "support")] = constraint
    elif isinstance(support, Sequence):
        per_column = list(support)
        if len(per_column) != len(labels):
            raise ValueError(
                f"support must be one constraint, or one for each of {len(labels)} columns, but has {len(per_column)}."
            )
    else:
        per_column = [support] * len(labels)
    per_column = [constraints.real if constraint is None else constraint for constraint in per_column]
    for constraint, label in zip(per_column, labels, strict=True):
        if not isinstance(constraint, Constraint):
            raise ValueError(
                "support must hold NumPyro constraints, such as constraints.positive or constraints.interval(0, 1), "
                f"but for {label} it has {constraint!r}."
            )
    circles = tuple(
        (float(c.lower_bound), float(c.upper_bound)) if isinstance(c, Circular) or c is constraints.circular else None
        for c in per_column
    )
    intervals = [constraints.real if circle else c for c, circle in zip(per_column, circles, strict=True)]
    for interval, label in zip(intervals, labels, strict=True):
        _check_ends(interval, label)
    return OntoBox(intervals), circles


def _check_ends(interval: Constraint, label: str) -> None:
    """Raise unless the ends of an interval are two numbers in order, whose distance JAX's precision can hold."""
    lower, upper = bounds(interval)
    if lower.size != 1 or upper.size != 1:
        raise ValueError(f"the support of {label} must be one interval, but its ends are {lower} and {upper}.")
    limits = jnp.finfo(jnp.result_type(float))
    ends = [end if math.isinf(end) else float(np.asarray(end, limits.dtype)) for end in (lower.item(), upper.item())]
    width = ends[1] - ends[0]
    if not width > 0 or (width > limits.max and not any(map(math.isinf, (lower.item(), upper.item())))):
        raise ValueError(
            f"the support of {label} must have its lower end below its upper, at a distance that {limits.dtype} can "
            f"hold, but has the ends {lower:g} and {upper:g}."
        )


def wrap(
    x: Float[Array, "*batch dim"] | Float[np.ndarray, "*batch dim"], circles: Sequence[Circle | None] | None
) -> Any:
    """Move angles into the intervals of their circles by whole turns.

    Args:
        x: rows of samples, of NumPy or JAX.
        circles: the ends of the interval of each angle, None for other columns; None without angles.
    """
    if circles is None or not any(circles):
        return x
    columns = [
        x[..., i] if circle is None else to_circle(x[..., i], circle[0], circle[1] - circle[0])
        for i, circle in enumerate(circles)
    ]
    return np.stack(columns, axis=-1) if isinstance(x, np.ndarray) else jnp.stack(columns, axis=-1)


def parse_discrete(discrete: Discrete, names: Sequence[str] | None, labels: Sequence[str]) -> dict[int, float | None]:
    """Convert the argument `discrete` to the step of each discrete column.

    Args:
        discrete: columns by index or name, a boolean for each column, or a mapping from columns to steps.
        names: the names of the columns, or None.
        labels: the labels of the columns in messages.

    Returns:
        The step of each discrete column by its index; None if the step must be found from the values.

    Raises:
        ValueError: for columns that do not exist, and for other types.
    """
    if isinstance(discrete, Mapping):
        return {column_index(column, names, labels, "discrete"): step for column, step in discrete.items()}
    if isinstance(discrete, str) or not isinstance(discrete, Sequence | np.ndarray | set | frozenset):
        raise ValueError(
            "discrete must be a list of columns (by index or name), a mapping from columns to steps, or a boolean for "
            f"each column, but is {discrete!r}; write [{discrete!r}] for one column."
        )
    columns = list(discrete)
    if columns and all(isinstance(is_discrete, bool | np.bool_) for is_discrete in columns):
        if len(columns) != len(labels):
            raise ValueError(f"discrete must have a boolean for each of {len(labels)} columns, but has {len(columns)}.")
        columns = np.flatnonzero(columns).tolist()
    return {column_index(column, names, labels, "discrete"): None for column in columns}


def find_steps(
    chunks: Iterable[tuple[Any, Float[np.ndarray, "n dim"]]],
    discrete: Mapping[int, float | None],
    labels: Sequence[str],
) -> Float[np.ndarray, " dim"]:
    """The step of each discrete column, which is the distance of neighboring values; 0 for other columns.

    Args:
        chunks: all samples in parts, each with the indices of its rows.
        discrete: the result of `parse_discrete`.
        labels: the labels of the columns in messages.

    Raises:
        ValueError: if a step is not positive, or a value does not lie on the grid of its column.
    """
    steps = np.zeros(len(labels))
    if not discrete:
        return steps
    distinct: dict[int, np.ndarray] = {i: np.array([]) for i in discrete}
    for _, x in chunks:
        distinct = {i: np.union1d(values, x[:, i]) for i, values in distinct.items()}
    for i, declared in discrete.items():
        values = distinct[i]
        step = estimate_step(values) if declared is None else declared
        if not isinstance(step, float | int | np.number) or not 0 < step < np.inf:
            raise ValueError(f"the step of {labels[i]} must be a positive number, but is {step!r}.")
        outside = is_off_grid(values, step)
        if outside.any():
            raise ValueError(
                f"{labels[i]} of x is not discrete: {values[outside][0]:g} is not a whole number of steps of {step:g} "
                f"from {values[0]:g}; if it is discrete, declare its step, for example discrete={{{i}: 1.0}}."
            )
        steps[i] = step
    return steps


def check_circular_steps(
    steps: Float[np.ndarray, " dim"], circles: Sequence[Circle | None], labels: Sequence[str]
) -> None:
    """Raise unless the steps of discrete angles divide their periods; otherwise the last step would pass the end.

    Args:
        steps: the step of each discrete column, 0 for others.
        circles: the ends of the interval of each angle; None for other columns.
        labels: the labels of the columns in messages.
    """
    for i, (step, circle) in enumerate(zip(steps.tolist(), circles, strict=True)):
        if not step or not circle:
            continue
        steps_per_turn = (circle[1] - circle[0]) / step
        if round(steps_per_turn) < 1 or abs(steps_per_turn - round(steps_per_turn)) > GRID_TOLERANCE:
            raise ValueError(
                f"{labels[i]} is circular and discrete, but its step of {step:g} does not divide its period of "
                f"{steps_per_turn * step:g}; declare another step, for example discrete={{{i}: 1.0}}, or do not "
                "declare it discrete."
            )


def estimate_step(values: Float[np.ndarray, " n"]) -> float:
    """The step of the grid on which sorted values lie, if there is one; infinite for a single value.

    Args:
        values: distinct values in ascending order.
    """
    span = values[-1] - values[0]
    gaps = np.diff(values)
    # Computed decimal numbers, such as 0.1 + 0.2 and 0.3, differ in their last digits.
    smallest = gaps[gaps > EQUAL_TOLERANCE * span].min(initial=span)
    # A single gap has the rounding errors of two values; the whole span divided by its number of steps is more exact.
    return float(span / round(span / smallest)) if span else math.inf


def is_off_grid(values: Float[np.ndarray, " n"], step: float) -> Bool[np.ndarray, " n"]:
    """Which values are not a whole number of steps from the first.

    Args:
        values: distinct values in ascending order.
        step: the step of the grid.
    """
    num_steps = (values - values[0]) / step
    return np.abs(num_steps - np.round(num_steps)) > GRID_TOLERANCE
