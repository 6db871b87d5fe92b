"""Every k-th draw, where all of them would take too much time or memory."""

import numpy as np
from jaxtyping import Shaped


def stride(num: int, most: int) -> int:
    """The smallest k for which at most `most` of `num` draws are left if every k-th is taken.

    Args:
        num: the number of draws.
        most: the largest number that may be left.
    """
    return max(1, -(-num // most))


def thinned(draws: Shaped[np.ndarray, "draws ..."], most: int) -> Shaped[np.ndarray, "kept ..."]:
    """Every k-th draw, the first one with them, at most `most`.

    Arrays of the same length, such as draws and their weights, keep the same rows.

    Args:
        draws: the draws, along the first axis.
        most: the largest number that may be left.
    """
    return draws[:: stride(len(draws), most)]
