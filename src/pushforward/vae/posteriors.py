r"""Posteriors $q(u \mid x)$ by name. Any other conditional flow can be a VAE's posterior too.

Each is a Gaussian $N(\mu(h), \sigma^2(h))$, where $h$ are the encoder's features, followed by layers of a flow. Layers
without networks of their own (planar, radial, Sylvester) are `Amortized`: their parameters are linear functions of $h$.
The networks of the other layers (couplings, autoregressive) take $h$ as an additional input. The layers start as the
identity, so the initial posterior is Gaussian, as in a standard VAE.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import PRNGKeyArray

from pushforward import flows
from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections import Affine, Chain, Elementwise, Permutation, TriangularSylvester
from pushforward.flow import Flow
from pushforward.flows.stack import conditional, stack, standard_normal

# Families whose layers are amortized.
AMORTIZED = ("planar", "radial", "sylvester-orthogonal", "sylvester-householder", "sylvester-triangular")
# Families whose layers have networks that take the features.
CONDITIONED = ("iaf", "realnvp", "nsf")
POSTERIORS = ("gaussian", *AMORTIZED, *CONDITIONED)


@checked(num_layers=FROM_ZERO)
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
    r"""A conditional flow for $q(u \mid x)$ with cheap sampling.

    Args:
        family: "gaussian", as in the standard VAE; "planar", "radial", "sylvester-orthogonal" ($Q$ with `num_units`
            columns), "sylvester-householder" (a square $Q$, a product of reflections) or "sylvester-triangular"
            (permutations instead of $Q$), all amortized; "iaf", "realnvp" or "nsf" (couplings of splines), with
            networks that take the features.
        dim: the dimension of the latent space.
        cond_dim: the number of the encoder's features.
        key: the key for the initial parameters.
        num_layers: the number of layers after the Gaussian; 0 for the Gaussian alone.
        hidden: the widths of the hidden layers of "iaf", "realnvp" and "nsf".
        num_units: the number of hidden units of "sylvester-orthogonal", by default half of `dim`.
        num_reflections: the number of reflections of "sylvester-householder", by default a quarter of `dim`.

    Raises:
        ValueError: for an unknown family or a negative number of layers.

    References:
        Rezende and Mohamed, Variational Inference with Normalizing Flows (2015). https://arxiv.org/abs/1505.05770
        Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow (2016).
        https://arxiv.org/abs/1606.04934
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference (2018), section 4.
        https://arxiv.org/abs/1803.05649
    """
    if family not in POSTERIORS:
        raise ValueError(f"the posterior must be one of {', '.join(POSTERIORS)}, but is {family!r}.")
    gaussian = conditional(Elementwise(Affine(), dim), cond_dim, (), key)
    if family == "gaussian" or num_layers == 0:
        return Flow(standard_normal(dim), Chain([gaussian]))
    units = max(1, dim // 2) if num_units is None else num_units
    reflections = max(1, dim // 4) if num_reflections is None else num_reflections
    flow = _layers(family, dim, cond_dim, key, num_layers, hidden, units, reflections)
    return Flow(flow.base, Chain([gaussian, flow.bijection]))


def _layers(family, dim, cond_dim, key, num_layers, hidden, num_units, num_reflections) -> Flow:
    options = {"key": key, "num_layers": num_layers, "cond_dim": cond_dim}
    if family in CONDITIONED:
        return getattr(flows, family)(dim, hidden=hidden, **options)
    if not family.startswith("sylvester"):
        # No hidden layers: the encoder has computed the features already.
        return getattr(flows, family)(dim, hidden=(), **options)
    units, reflections = {
        "sylvester-orthogonal": (num_units, num_units),
        "sylvester-householder": (dim, num_reflections),
        "sylvester-triangular": (dim, 0),
    }[family]

    def layer(key):
        amortized = conditional(
            TriangularSylvester(dim, units, num_reflections=reflections, key=key), cond_dim, (), key
        )
        # Without reflections, the order of the coordinates alternates from layer to layer.
        return amortized if reflections else Chain([amortized, Permutation(np.arange(dim)[::-1])])

    return stack(layer, dim, num_layers, None, key, permute=False)
