"""A model in, draws and a verdict out: how is a posterior approximated, and can the result be trusted?"""

from pushforward.posterior.amortized import AmortizedPosterior as AmortizedPosterior
from pushforward.posterior.amortized_fit import fit_amortized as fit_amortized
from pushforward.posterior.conditional import ConditionalTarget as ConditionalTarget
from pushforward.posterior.fit import fit_posterior as fit_posterior
from pushforward.posterior.ranks import Ranks as Ranks
from pushforward.posterior.refine import Chains as Chains
from pushforward.posterior.result import Posterior as Posterior
from pushforward.posterior.target import Target as Target
from pushforward.posterior.verdict.agreement import Agreement as Agreement
from pushforward.posterior.verdict.assessment import assess as assess
from pushforward.posterior.verdict.diagnostics import Diagnostics as Diagnostics, diagnose as diagnose
