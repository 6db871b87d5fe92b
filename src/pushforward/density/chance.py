"""Whether held-out rows tell that training has gained something."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.density.objective import HeldOutLikelihood, Rows
from pushforward.density.recipe import FEWEST_HELD_OUT
from pushforward.density.whitening.moments import effective_sample_size
from pushforward.flow import Flow

# Of gains, in standard errors of their mean.
LEAST_GAIN = 1.0


def judges_enough(held_out: Rows) -> bool:
    """Whether the rows are worth as many of equal weight as it takes."""
    return (len(held_out) if held_out.weights is None else effective_sample_size(held_out.weights)) >= FEWEST_HELD_OUT


def is_better(objective: HeldOutLikelihood, flow: Flow, start: Flow, key: PRNGKeyArray) -> bool:
    r"""Whether the mean gain $\bar d$ in log-density of held-out rows is more than its standard error.

    With weights $w$ worth $n$ rows, $\bar d = \sum w d / \sum w$, and the standard error is that of $n$ gains with the
    variance $\sum w (d - \bar d)^2 / \sum w$.
    """
    after, before = (np.asarray(_log_prob(objective, one, key), float) for one in (flow, start))
    weights = np.ones(len(after)) if objective.held_out.weights is None else np.asarray(objective.held_out.weights)
    if not (np.isfinite(after).all() and np.isfinite(before).all()):
        # There is no mean where a row has no density.
        return bool(np.average(after, weights=weights) > np.average(before, weights=weights))
    mean = np.average(after - before, weights=weights)
    error = np.sqrt(np.average((after - before - mean) ** 2, weights=weights) / (effective_sample_size(weights) - 1))
    return bool(mean > LEAST_GAIN * error)


@eqx.filter_jit
def _log_prob(objective: HeldOutLikelihood, flow: Flow, key: PRNGKeyArray) -> Float[Array, " held_out"]:
    return objective.held_out_log_prob(flow, key)
