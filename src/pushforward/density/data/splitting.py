"""The rule that holds out rows, for validation or as test rows.

Equal rows are held out together, because a validation row with a copy among the training rows does not measure
generalization. Rows are therefore assigned by a hash of their values, so that rows of a file are also assigned without
a pass over all of it; splitters such as those of scikit-learn need all groups in memory.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt64

# Equal rows are coincidences, not copies, if the continuous columns and the condition have fewer distinct rows than
# this fraction of all distinct rows: then mainly the discrete columns distinguish the rows.
MIN_DISTINCT_CONTINUOUS = 0.5
# For warnings, equal rows are coincidences if at most this fraction of the rows is distinct.
FEW_DISTINCT = 0.1

Hashes = UInt64[np.ndarray, " n"]


def hash_rows(parts: Sequence[Float[np.ndarray, "n _"] | None]) -> Hashes:
    """A 64-bit hash of each row of arrays side by side: equal for equal rows, almost surely different for others.

    Args:
        parts: arrays with the same number of rows; None is skipped.
    """
    columns = [column for part in parts if part is not None for column in part.T]
    hashes = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        # Adding 0 turns -0 into 0, which it equals.
        hashes = _mix(hashes ^ (column.astype(np.float64) + 0.0).view(np.uint64))
    return hashes


def distinct_rows(parts: Sequence[Float[np.ndarray, "n _"] | None]) -> Int[np.ndarray, " rows"]:
    """The indices of the first of each set of equal rows; all rows if only few are distinct.

    Args:
        parts: arrays with the same number of rows, side by side; None is skipped.
    """
    first = np.unique(hash_rows(parts), return_index=True)[1]
    size = next(len(part) for part in parts if part is not None)
    return np.sort(first) if len(first) > FEW_DISTINCT * size else np.arange(size)


def _mix(bits: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64: a bijection of 64-bit numbers whose outputs look random.

    References:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (2014).
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return bits ^ bits >> np.uint64(31)


class Split(NamedTuple):
    """A rule that holds out rows: a row is held out if its random hash is below a threshold.

    Args:
        salt: a random number that makes the hashes random.
        independent: the hashes of rows whose equality is a coincidence: each is assigned by its row index. None means
            all rows.
        threshold: the smallest random hash of a training row.
    """

    salt: np.uint64
    independent: Hashes | None
    threshold: np.uint64

    def random_hashes(self, rows: Int[np.ndarray, " n"], hashes: Hashes) -> Hashes:
        """A uniformly distributed hash for each row, the same for copies.

        Args:
            rows: the indices of the rows.
            hashes: their hashes by `hash_rows`.
        """
        independent = True if self.independent is None else np.isin(hashes, self.independent)
        return _mix(np.where(independent, _mix(rows.astype(np.uint64)), hashes) ^ self.salt)

    def is_held_out(self, rows: Int[np.ndarray, " n"], hashes: Hashes) -> Bool[np.ndarray, " n"]:
        """Which rows are held out.

        Args:
            rows: the indices of the rows.
            hashes: their hashes by `hash_rows`.
        """
        return self.random_hashes(rows, hashes) < self.threshold


def split_rows(
    rows: Int[np.ndarray, " n"],
    x: Float[np.ndarray, "n dim"],
    condition: Float[np.ndarray, "n cond_dim"] | None,
    steps: Float[np.ndarray, " dim"],
    num_held_out: int,
    key: PRNGKeyArray,
) -> Split:
    """Choose the rule that holds out about `num_held_out` of these rows.

    Equal rows are copies and stay together, with two exceptions in which their equality is a coincidence: all rows, if
    the continuous columns and the condition hardly distinguish rows; and rows with more than `num_held_out` equals.

    Args:
        rows: the indices of the rows.
        x: the samples.
        condition: the condition of each, or None.
        steps: the step of each discrete column, 0 for others.
        num_held_out: the number of rows to hold out, less than all.
        key: the key for the random hashes.
    """
    salt = np.asarray(jr.bits(key, (2,), "uint32")).view(np.uint64)[0]
    hashes = hash_rows((x, condition))
    distinct, counts = np.unique(hashes, return_counts=True)
    independent: Hashes | None = distinct[counts > num_held_out]
    if steps.any():
        continuous = x[:, steps == 0], condition
        width = sum(part.shape[1] for part in continuous if part is not None)
        if not width or len(np.unique(hash_rows(continuous))) < MIN_DISTINCT_CONTINUOUS * len(distinct):
            independent = None
    random_hashes = np.sort(Split(salt, independent, np.uint64(0)).random_hashes(rows, hashes))
    # Copies share the random hash at the threshold: hold all or none of them out, whichever number is closer.
    ends = (np.searchsorted(random_hashes, random_hashes[num_held_out], side) for side in ("left", "right"))
    end = min((int(end) for end in ends if end < len(random_hashes)), key=lambda end: abs(end - num_held_out))
    return Split(salt, independent, random_hashes[end])
