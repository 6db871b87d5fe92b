"""How is a variational autoencoder with flows for posterior and prior built, trained and evaluated?"""

from pushforward.vae import pictures as pictures
from pushforward.vae.evaluation import (
    Evaluation as Evaluation,
    KLSplit as KLSplit,
    evaluate as evaluate,
    kl_split as kl_split,
)
from pushforward.vae.fit import fit_vae as fit_vae
from pushforward.vae.likelihoods import (
    AbstractLikelihood as AbstractLikelihood,
    Bernoulli as Bernoulli,
    Categorical as Categorical,
    Gaussian as Gaussian,
)
from pushforward.vae.model import VAE as VAE
from pushforward.vae.networks import conv_pair as conv_pair, dense_pair as dense_pair
from pushforward.vae.objective import NegativeBound as NegativeBound
from pushforward.vae.posteriors import POSTERIORS as POSTERIORS, posterior as posterior
from pushforward.vae.priors import PRIORS as PRIORS, prior as prior
from pushforward.vae.recipe import build as build
