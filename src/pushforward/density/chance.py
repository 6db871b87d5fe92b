"""Whether held-out rows tell that training has gained something."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.density.moments import worth
from pushforward.density.objective import HeldOutLikelihood, Rows
from pushforward.flow import Flow

# With fewer rows to judge by, the best of many evaluations is a matter of luck.
FEWEST_ROWS = 5
# Of gains, in standard errors of their mean.
LEAST_GAIN = 1.0


def judges_enough(held_out: Rows) -> bool:
    """Whether the rows are worth as many of equal weight as it takes."""
    return (len(held_out) if held_out.weights is None else worth(held_out.weights)) >= FEWEST_ROWS


def is_better(objective: HeldOutLikelihood, flow: Flow, start: Flow, key: PRNGKeyArray) -> bool:
    r"""Whether the mean gain $\bar d$ in log-density of held-out rows is more than its standard error.

    With weights $w$ worth $n$ rows, $\bar d = \sum w d / \sum w$, and the standard error is that of $n$ gains with the
    variance $\sum w (d - \bar d)^2 / \sum w$.
    """
    gains = np.asarray(_log_prob(objective, flow, key) - _log_prob(objective, start, key), float)
    weights = np.ones(len(gains)) if objective.held_out.weights is None else np.asarray(objective.held_out.weights)
    mean = np.average(gains, weights=weights)
    error = np.sqrt(np.average((gains - mean) ** 2, weights=weights) / (worth(weights) - 1))
    # Where the start has no density there is no mean, and anything is better.
    return not mean <= LEAST_GAIN * error


@eqx.filter_jit
def _log_prob(objective: HeldOutLikelihood, flow: Flow, key: PRNGKeyArray) -> Float[Array, " held_out"]:
    return objective.held_out_log_prob(flow, key)
