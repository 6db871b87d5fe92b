"""Where columns lie: intervals, circles, and steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward.bijections import OntoBox

# Values this share of a step from the grid are on it: decimal numbers are rounded, and single precision rounds more.
OFF_GRID = 0.01


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


def split(support: Constraint | Sequence[Constraint], dim: int) -> tuple[OntoBox, tuple[Circle | None, ...]]:
    """The map onto the box of the intervals, and the ends of the circles, which are lines for the box.

    Raises:
        ValueError: unless there is one constraint for all columns or one for each, and all are intervals.
    """
    each: list[Any] = list(support) if isinstance(support, Sequence) else [support] * dim
    if len(each) != dim:
        raise ValueError(f"support must be one constraint or one for each of {dim} columns, but there are {len(each)}.")
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


def find_steps(
    x: Float[np.ndarray, "n dim"],
    discrete: Sequence[int | str] | Mapping[int | str, float],
    names: Sequence[str] | None,
    columns: Sequence[str],
) -> Float[np.ndarray, " dim"]:
    """The distance of neighbouring values of the discrete columns, and 0 for the others.

    Args:
        x: samples.
        discrete: columns by index or name; a mapping tells the distances, else they are found.
        names: of all columns, if they have names.
        columns: what messages call them.

    Raises:
        ValueError: for columns that there are not, and for values that are not on a grid.
    """
    told = discrete if isinstance(discrete, Mapping) else {}
    steps = np.zeros(x.shape[1])
    for column in discrete:
        if isinstance(column, str) and column not in (names or ()):
            raise ValueError(f"there is no column {column} to be discrete; there are {', '.join(names or columns)}.")
        i = list(names or ()).index(column) if isinstance(column, str) else int(column)
        if not 0 <= i < x.shape[1]:
            raise ValueError(f"discrete names column {i}, but there are {x.shape[1]} columns, the first of them 0.")
        values = np.unique(x[:, i])
        gaps = np.diff(values)
        step = told.get(column, gaps.min(initial=np.inf))
        if not 0 < step < np.inf:
            raise ValueError(f"the step of {columns[i]} must be a positive number, but is {step}.")
        if column not in told:
            # One gap is known to a rounding of the values: all of them together are known better.
            step = (values[-1] - values[0]) / max(1, round((values[-1] - values[0]) / step))
        apart = (values - values[0]) / step
        off = np.abs(apart - np.round(apart)) > OFF_GRID
        if off.any():
            raise ValueError(
                f"{columns[i]} of x is not discrete: {values[off][0]:g} is not a whole number of steps of {step:g} "
                f"from {values[0]:g}; tell the step, as in discrete={{{column!r}: 1.0}}."
            )
        steps[i] = step
    return steps
