"""Where columns lie: intervals, circles, and steps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections import OntoBox
from pushforward.density.data.arrays import column_index

# Values this share of a step from the grid are on it: decimal numbers are rounded, and single precision rounds more.
OFF_GRID = 0.01
# And values that differ by this share of all that there are are one.
SAME = 1e-9


class Circular(Constraint):
    """Angles: numbers in [lower, lower + period), the ends of which are one point. Data are taken modulo the period.

    `numpyro.distributions.constraints.circular` is the one for [-pi, pi).

    Args:
        period: a full turn, in the units of the data.
        lower: where the interval begins that draws lie in.
    """

    def __init__(self, period: float = 2 * math.pi, lower: float = 0.0):
        if not (0 < period < math.inf and math.isfinite(lower)):
            raise ValueError(f"a circle needs a positive, finite period, but got period={period}, lower={lower}.")
        self.lower_bound, self.upper_bound = float(lower), float(lower + period)

    def __call__(self, x):
        return (self.lower_bound <= x) & (x <= self.upper_bound)

    def __repr__(self):
        return f"Circular(period={self.upper_bound - self.lower_bound:g}, lower={self.lower_bound:g})"

    def tree_flatten(self):
        return (self.lower_bound, self.upper_bound), (("lower_bound", "upper_bound"), {})


Circle = tuple[float, float]


Support = Constraint | Sequence[Constraint | None] | Mapping[int | str, Constraint | None] | None


def parse_support(
    support: Support, names: Sequence[str] | None, columns: Sequence[str]
) -> tuple[OntoBox, tuple[Circle | None, ...]]:
    """The map onto the box of the intervals, and the ends of the circles, which are lines for the box.

    Args:
        support: one constraint for all columns, one for each, or some by index or name; None is the real line.
        names: of the columns, if they have names.
        columns: what messages call them.

    Raises:
        ValueError: unless it is so, and all are intervals.
    """
    each: list[Any] = [None] * len(columns)
    if isinstance(support, Mapping):
        for column, constraint in support.items():
            each[column_index(column, names, columns, "support")] = constraint
    elif isinstance(support, Sequence):
        each = list(support)
        if len(each) != len(columns):
            raise ValueError(
                f"support must be one constraint or one for each of {len(columns)} columns, but there are {len(each)}."
            )
    else:
        each = [support] * len(columns)
    each = [constraints.real if constraint is None else constraint for constraint in each]
    for constraint, called in zip(each, columns, strict=True):
        if not isinstance(constraint, Constraint):
            raise ValueError(
                f"support must hold NumPyro constraints, as constraints.positive or constraints.interval(0, 1), but "
                f"for {called} it has {constraint!r}."
            )
    turning = [isinstance(c, Circular) or c is constraints.circular for c in each]
    circles = tuple(
        (float(c.lower_bound), float(c.upper_bound)) if turns else None for c, turns in zip(each, turning, strict=True)
    )
    return OntoBox([constraints.real if turns else c for c, turns in zip(each, turning, strict=True)]), circles


def wrap(x: Float[np.ndarray, "n dim"], circles: Sequence[Circle | None]) -> Float[np.ndarray, "n dim"]:
    """Angles as they lie on their circles."""
    if not any(circles):
        return x
    x = x.copy()
    for i, circle in enumerate(circles):
        if circle is not None:
            x[:, i] = circle[0] + np.mod(x[:, i] - circle[0], circle[1] - circle[0])
    return x


Discrete = Sequence[int | str] | Sequence[bool] | Mapping[int | str, float]


def parse_discrete(discrete: Discrete, names: Sequence[str] | None, columns: Sequence[str]) -> dict[int, float | None]:
    """The indices of discrete columns and their steps, None where these are to be found.

    Raises:
        ValueError: for columns that there are not, and for what is no list of columns.
    """
    if isinstance(discrete, Mapping):
        return {column_index(column, names, columns, "discrete"): step for column, step in discrete.items()}
    if isinstance(discrete, str) or not isinstance(discrete, Sequence | np.ndarray | set | frozenset):
        raise ValueError(
            f"discrete must be a list of columns, by index or name, a mapping of columns to steps, or a boolean for "
            f"each column, but is {discrete!r}; one column is [{discrete!r}]."
        )
    each = list(discrete)
    if each and all(isinstance(is_discrete, bool | np.bool_) for is_discrete in each):
        if len(each) != len(columns):
            raise ValueError(f"discrete must have a boolean for each of {len(columns)} columns, but has {len(each)}.")
        each = np.flatnonzero(each).tolist()
    return {column_index(column, names, columns, "discrete"): None for column in each}


def find_steps(
    chunks: Iterable[tuple[Any, Float[np.ndarray, "n dim"]]],
    discrete: Mapping[int, float | None],
    columns: Sequence[str],
) -> Float[np.ndarray, " dim"]:
    """The distance of neighbouring values of the discrete columns, and 0 for the others.

    Args:
        chunks: samples, part by part.
        discrete: as `parse_discrete` gives them.
        columns: what messages call them.

    Raises:
        ValueError: for values that are not on a grid.
    """
    steps = np.zeros(len(columns))
    if not discrete:
        return steps
    found: dict[int, np.ndarray] = {i: np.array([]) for i in discrete}
    for _, x in chunks:
        found = {i: np.union1d(values, x[:, i]) for i, values in found.items()}
    for i, told in discrete.items():
        values = found[i]
        step = likely_step(values) if told is None else told
        if not isinstance(step, float | int | np.number) or not 0 < step < np.inf:
            raise ValueError(f"the step of {columns[i]} must be a positive number, but is {step!r}.")
        off = off_grid(values, step)
        if off.any():
            raise ValueError(
                f"{columns[i]} of x is not discrete: {values[off][0]:g} is not a whole number of steps of {step:g} "
                f"from {values[0]:g}; tell the step, as in discrete={{{i}: 1.0}}."
            )
        steps[i] = step
    return steps


def check_circular_steps(
    steps: Float[np.ndarray, " dim"], circles: Sequence[Circle | None], columns: Sequence[str]
) -> None:
    """Raise unless the steps of discrete angles divide their periods: else the last one would lead over the seam."""
    for i, (step, circle) in enumerate(zip(steps.tolist(), circles, strict=True)):
        if not step or not circle:
            continue
        turn = (circle[1] - circle[0]) / step
        if round(turn) < 1 or abs(turn - round(turn)) > OFF_GRID:
            raise ValueError(
                f"{columns[i]} is circular and discrete, but its step of {step:g} does not divide its period of "
                f"{turn * step:g}; tell the step, as in discrete={{{i}: 1.0}}, or do not call it discrete."
            )


def likely_step(values: Float[np.ndarray, " n"]) -> float:
    """The step of sorted values, if they have one."""
    span = values[-1] - values[0]
    gaps = np.diff(values)
    # Sums of decimal numbers differ in their last digits.
    least = gaps[gaps > SAME * span].min(initial=span)
    # One gap is known to a rounding of the values: all of them together are known better.
    return float(span / round(span / least)) if span else math.inf


def off_grid(values: Float[np.ndarray, " n"], step: float) -> Bool[np.ndarray, " n"]:
    """Which of sorted values are not so many steps from the first."""
    apart = (values - values[0]) / step
    return np.abs(apart - np.round(apart)) > OFF_GRID
