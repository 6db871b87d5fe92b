"""Variational inference with normalizing flows."""

from pushforward import bijections as bijections, flows as flows, testing as testing, vae as vae
from pushforward.density import fit_density as fit_density
from pushforward.flow import Flow as Flow, Learnable as Learnable
from pushforward.objectives import ForwardKL as ForwardKL, ReverseKL as ReverseKL
from pushforward.posterior import (
    Diagnostics as Diagnostics,
    Posterior as Posterior,
    Target as Target,
    fit_posterior as fit_posterior,
)
from pushforward.serialization import load as load, save as save
from pushforward.training import train as train
from pushforward.universality import rosenblatt as rosenblatt, transport as transport
from pushforward.vae import VAE as VAE, fit_vae as fit_vae
