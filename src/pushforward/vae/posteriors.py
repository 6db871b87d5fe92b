r"""Posteriors $q(u \mid x)$ and priors $p(u)$ by the field's names. All are flows, so any other flow does as well.

A posterior is a conditional flow: a standard normal, moved and scaled as the condition says, $N(\mu(h), \sigma^2(h))$,
and then pushed through layers. Those without networks of their own (planar, radial, Sylvester) are `Amortized`: all
their arrays are linear functions of the encoder's features $h$. Those with networks (couplings, autoregressive) see $h$
as one more input. At first the layers are the identity, so that training begins as that of a plain VAE.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray

from pushforward import flows
from pushforward.bijections import Affine, Chain, Elementwise, Identity, Permutation, TriangularSylvester
from pushforward.flow import Flow, Learnable
from pushforward.flows.stack import given, stack, standard_normal

# Families whose layers are amortised, and those that have networks of their own.
AMORTIZED = ("planar", "radial", "sylvester-orthogonal", "sylvester-householder", "sylvester-triangular")
CONDITIONED = ("iaf", "realnvp", "nsf")
POSTERIORS = ("gaussian", *AMORTIZED, *CONDITIONED)
PRIORS = ("normal", "mixture", "realnvp", "maf", "nsf")


def posterior(
    family: str,
    dim: int,
    cond_dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 4,
    hidden: Sequence[int] = (64,),
    num_units: int | None = None,
    num_reflections: int | None = None,
) -> Flow:
    r"""A conditional flow for $q(u \mid x)$, whose sampling side is cheap.

    Args:
        family: "gaussian", the plain VAE's; "planar", "radial", "sylvester-orthogonal" ($Q$ of `num_units` columns),
            "sylvester-householder" (a square $Q$ of few reflections), "sylvester-triangular" (permutations for $Q$),
            all amortised; "iaf", "realnvp" or "nsf" (couplings of splines), which see the condition.
        dim: of the latent space.
        cond_dim: the number of the encoder's features.
        key: for the initial arrays.
        num_layers: after the Gaussian, which is not counted; 0 leaves it as it is.
        hidden: widths of the layers' own networks.
        num_units: of "sylvester-orthogonal", by default half of `dim`.
        num_reflections: of "sylvester-householder", by default a quarter of `dim`.

    References:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (2015). https://arxiv.org/abs/1505.05770
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018), section 4.
        https://arxiv.org/abs/1803.05649
    """
    if family not in POSTERIORS:
        raise ValueError(f"the posterior must be one of {', '.join(POSTERIORS)}, but is {family!r}.")
    if num_layers < 0:
        raise ValueError(f"a posterior needs num_layers >= 0, but got num_layers={num_layers}.")
    gaussian = given(Elementwise(Affine(), dim), cond_dim, (), key)
    if family == "gaussian" or num_layers == 0:
        return Flow(standard_normal(dim), Chain([gaussian]))
    units, reflections = num_units or max(1, dim // 2), num_reflections or max(1, dim // 4)
    flow = _layers(family, dim, cond_dim, key, num_layers, hidden, units, reflections)
    return Flow(flow.base, Chain([gaussian, flow.bijection]))


def _layers(family, dim, cond_dim, key, num_layers, hidden, num_units, num_reflections) -> Flow:
    options = {"key": key, "num_layers": num_layers, "cond_dim": cond_dim}
    if family in CONDITIONED:
        return getattr(flows, family)(dim, hidden=hidden, **options)
    if not family.startswith("sylvester"):
        # No hidden layers: the features are the encoder's.
        return getattr(flows, family)(dim, hidden=(), **options)
    units, reflections = {
        "sylvester-orthogonal": (num_units, num_units),
        "sylvester-householder": (dim, num_reflections),
        "sylvester-triangular": (dim, 0),
    }[family]

    def layer(key):
        amortized = given(TriangularSylvester(dim, units, num_reflections=reflections, key=key), cond_dim, (), key)
        # Without reflections, every second layer sees the coordinates in reverse.
        return amortized if reflections else Chain([amortized, Permutation(np.arange(dim)[::-1])])

    return stack(layer, dim, num_layers, None, key, mix=False)


def prior(
    family: str,
    dim: int,
    *,
    key: PRNGKeyArray,
    num_layers: int = 4,
    hidden: Sequence[int] = (64,),
    num_components: int = 50,
) -> Flow:
    """A flow for $p(u)$, all of whose arrays are learned, and whose density side is cheap.

    Args:
        family: "normal", standard and not learned; "mixture" of Gaussians, which is a VampPrior whose components are
            free and not images' posteriors; or a flow: "realnvp", "maf", "nsf".
        dim: of the latent space.
        key: for the initial arrays.
        num_layers: of a flow.
        hidden: widths of its networks.
        num_components: of a mixture.

    References:
        Tomczak and Welling, VAE with a VampPrior (2018). https://arxiv.org/abs/1705.07120
        Chen et al., Variational Lossy Autoencoder (2017), section 3.2. https://arxiv.org/abs/1611.02731
    """
    if family not in PRIORS:
        raise ValueError(f"the prior must be one of {', '.join(PRIORS)}, but is {family!r}.")
    if family == "normal":
        return Flow(standard_normal(dim), Identity((dim,)))
    if family == "mixture":
        if num_components < 1:
            raise ValueError(f"a mixture needs num_components >= 1, but got num_components={num_components}.")
        components = dist.Normal(jr.normal(key, (num_components, dim)), 1.0).to_event(1)
        mixture = dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(num_components)), components)
        return Flow(Learnable(mixture), Identity((dim,)))
    return getattr(flows, family)(dim, num_layers=num_layers, hidden=hidden, key=key)
