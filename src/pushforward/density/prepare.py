"""What is known of samples before anything is fitted to them: their columns, checked, and which rows are held out."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from pushforward.bijections import OntoBox
from pushforward.bijections.arrays import ArrayLike
from pushforward.density.data.arrays import column_labels, column_names
from pushforward.density.data.columns import (
    Circle,
    Discrete,
    Support,
    check_circular_steps,
    find_steps,
    parse_discrete,
    parse_support,
)
from pushforward.density.data.source import Source, open_samples
from pushforward.density.data.splitting import hash_rows, split_rows
from pushforward.density.data.validation import check_condition, check_inside, check_samples, check_weights

# Test rows that scores can be based on.
FEWEST_TEST_ROWS = 10


class Prepared(NamedTuple):
    """Samples that can have a density.

    Attributes:
        source: the samples, their conditions and their weights.
        names: of the columns, if they have names.
        given: the names of the columns of the condition, if they have names.
        columns: what messages call the columns.
        to_support: from the whole space onto the box that the samples lie in.
        circles: the ends of the intervals of angles, None for the other columns.
        steps: of discrete columns, 0 for the others.
    """

    source: Source
    names: list[str] | None
    given: list[str] | None
    columns: list[str]
    to_support: OntoBox
    circles: tuple[Circle | None, ...]
    steps: Float[np.ndarray, " dim"]

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.source.x)

    @property
    def dim(self) -> int:
        """The number of columns."""
        return len(self.columns)

    @property
    def cond_dim(self) -> int | None:
        """The number of columns of the condition, None without a condition."""
        return None if self.source.condition is None else self.source.condition.shape[1]

    @property
    def angles(self) -> tuple[bool, ...]:
        """Which columns are angles."""
        return tuple(circle is not None for circle in self.circles)


def prepare(
    x: ArrayLike | str | os.PathLike,
    condition: ArrayLike | None,
    *,
    support: Support,
    discrete: Discrete,
    weights: ArrayLike | None,
    names: Sequence[str] | None,
    condition_names: Sequence[str] | None,
    rows_at_once: int,
) -> Prepared:
    """Check the samples and find the steps of their discrete columns.

    Args:
        x: as for `fit_density`; so are the others.
        condition: of each row.
        support: where the columns lie.
        discrete: columns of values with a constant step.
        weights: of the rows.
        names: of the columns.
        condition_names: of the columns of the condition.
        rows_at_once: how many rows of a file are in memory.

    Raises:
        ValueError: for samples that cannot have a density; the message names rows and columns.
    """
    samples, found = open_samples(x)
    names = found if names is None else [str(name) for name in names]
    given = column_names(condition) if condition_names is None else [str(name) for name in condition_names]
    size, dim = samples.shape
    columns = column_labels(dim, names)
    to_support, circles = parse_support(support, names, columns)
    weights = None if weights is None else check_weights(weights, size, dim)
    if condition is not None:
        condition = check_condition(condition, size, given, weights)
    source = Source(samples, condition, weights, circles, rows_at_once)
    check_samples(source.chunks(), samples.shape, columns)
    steps = find_steps(source.chunks(), parse_discrete(discrete, names, columns), columns)
    check_circular_steps(steps, circles, columns)
    for rows, chunk in source.chunks():
        check_inside(chunk, to_support.ends, steps, columns, rows)
    return Prepared(source, names, given, columns, to_support, circles, steps)


class Holdout(NamedTuple):
    """Rows of a table that a density is fitted to, and rows that it is evaluated on.

    Attributes:
        training: the numbers of the rows to fit to, in order.
        test: the numbers of the others, in random order.
        discrete: the steps of the discrete columns by index, as found in all rows, for `fit_density`.
    """

    training: Int[np.ndarray, " training"]
    test: Int[np.ndarray, " test"]
    discrete: dict[int, float]


def hold_out(
    x: ArrayLike,
    share: float = 0.1,
    *,
    key: PRNGKeyArray,
    condition: ArrayLike | None = None,
    support: Support = None,
    discrete: Discrete = (),
    names: Sequence[str] | None = None,
    condition_names: Sequence[str] | None = None,
) -> Holdout:
    """Choose test rows: a random share, with equal rows together, because a copy of a training row is no test.

    Rows of discrete columns alone are equal by coincidence, so each is chosen by itself. All samples are checked as
    `fit_density` checks them.

    Args:
        x: all samples, of shape (n, dim).
        share: of the rows.
        key: for the choice.
        condition: of each row, of shape (n, cond_dim).
        support: as for `fit_density`.
        discrete: as for `fit_density`.
        names: of the columns, by default those of the data frame.
        condition_names: of the columns of the condition, by default those of the data frame.

    Returns:
        The numbers of training and test rows.

    Raises:
        TypeError: for the path of a file.
        ValueError: for samples that `fit_density` refuses, and for a share that is fewer than 10 rows.
    """
    if isinstance(x, str | os.PathLike):
        raise TypeError(f"hold_out needs an array or a numpy.memmap, but got the path {x}; read the file first.")
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, but is {share!r}.")
    prepared = prepare(
        x, condition, support=support, discrete=discrete, weights=None, names=names, condition_names=condition_names,
        rows_at_once=np.shape(x)[0],
    )  # fmt: skip
    num_test = round(share * prepared.size)
    if num_test < FEWEST_TEST_ROWS:
        raise ValueError(
            f"a share of {share:g} of {prepared.size} rows are {num_test} test rows, but a fit is judged by "
            f"{FEWEST_TEST_ROWS} or more."
        )
    split_key, order_key = jr.split(key)
    rows, chunk = next(prepared.source.chunks())
    given = prepared.source.condition
    split = split_rows(rows, chunk, given, prepared.steps, num_test, split_key)
    is_test = split.is_held_out(rows, hash_rows((chunk, given)))
    test = np.asarray(jr.permutation(order_key, np.flatnonzero(is_test)))
    steps = {i: float(step) for i, step in enumerate(prepared.steps) if step}
    return Holdout(np.flatnonzero(~is_test), test, steps)
