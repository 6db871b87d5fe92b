"""The density of some columns given values of the others, as `Density.condition` returns it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections.arrays import ArrayLike
from pushforward.density.data.arrays import column_index
from pushforward.density.data.columns import Circle, wrap
from pushforward.density.data.validation import to_jax_float
from pushforward.density.normalization import JointAt, Solution, box_of, joint_at, joint_log_prob, solve
from pushforward.flow import Flow
from pushforward.reports.summary import Summary, summarize
from pushforward.user_warnings import warn

# With a smaller effective sample size, means and quantiles are too noisy.
MIN_ESS = 400
# A value of a discrete column may differ from its grid by this fraction of a step.
GRID_TOLERANCE = 0.01

Grid = tuple[float, float] | None


def on_grids(x: Any, grids: Sequence[Grid], circles: Sequence[Circle | None] | None) -> Any:
    """Dequantized values rounded down to the values of discrete columns, and angles within their intervals.

    Args:
        x: rows of NumPy or JAX, of shape (..., dim).
        grids: one value and the step of each discrete column; None for others.
        circles: the ends of the interval of each angle; None for other columns, or without angles.
    """
    columns = []
    for i, grid in enumerate(grids):
        column = x[..., i]
        if grid is not None:
            value, step = grid
            column = value + step * (np if isinstance(x, np.ndarray) else jnp).floor((column - value) / step)
        columns.append(column)
    stacked = np.stack(columns, -1) if isinstance(x, np.ndarray) else jnp.stack(columns, -1)
    # Rounding down can give a value below the lower end of the circle.
    return wrap(stacked, circles)


class ConditionalDensity:
    r"""The density of the columns that are left, given values of the others.

    Attributes:
        columns: the names of the columns that are left, in the order of their values in arrays.
        given: the given values by name.
        log_evidence: the log-density of the given values, $\log q(x_B = b)$, in nats; of discrete ones the
            log-probability.
        log_evidence_se: its standard error; 0 if it was computed by quadrature.
        ess: the effective sample size of the weighted draws from which means and quantiles are computed.
        ess_fraction: the same as a fraction of their number; 1 for quadrature.
    """

    def __init__(
        self, joint: JointAt, solution: Solution, names: Sequence[str], given: Mapping[str, float], grids: Any
    ):
        self.columns = tuple(names[i] for i in joint.free)
        self.given = dict(given)
        self._joint, self._solution = joint, solution
        circles = joint.flow.bijection.circles
        self._grids = [grids[i] for i in joint.free]
        self._circles = None if circles is None else [circles[i] for i in joint.free]
        self._values = on_grids(joint.values(solution.z), self._grids, self._circles)
        self.log_evidence, self.log_evidence_se = solution.log_evidence, solution.log_evidence_se
        self.ess, self.ess_fraction = solution.ess, solution.ess_fraction

    def log_prob(self, x: ArrayLike) -> Float[Array, " ..."]:
        """The log-density of the columns that are left, in nats and in their units; minus infinity outside of supports.

        Of a discrete column it is the density of the dequantized values, as in `Density.log_prob`.

        Args:
            x: an array of shape (..., number of columns).

        Raises:
            ValueError: if the last axis has another length.
        """
        rows = jnp.asarray(x, float)
        if rows.ndim == 0 or rows.shape[-1] != len(self.columns):
            raise ValueError(
                f"x must have shape (..., {len(self.columns)}), the columns {', '.join(self.columns)}, but has shape "
                f"{rows.shape}."
            )
        found = joint_log_prob(self._joint, rows.reshape(-1, rows.shape[-1]))
        return found.reshape(rows.shape[:-1]) - self.log_evidence

    def sample(self, key: PRNGKeyArray, sample_shape: int | tuple[int, ...] = ()) -> Float[Array, "... free"]:
        """Draws of the columns that are left, of shape sample_shape + (number of columns,).

        Args:
            key: the key for the draws.
            sample_shape: the number of draws, or their shape.
        """
        shape = sample_shape if isinstance(sample_shape, tuple) else (sample_shape,)
        x = self._joint.values(self._solution.sample(self._joint, key, math.prod(shape)))
        return jnp.asarray(on_grids(x, self._grids, self._circles)).reshape(*shape, len(self.columns))

    def mean(self) -> Float[np.ndarray, " free"]:
        """The mean of each column that is left; of an angle the direction of the mean vector."""
        means = self._solution.weights @ self._values
        for i, circle in enumerate(self._circles or ()):
            if circle is not None:
                turn = (circle[1] - circle[0]) / (2 * np.pi)
                vector = self._solution.weights @ np.exp(1j * (self._values[:, i] - circle[0]) / turn)
                means[i] = circle[0] + turn * (np.angle(vector) % (2 * np.pi))
        return means

    def std(self) -> Float[np.ndarray, " free"]:
        """The standard deviation of each column that is left; of an angle that of its turns from the mean direction."""
        weights, values = self._solution.weights, self._unrolled()
        return np.sqrt(weights @ (values - weights @ values) ** 2)

    def quantiles(self, levels: ArrayLike) -> Float[np.ndarray, "*levels free"]:
        """The quantiles of each column that is left, of shape levels + (number of columns,).

        Those of an angle are counted from the opposite of its mean direction.

        Args:
            levels: numbers between 0 and 1.

        Raises:
            ValueError: if a level is not between 0 and 1.
        """
        wanted = np.asarray(levels, float)
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"levels must be between 0 and 1, but are {levels}.")
        found = []
        for column in self._unrolled().T:
            order = np.argsort(column, kind="stable")
            sums = np.cumsum(self._solution.weights[order])
            rows = np.minimum(np.searchsorted(sums, wanted * sums[-1]), len(order) - 1)
            found.append(column[order][rows])
        return wrap(np.stack(found, -1), self._circles)

    def _unrolled(self) -> Float[np.ndarray, "points free"]:
        """The values, angles moved by whole turns to within half a turn of their mean direction."""
        if self._circles is None:
            return self._values
        around = [
            circle and (mean - (circle[1] - circle[0]) / 2, mean + (circle[1] - circle[0]) / 2)
            for circle, mean in zip(self._circles, self.mean(), strict=True)
        ]
        return wrap(self._values, around)

    def summary(self) -> Summary:
        """The mean, standard deviation and quantiles of each column that is left, from 20,000 resampled values.

        Angles are within half a turn of their mean direction, so that they may be outside of their interval.
        """
        levels = (np.arange(20_000) + 0.5) / 20_000
        sums = np.cumsum(self._solution.weights)
        values = self._unrolled()[np.minimum(np.searchsorted(sums, levels * sums[-1]), len(sums) - 1)]
        given = ", ".join(f"{name} = {value:g}" for name, value in self.given.items())
        return summarize(dict(zip(self.columns, values.T, strict=True)), [f"given {given}"])


def condition_on(
    flow: Flow,
    names: Sequence[str],
    grids: Sequence[Grid],
    given: Mapping[int | str, float],
    condition: Array | None,
    key: PRNGKeyArray,
) -> ConditionalDensity:
    """The density of the other columns given values of some.

    Args:
        flow: the joint density, in the units of the columns.
        names: the names of the columns.
        grids: one value and the step of each discrete column; None for others.
        given: the values by name or index.
        condition: the condition of a conditional density.
        key: for all randomness.

    Raises:
        ValueError: if a column does not exist, none or all of them are given, or a value is not one number, not inside
            the support of its column or not a value of its discrete column, or has density zero.
    """
    labels = [f"column {i} ({name})" for i, name in enumerate(names)]
    values = {column_index(column, names, labels, "condition"): value for column, value in given.items()}
    if len(values) < len(given):
        raise ValueError("condition: a column is given twice, by its name and by its index.")
    if not 0 < len(values) < len(names):
        raise ValueError(
            f"condition needs values of one or more of the {len(names)} columns {', '.join(names)}, but not of all; "
            f"got {len(values)}."
        )
    values = {i: _checked(flow, i, labels[i], values[i], grids[i]) for i in values}
    steps = np.array([0.0 if grid is None else grid[1] for grid in grids])
    joint = joint_at(flow, condition, values, steps)
    solution = solve(joint, key)
    described = {names[i]: value for i, value in values.items()}
    if not math.isfinite(solution.log_evidence):
        found = ", ".join(f"{name} = {value:g}" for name, value in described.items())
        raise ValueError(f"the density of {found} is zero or not finite, so there is no density given these values.")
    if solution.proposal is not None and solution.ess < MIN_ESS:
        warn(
            f"the effective sample size of the conditional density is only {solution.ess:.0f}: its draws, means and "
            "quantiles are unreliable. Give values of more columns, or values nearer to the data."
        )
    return ConditionalDensity(joint, solution, names, described, grids)


def _checked(flow: Flow, column: int, label: str, value: Any, grid: Grid) -> float:
    try:
        number = float(np.asarray(value))
    except (TypeError, ValueError):
        raise ValueError(f"condition: the value of {label} must be one number, but is {value!r}.") from None
    if not math.isfinite(float(to_jax_float(np.array(number)))):
        raise ValueError(f"condition: the value of {label} must be finite, but is {number}.")
    circle = None if flow.bijection.circles is None else flow.bijection.circles[column]
    if circle is not None:
        number = float(wrap(np.array([number]), [circle])[0])
    if grid is not None:
        steps = (number - grid[0]) / grid[1]
        if abs(steps - round(steps)) > GRID_TOLERANCE:
            raise ValueError(f"condition: {label} has the values {grid[0]:g} + k * {grid[1]:g}, but got {number:g}.")
        number = grid[0] + grid[1] * round(steps)
    box = box_of(flow, (column,)).ends[0]
    if not box[0] <= number < box[1] or (grid is None and circle is None and number == box[0]):
        raise ValueError(f"condition: {label} lies between {box[0]:g} and {box[1]:g}, but got {number:g}.")
    return number
