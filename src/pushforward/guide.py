"""Any flow as a guide of a NumPyro model."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray
from numpyro.infer import init_to_uniform
from numpyro.infer.autoguide import AutoContinuous

from pushforward.bijections import Chain, Triangular
from pushforward.distribution import BijectionTransform, FlowDistribution
from pushforward.flow import Flow, Learnable, trainable
from pushforward.flows.default import default_flow


class AutoFlow(AutoContinuous):
    """A flow over the unconstrained latent sites of a model, as a guide for `numpyro.infer.SVI`.

    It takes the place of NumPyro's automatic guides: `sample_posterior`, `median` of draws, `Predictive` and, as
    `NeuTraReparam(guide, params)`, NUTS in the flow's coordinates. `fit_posterior` does more: it finds scales, stops by
    itself and judges the result.

    Args:
        model: a NumPyro model with continuous latent sites.
        flow: a function of (dim, key=) that returns a Flow of shape (dim,), such as `pf.flows.nsf`; by default affine
            couplings, in one dimension a spline, and an affine map.
        key: for the flow's initial parameters.
        prefix: of the names of the guide's sites.
        init_loc_fn: where the guide begins; the flow is moved there.

    Raises:
        ValueError: when the model is first seen, if the flow has another shape or takes a condition.
    """

    def __init__(
        self,
        model: Callable,
        flow: Callable[..., Flow] = default_flow,
        *,
        key: PRNGKeyArray | None = None,
        prefix: str = "auto",
        init_loc_fn: Callable = init_to_uniform,
    ):
        self._make, self._key = flow, jr.key(0) if key is None else key
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def _setup_prototype(self, *args, **kwargs):
        super()._setup_prototype(*args, **kwargs)
        flow = self._make(self.latent_dim, key=self._key)
        if flow.shape != (self.latent_dim,) or flow.cond_shape is not None:
            raise ValueError(
                f"AutoFlow needs a flow of shape ({self.latent_dim},) and no condition, for the model has "
                f"{self.latent_dim} unconstrained dimensions, but got shape {flow.shape} and cond_shape "
                f"{flow.cond_shape}."
            )
        shift = Triangular(self.latent_dim, self._init_latent, 0.1 * jnp.eye(self.latent_dim))
        self._flow = Flow(flow.base, Chain([flow.bijection, shift]))

    def flow(self, params: dict | None = None) -> Flow:
        """The flow at trained parameters, `SVI.get_params(state)` or `SVIRunResult.params`; without any, inside a
        guide, at the current ones.
        """
        initial, static = eqx.partition(self._flow, trainable(self._flow))
        name = f"{self.prefix}_flow$params"
        return eqx.combine(numpyro.param(name, initial) if params is None else params[name], static)

    def _get_posterior(self):
        return FlowDistribution(self.flow())

    def get_base_dist(self) -> dist.Distribution:
        """The base of the flow."""
        if isinstance(self._flow.base, Learnable):
            raise NotImplementedError("the base of this flow is learned, so it is not the same for all parameters.")
        return self._flow.base

    def get_transform(self, params: dict) -> BijectionTransform:
        """The flow's bijection, to the unconstrained latent vector."""
        self.get_base_dist()
        return BijectionTransform(self.flow(params).bijection)

    def get_posterior(self, params: dict) -> FlowDistribution:
        """The distribution of the unconstrained latent vector."""
        return FlowDistribution(self.flow(params))
