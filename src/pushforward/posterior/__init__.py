"""Posteriors of models: targets, the fit, its diagnostics and its result."""

from pushforward.posterior.amortized import (
    AmortizedPosterior as AmortizedPosterior,
    ConditionalTarget as ConditionalTarget,
    fit_amortized as fit_amortized,
)
from pushforward.posterior.assessment import assess as assess
from pushforward.posterior.diagnostics import Diagnostics as Diagnostics, diagnose as diagnose
from pushforward.posterior.fit import fit_posterior as fit_posterior
from pushforward.posterior.result import Posterior as Posterior
from pushforward.posterior.target import Target as Target
