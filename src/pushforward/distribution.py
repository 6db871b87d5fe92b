"""Flows and bijections as NumPyro distributions and transforms: priors, likelihoods and guides of any model."""

from typing import Any

import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform
from numpyro.distributions.util import validate_sample

from pushforward.bijections import AbstractBijection
from pushforward.flow import Flow, apply_batched


class FlowDistribution(dist.Distribution):
    """A flow as a NumPyro distribution: `numpyro.sample("x", pf.FlowDistribution(flow))`.

    Samples carry their log-density along, so that a guide is never inverted.

    Args:
        flow: the flow.
        condition: of shape (..., *flow.cond_shape) for a conditional flow; its leading axes are the batch.

    Raises:
        ValueError: if the condition is missing, or has another shape.
    """

    pytree_data_fields = ("flow", "condition")

    def __init__(self, flow: Flow, condition: Array | None = None, *, validate_args: bool | None = None):
        self.flow, self.condition = flow, flow.checked_condition(condition)
        event = len(flow.cond_shape or ())
        batch = () if self.condition is None else self.condition.shape[: self.condition.ndim - event]
        super().__init__(batch, flow.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return _over_events(self.flow.bijection.codomain, self.flow.bijection)

    @property
    def has_rsample(self) -> bool:
        return self.flow.base_distribution.has_rsample

    def rsample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.sample(key, sample_shape)

    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Array:
        return self.flow.sample(key, tuple(sample_shape), self.condition)

    def sample_with_intermediates(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        value, log_prob = self.flow.sample_and_log_prob(key, tuple(sample_shape), self.condition)
        return value, [log_prob]

    @validate_sample
    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        return intermediates[0] if intermediates else self.flow.log_prob(value, self.condition)


class BijectionTransform(Transform):
    """A bijection as a NumPyro transform, for `TransformedDistribution` and `NeuTraReparam`.

    Args:
        bijection: the bijection; leading axes of what it is applied to are batch.
        condition: for a conditional bijection, of shape (..., *bijection.cond_shape).
    """

    def __init__(self, bijection: AbstractBijection, condition: Array | None = None):
        self.bijection, self.condition = bijection, condition

    @property
    def domain(self) -> constraints.Constraint:
        return _over_events(self.bijection.domain, self.bijection)

    @property
    def codomain(self) -> constraints.Constraint:
        return _over_events(self.bijection.codomain, self.bijection)

    def __call__(self, x: Array) -> Array:
        return self.call_with_intermediates(x)[0]

    def call_with_intermediates(self, x: Array) -> Any:
        return apply_batched(self.bijection, "forward_and_log_det", (x,), self.condition)

    def _inverse(self, y: Array) -> Array:
        return apply_batched(self.bijection, "inverse_and_log_det", (y,), self.condition)[0]

    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Array | None = None) -> Array:
        return self.call_with_intermediates(x)[1] if intermediates is None else intermediates

    def tree_flatten(self):
        return (self.bijection, self.condition), (("bijection", "condition"), {})  # pyright: ignore[reportReturnType]


def _over_events(constraint: constraints.Constraint, bijection: AbstractBijection) -> constraints.Constraint:
    missing = len(bijection.shape) - constraint.event_dim
    return constraints.independent(constraint, missing) if missing else constraint
