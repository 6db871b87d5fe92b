"""Which rows a fit is judged by. Equal rows stay together: one that training has seen a copy of tells nothing new."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Bool, Float, Int, PRNGKeyArray, UInt64

# Where what cannot be equal by chance has fewer distinct rows than this share of all that are distinct, equal rows are
# no copies.
FIXED_SHARE = 0.5
# For warnings, equal rows are no copies where this share of the rows, or less, is distinct: rows are of few kinds.
FEW_KINDS = 0.1

Digests = UInt64[np.ndarray, " n"]


def hash_rows(parts: Sequence[Float[np.ndarray, "n dim"] | None]) -> Digests:
    """A number for each row of arrays side by side: equal rows have the same, others almost surely not."""
    columns = [column for part in parts if part is not None for column in part.T]
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        # Zero is added, for -0 equals 0.
        found = _mixed(found ^ (column.astype(np.float64) + 0.0).view(np.uint64))
    return found


def distinct_rows(parts: Sequence[Float[np.ndarray, "n dim"] | None]) -> Int[np.ndarray, " rows"]:
    """The numbers of rows that equal none before them; all where rows are of few kinds."""
    first = np.unique(hash_rows(parts), return_index=True)[1]
    size = next(len(part) for part in parts if part is not None)
    return np.sort(first) if len(first) > FEW_KINDS * size else np.arange(size)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits that looks random.

    References:
        Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (2014).
    """
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return bits ^ bits >> np.uint64(31)


class Split(NamedTuple):
    """Rows draw lots, equal rows the same one; those below the cut are held out.

    Args:
        salt: makes lots random.
        alone: digests of rows that are equal by chance, and draw each for itself; None if all are.
        cut: the first lot that is kept.
    """

    salt: np.uint64
    alone: Digests | None
    cut: np.uint64

    def lots(self, rows: Int[np.ndarray, " n"], digests: Digests) -> Digests:
        """The lots of rows of these numbers."""
        alone = True if self.alone is None else np.isin(digests, self.alone)
        return _mixed(np.where(alone, _mixed(rows.astype(np.uint64)), digests) ^ self.salt)

    def is_held_out_row(self, rows: Int[np.ndarray, " n"], digests: Digests) -> Bool[np.ndarray, " n"]:
        """Which of these rows are held out."""
        return self.lots(rows, digests) < self.cut


def split_rows(
    rows: Int[np.ndarray, " n"],
    x: Float[np.ndarray, "n dim"],
    condition: Float[np.ndarray, "n cond_dim"] | None,
    steps: Float[np.ndarray, " dim"],
    num_held_out: int,
    key: PRNGKeyArray,
) -> Split:
    """Hold out about so many of these rows.

    Equal rows are copies, unless they are equal by chance: all of them where the columns that are not discrete, and
    the condition, say little of which row it is; and those that more rows equal than are held out.

    Args:
        rows: their numbers.
        x: the samples.
        condition: what each is given.
        steps: of discrete columns, 0 for others.
        num_held_out: how many; less than all.
        key: for the lots.
    """
    salt = np.asarray(jr.bits(key, (2,), "uint32")).view(np.uint64)[0]
    whole = hash_rows((x, condition))
    distinct, counts = np.unique(whole, return_counts=True)
    alone: Digests | None = distinct[counts > num_held_out]
    if steps.any():
        fixed = x[:, steps == 0], condition
        width = sum(part.shape[1] for part in fixed if part is not None)
        if not width or len(np.unique(hash_rows(fixed))) < FIXED_SHARE * len(distinct):
            alone = None
    lots = np.sort(Split(salt, alone, np.uint64(0)).lots(rows, whole))
    # Rows that draw the lot at the cut go together to where the number is nearer to what it should be.
    ends = (np.searchsorted(lots, lots[num_held_out], side) for side in ("left", "right"))
    cut = min((int(end) for end in ends if end < len(lots)), key=lambda end: abs(end - num_held_out))
    return Split(salt, alone, lots[cut])
