"""A significance test: whether training has improved the likelihood of the validation rows."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.density.objective import MaximumLikelihood
from pushforward.density.recipe import MIN_VALIDATION_ROWS
from pushforward.flow import Flow
from pushforward.training import Rows
from pushforward.weights import effective_sample_size

# The mean gain must be more than this number of its standard errors.
MIN_GAIN_IN_STANDARD_ERRORS = 1.0


def has_enough_validation_rows(validation: Rows) -> bool:
    """Whether the effective sample size of the validation rows reaches the minimum.

    Args:
        validation: the rows, with or without weights.
    """
    weights = validation.weights
    return (len(validation) if weights is None else effective_sample_size(weights)) >= MIN_VALIDATION_ROWS


def improves(objective: MaximumLikelihood, flow: Flow, start: Flow, key: PRNGKeyArray) -> bool:
    r"""Whether the mean gain $\bar d$ in log-density of the validation rows is more than its standard error.

    With weights $w$ of effective sample size $n$, $\bar d = \sum w d / \sum w$, and the standard error is that of $n$
    gains with the variance $\sum w (d - \bar d)^2 / \sum w$.

    Args:
        objective: the objective of the training, with the validation rows.
        flow: the trained flow.
        start: the flow that training began with.
        key: the key for the dequantization of discrete columns, the same for both flows.
    """
    after, before = (np.asarray(_log_prob(objective, one, key), float) for one in (flow, start))
    weights = np.ones(len(after)) if objective.validation.weights is None else np.asarray(objective.validation.weights)
    if not (np.isfinite(after).all() and np.isfinite(before).all()):
        # If the log-density of a row is not finite, the standard error is undefined: compare the means only.
        return bool(np.average(after, weights=weights) > np.average(before, weights=weights))
    mean = np.average(after - before, weights=weights)
    error = np.sqrt(np.average((after - before - mean) ** 2, weights=weights) / (effective_sample_size(weights) - 1))
    return bool(mean > MIN_GAIN_IN_STANDARD_ERRORS * error)


@eqx.filter_jit
def _log_prob(objective: MaximumLikelihood, flow: Flow, key: PRNGKeyArray) -> Float[Array, " validation"]:
    return objective.validation_log_prob(flow, key)
