"""When a fit is so good that its training ends, according to the diagnostics of a few draws."""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from pushforward.flows.default import MODERATE_DIM
from pushforward.posterior.verdict.assessment import MANY_DIMS
from pushforward.posterior.verdict.diagnostics import GOOD_GAP, TRUSTED_ESS_FRACTION, Diagnostics

FEW_DIMS = 64
# A fit within these limits counts as exact, and is not trained further.
EXACT_GAP, EXACT_ESS_FRACTION = 0.003, 0.99
# A first round that ends in a good fit within this limit is the last one. Each further round takes two or three times
# the steps, so three times the gap is enough.
ENOUGH_GAP = 0.0025
# If KL(q || p) is below this (in nats), heavy tails of the weights are corrected by resampling. A funnel also gives a
# few large weights, and a Student's t base does not remove them.
NEAR_GOOD_GAP = GOOD_GAP / 2
# From MODERATE_DIM dimensions on, a gain of less than this fraction of the gap is a plateau.
MIN_SHARE = 0.2
# In more than FEW_DIMS dimensions, after the second round, a fit within this (nats) is enough if weights without a
# heavy tail correct its draws.
CORRECTED_GAP = 0.1
# In more than MANY_DIMS dimensions a step takes so long that weights with this effective fraction are enough after any
# round, if they have no heavy tail: they are a thousand effective draws.
MANY_DIMS_ESS_FRACTION = 0.1
# The fraction of draws with the largest weights, which are a tail.
TAIL_FRACTION = 0.01
# Above this k-hat, weights have no finite variance.
HEAVY_KHAT = 0.5


def is_exact(found: Diagnostics) -> bool:
    """Whether a fit counts as exact.

    Args:
        found: its diagnostics.
    """
    return found.gap < EXACT_GAP and found.ess_fraction > EXACT_ESS_FRACTION


def gap_of_most(log_weights: Float[np.ndarray, " draws"]) -> float:
    """The divergence (nats) without the largest weights: what training can gain.

    A few draws in another mode, or far in a tail, can have most of the weight. Training by reverse KL divergence does
    not reach what so few of its draws do. It is infinite if more draws than that have weight 0.

    Args:
        log_weights: the log-weights of draws.
    """
    kept = np.sort(log_weights[np.isfinite(log_weights)])[: math.ceil((1 - TAIL_FRACTION) * log_weights.size)]
    if kept.size < (1 - TAIL_FRACTION) * log_weights.size:
        return math.inf
    return float(logsumexp(kept) - math.log(kept.size) - kept.mean())


def good_gap(dim: int, index: int) -> float:
    """The divergence (nats) of a good fit that is not trained further.

    Args:
        dim: the dimension.
        index: the index of the last round.
    """
    return NEAR_GOOD_GAP if dim > FEW_DIMS else ENOUGH_GAP * 3**index


def is_another_round_too_much(found: Diagnostics, dim: int, index: int, gain: float) -> bool:
    """Whether a fit that is not good would gain too little for the time of another round; never in few dimensions.

    From the second round on, that is so if another round would probably not change the verdict: each gains less than
    half of the one before. In many dimensions it is so too if the fit is near and weights correct its draws.

    Args:
        found: its diagnostics.
        dim: the dimension.
        index: the index of the last round.
        gain: what that round has gained (nats).
    """
    light = found.khat <= HEAVY_KHAT
    if dim > MANY_DIMS and found.ess_fraction >= MANY_DIMS_ESS_FRACTION and light:
        return True
    corrected = found.ess_fraction >= TRUSTED_ESS_FRACTION
    near = dim > FEW_DIMS and corrected and light and found.gap < CORRECTED_GAP
    no_use = found.gap - gain / 2 >= GOOD_GAP and (corrected or gain < MIN_SHARE * found.gap)
    return dim >= MODERATE_DIM and index > 0 and (near or no_use)
