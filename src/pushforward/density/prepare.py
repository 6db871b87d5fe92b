"""Check the samples before a fit, and choose test rows."""

import os
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

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
from pushforward.density.data.incomplete import read_incomplete
from pushforward.density.data.source import Source, open_samples
from pushforward.density.data.splitting import hash_rows, split_rows
from pushforward.density.data.validation import check_condition, check_inside, check_samples, check_weights
from pushforward.generators import numpy_generator

# Scores of fewer test rows are too noisy.
MIN_TEST_ROWS = 10


class Prepared(NamedTuple):
    """Samples that passed all checks.

    Attributes:
        source: the samples, their conditions and their weights.
        names: the names of the columns; None if they have no names.
        condition_names: the names of the columns of the condition; None if they have no names.
        labels: the labels of the columns in messages.
        to_support: the bijection from the whole space onto the box of the supports.
        circles: the ends of the interval of each angle; None for other columns.
        steps: the step of each discrete column, 0 for others.
    """

    source: Source
    names: list[str] | None
    condition_names: list[str] | None
    labels: list[str]
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
        return len(self.labels)

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
        x: the samples; this and the other arguments are those of `fit_density`.
        condition: the condition of each row.
        support: the supports of the columns.
        discrete: the columns of values with a constant step.
        weights: the weight of each row.
        names: the names of the columns.
        condition_names: the names of the columns of the condition.
        rows_at_once: the number of rows of a file that are in memory.

    Raises:
        ValueError: for samples that cannot have a density; the message names rows and columns.
    """
    samples, found = open_samples(x)
    names = found if names is None else [str(name) for name in names]
    condition_names = column_names(condition) if condition_names is None else [str(name) for name in condition_names]
    for argument, given in (("x", names or []), ("condition", condition_names or [])):
        if repeated := [name for i, name in enumerate(given) if name in given[:i]]:
            raise ValueError(f"{argument} has several columns {repeated[0]}; rename them, or give other names.")
    size, dim = samples.shape
    labels = column_labels(dim, names)
    to_support, circles = parse_support(support, names, labels)
    weights = None if weights is None else check_weights(weights, size, dim)
    if condition is not None:
        condition = check_condition(condition, size, condition_names, weights)
    source = Source(samples, condition, weights, circles, rows_at_once)
    check_samples(source.chunks(), samples.shape, labels)
    steps = find_steps(source.chunks(), parse_discrete(discrete, names, labels), labels)
    check_circular_steps(steps, circles, labels)
    for rows, chunk in source.chunks():
        check_inside(chunk, to_support.ends, steps, labels, rows)
    return Prepared(source, names, condition_names, labels, to_support, circles, steps)


class Holdout(NamedTuple):
    """The rows of a table that a density is fitted to, and the rows that it is evaluated on.

    Attributes:
        training: the indices of the rows to fit to, in increasing order.
        test: the indices of the other rows, in random order.
        discrete: the steps of the discrete columns by index, as found in all rows, for `fit_density`.
    """

    training: Int[np.ndarray, " training"]
    test: Int[np.ndarray, " test"]
    discrete: dict[int, float]


def hold_out(
    x: ArrayLike,
    test_fraction: float = 0.1,
    *,
    key: PRNGKeyArray,
    condition: ArrayLike | None = None,
    support: Support = None,
    discrete: Discrete = (),
    names: Sequence[str] | None = None,
    condition_names: Sequence[str] | None = None,
    missing: Literal["error", "impute"] = "error",
) -> Holdout:
    """Choose a random fraction of the rows as test rows.

    Equal rows stay together, because a test row that equals a training row does not measure generalization. Rows of
    discrete columns alone are equal by coincidence, so each is chosen by itself. Rows with missing values have no
    score, so they are training rows. All samples are checked as `fit_density` checks them.

    Args:
        x: all samples, of shape (n, dim).
        test_fraction: the fraction of the rows to use as test rows, of those without missing values.
        key: the key for the choice.
        condition: the condition of each row, of shape (n, cond_dim).
        support: the supports of the columns, as for `fit_density`.
        discrete: the discrete columns, as for `fit_density`.
        names: the names of the columns, by default those of the data frame.
        condition_names: the names of the columns of the condition, by default those of the data frame.
        missing: what to do with missing values of `x`, as for `fit_density`.

    Returns:
        The indices of the training and test rows, and the steps of the discrete columns.

    Raises:
        TypeError: for the path of a file.
        ValueError: for samples that `fit_density` refuses, and for a fraction of fewer than 10 rows.
    """
    if isinstance(x, str | os.PathLike):
        raise TypeError(f"hold_out needs an array or a numpy.memmap, but got the path {x}; read the file first.")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, but is {test_fraction!r}.")
    complete: Any = slice(None)
    if missing == "impute":
        found = read_incomplete(x, names)
        complete, names = np.flatnonzero(~found.missing.any(1)), found.names
        x = found.filled(numpy_generator(key))
    prepared = prepare(
        x, condition, support=support, discrete=discrete, weights=None, names=names, condition_names=condition_names,
        rows_at_once=np.shape(x)[0],
    )  # fmt: skip
    rows, chunk = (part[complete] for part in next(prepared.source.chunks()))
    condition = None if prepared.source.condition is None else prepared.source.condition[complete]
    num_test = round(test_fraction * len(rows))
    if num_test < MIN_TEST_ROWS:
        raise ValueError(
            f"test_fraction={test_fraction:g} of {len(rows)} {'complete ' * (missing == 'impute')}rows gives "
            f"{num_test} test rows, but at least {MIN_TEST_ROWS} are needed."
        )
    split_key, order_key = jr.split(key)
    split = split_rows(rows, chunk, condition, prepared.steps, num_test, split_key)
    held_out = rows[split.is_held_out(rows, hash_rows((chunk, condition)))]
    test = np.asarray(jr.permutation(order_key, held_out))
    steps = {i: float(step) for i, step in enumerate(prepared.steps) if step}
    return Holdout(np.setdiff1d(np.arange(prepared.size), held_out), test, steps)
