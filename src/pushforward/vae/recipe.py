"""A VAE in one call, from the names of its parts."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from pushforward.arguments import FROM_ZERO, checked
from pushforward.vae.layout import Channels, find_channels
from pushforward.vae.likelihoods import AbstractLikelihood, Bernoulli
from pushforward.vae.model import VAE
from pushforward.vae.networks import conv_pair, dense_pair
from pushforward.vae.posteriors import posterior as make_posterior
from pushforward.vae.priors import prior as make_prior

NETWORKS = ("dense", "conv")


@checked(num_layers=FROM_ZERO, prior_layers=FROM_ZERO)
def build(
    shape: tuple[int, ...],
    *,
    key: PRNGKeyArray,
    dim: int = 16,
    posterior: str = "nsf",
    prior: str = "nsf",
    num_layers: int = 4,
    prior_layers: int = 4,
    network: str = "dense",
    widths: Sequence[int] | None = None,
    features: int | None = None,
    likelihood: AbstractLikelihood | None = None,
    channels: Channels | None = None,
) -> VAE:
    """A VAE that is not trained.

    Args:
        shape: the shape of an image: (height, width), (channels, height, width), (height, width, channels), or any
            other for dense networks.
        key: the key for the initial parameters.
        dim: the dimension of the latent space.
        posterior: one of `POSTERIORS`; "gaussian" with the prior "normal" is the standard VAE.
        prior: one of `PRIORS`.
        num_layers: the number of layers of the posterior.
        prior_layers: the number of layers of the prior.
        network: "dense", or "conv" for gated convolutions.
        widths: the widths of the hidden layers, or the numbers of channels of the convolutions.
        features: the number of the encoder's outputs.
        likelihood: the distribution of an image given the decoder's outputs; by default `Bernoulli()`.
        channels: where the channels of an image are, "first" or "last"; by default detected from the shape.

    Raises:
        ValueError: for an unknown name, a size below 1, or a shape with three axes whose channels are not clear.
    """
    if network not in NETWORKS:
        raise ValueError(f"the network must be one of {', '.join(NETWORKS)}, but is {network!r}.")
    channels = find_channels(shape, channels)
    likelihood = Bernoulli() if likelihood is None else likelihood
    network_key, posterior_key, prior_key = jr.split(key, 3)
    options: dict[str, Any] = {} if features is None else {"features": features}
    if widths is not None:
        options["hidden" if network == "dense" else "channels"] = widths
    if network == "conv":
        options["layout"] = channels
    pair = dense_pair if network == "dense" else conv_pair
    encoder, decoder = pair(tuple(shape), dim, likelihood.num_outputs, key=network_key, **options)
    (size,) = eqx.filter_eval_shape(encoder, jnp.zeros(shape)).shape
    return VAE(
        encoder,
        decoder,
        make_posterior(posterior, dim, size, num_layers=num_layers, key=posterior_key),
        make_prior(prior, dim, num_layers=prior_layers, key=prior_key),
        likelihood,
        channels=channels,
    )
