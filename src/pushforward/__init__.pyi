"""Variational inference with normalizing flows."""

from pushforward import (
    bijections as bijections,
    density as density,
    flows as flows,
    posterior as posterior,
    reports as reports,
    testing as testing,
    training as training,
    vae as vae,
)
from pushforward.density import Circular as Circular, Density as Density, fit_density as fit_density
from pushforward.flow import Flow as Flow, Learnable as Learnable
from pushforward.numpyro import (
    AutoFlow as AutoFlow,
    BijectionTransform as BijectionTransform,
    FlowDistribution as FlowDistribution,
)
from pushforward.posterior import (
    AmortizedPosterior as AmortizedPosterior,
    ConditionalTarget as ConditionalTarget,
    Diagnostics as Diagnostics,
    Posterior as Posterior,
    Target as Target,
    assess as assess,
    diagnose as diagnose,
    fit_amortized as fit_amortized,
    fit_posterior as fit_posterior,
)
from pushforward.rosenblatt.conditionals import ConditionalRosenblatt as ConditionalRosenblatt
from pushforward.rosenblatt.mixture import GaussianMixtureRosenblatt as GaussianMixtureRosenblatt
from pushforward.rosenblatt.quadrature import QuadratureRosenblatt as QuadratureRosenblatt
from pushforward.rosenblatt.transport import rosenblatt as rosenblatt, transport as transport
from pushforward.serialization import load as load, save as save
from pushforward.training import train as train
from pushforward.training.objectives import (
    AbstractObjective as AbstractObjective,
    ForwardKL as ForwardKL,
    ImportanceWeighted as ImportanceWeighted,
    Renyi as Renyi,
    ReverseKL as ReverseKL,
)
from pushforward.vae import VAE as VAE, fit_vae as fit_vae

__version__: str
