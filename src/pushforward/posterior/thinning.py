"""Every k-th draw, where all of them would take too much time or memory."""

import numpy as np
from jaxtyping import Shaped

# Chains of fewer draws say little about their autocorrelation.
MIN_PER_CHAIN = 100


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


def thinned_chains(draws: Shaped[np.ndarray, "chains draws ..."], most: int) -> Shaped[np.ndarray, "kept left ..."]:
    """Every k-th draw of every m-th chain, at most `most` in all; each chain that is left has enough draws.

    Chains of few draws, such as those of many walkers, are put together to one.

    Args:
        draws: the draws of each chain.
        most: the largest number that may be left.
    """
    num_chains, num = draws.shape[:2]
    if num < MIN_PER_CHAIN:
        return thinned(draws.reshape(num_chains * num, *draws.shape[2:]), most)[None]
    draws = draws[:, :: min(stride(num_chains * num, most), num // MIN_PER_CHAIN)]
    return draws[:: stride(num_chains, max(1, most // draws.shape[1]))]
