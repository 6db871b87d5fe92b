"""Flows and bijections in NumPyro: as distributions, as transforms, and as guides of models."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform
from numpyro.distributions.util import validate_sample
from numpyro.infer import init_to_uniform
from numpyro.infer.autoguide import AutoContinuous

from pushforward.arguments import FROM_ZERO, POSITIVE, checked
from pushforward.bijections import AbstractBijection, Chain, Triangular
from pushforward.bijections.arrays import trainable
from pushforward.flow import Flow, Learnable, check_flow
from pushforward.flows.default import default_flow

# For the quantiles of a guide, which have no formula.
NUM_DRAWS = 10_000
# The draws whose response to the parameters of a flow determines the size of steps.
NUM_RESPONSES = 16


class FlowDistribution(dist.Distribution):
    """A flow as a NumPyro distribution: `numpyro.sample("x", pf.FlowDistribution(flow))`.

    NumPyro keeps the log-density of each sample, so evaluating a guide needs no inverse.

    Args:
        flow: the flow.
        condition: the condition of a conditional flow, of shape (..., *flow.cond_shape); its leading axes are the
            batch shape.
        validate_args: as in NumPyro.

    Raises:
        ValueError: if the condition is missing, not needed or of the wrong shape.
    """

    pytree_data_fields = ("flow", "condition")

    @checked()
    def __init__(self, flow: Flow, condition: Array | None = None, *, validate_args: bool | None = None):
        self.flow, self.condition = flow, flow.checked_condition(condition)
        event = len(flow.cond_shape or ())
        batch = () if self.condition is None else self.condition.shape[: self.condition.ndim - event]
        super().__init__(batch, flow.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """The codomain of the flow's bijection."""
        return _over_events(self.flow.bijection.codomain, self.flow.bijection)

    @property
    def has_rsample(self) -> bool:
        """Whether draws are differentiable functions of the parameters."""
        return self.flow.base_distribution.has_rsample

    @checked(sample_shape=FROM_ZERO)
    def rsample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws that are differentiable functions of the parameters.

        Args:
            key: the key for the draws.
            sample_shape: the shape of the draws for each condition.
        """
        return self.sample(key, sample_shape)

    @checked(sample_shape=FROM_ZERO)
    def sample(self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draws, of shape sample_shape + batch shape + event shape.

        Args:
            key: the key for the draws.
            sample_shape: the shape of the draws for each condition.
        """
        return self.flow.sample(key, tuple(sample_shape), self.condition)

    @checked(sample_shape=FROM_ZERO)
    def sample_with_intermediates(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, list[Array]]:
        """Draws, and their log-densities as the intermediate values for `log_prob`.

        Args:
            key: the key for the draws.
            sample_shape: the shape of the draws for each condition.
        """
        value, log_prob = self.flow.sample_and_log_prob(key, tuple(sample_shape), self.condition)
        return value, [log_prob]

    @checked()
    @validate_sample
    def log_prob(self, value: Array, intermediates: list[Array] | None = None) -> Array:
        """The log-density of each event, in nats.

        Args:
            value: events, of shape (..., *event_shape).
            intermediates: the second result of `sample_with_intermediates`, if `value` is the first.
        """
        return intermediates[0] if intermediates else self.flow.log_prob(value, self.condition)


class BijectionTransform(Transform):
    """A bijection as a NumPyro transform, for `TransformedDistribution` and `NeuTraReparam`.

    Args:
        bijection: the bijection; leading axes of its inputs are batch axes.
        condition: the condition of a conditional bijection, of shape (..., *bijection.cond_shape).
    """

    @checked()
    def __init__(self, bijection: AbstractBijection, condition: Array | None = None):
        self.bijection, self.condition = bijection, condition

    @property
    def domain(self) -> constraints.Constraint:
        """The domain of the bijection."""
        return _over_events(self.bijection.domain, self.bijection)

    @property
    def codomain(self) -> constraints.Constraint:
        """The codomain of the bijection."""
        return _over_events(self.bijection.codomain, self.bijection)

    def __call__(self, x: Array) -> Array:
        """The forward direction of the bijection.

        Args:
            x: points of the domain, of shape (..., *bijection.shape).
        """
        return self.call_with_intermediates(x)[0]

    @checked()
    def call_with_intermediates(self, x: Array) -> Any:
        """The forward direction, and its log-determinants as the intermediate values for `log_abs_det_jacobian`.

        Args:
            x: points of the domain, of shape (..., *bijection.shape).
        """
        return self.bijection.batched.forward_and_log_det(x, self.condition)

    def _inverse(self, y: Array) -> Array:
        return self.bijection.batched.inverse(y, self.condition)

    @checked()
    def log_abs_det_jacobian(self, x: Array, y: Array, intermediates: Array | None = None) -> Array:
        """The log-determinant of the forward direction.

        Args:
            x: points of the domain, of shape (..., *bijection.shape).
            y: their images; not used.
            intermediates: the second result of `call_with_intermediates`, which is then returned.
        """
        return self.call_with_intermediates(x)[1] if intermediates is None else intermediates

    def tree_flatten(self):
        """The leaves and the structure for JAX, as NumPyro's transforms give them."""
        return (self.bijection, self.condition), (("bijection", "condition"), {})  # pyright: ignore[reportReturnType]


def _over_events(constraint: constraints.Constraint, bijection: AbstractBijection) -> constraints.Constraint:
    missing = len(bijection.shape) - constraint.event_dim
    return constraints.independent(constraint, missing) if missing else constraint


@jax.custom_vjp
def _with_finite_gradients(params: Any) -> Any:
    """The parameters. Gradients that are not finite become zero, so that such a draw does not end a training by SVI."""
    return params


def _forward(params: Any) -> tuple[Any, None]:
    return params, None


def _backward(_: None, gradients: Any) -> tuple[Any]:
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients)]).all()
    return (jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0.0), gradients),)


_with_finite_gradients.defvjp(_forward, _backward)


def _largest_response(flow: Flow, key: PRNGKeyArray) -> float:
    """How far a draw moves, in standard deviations of the base, if all parameters change by 1 with the worst signs.

    It is the mean over some draws and coordinates, and at least 1.

    Args:
        flow: the flow.
        key: for the draws and the coordinates.
    """
    draw_key, coordinate_key = jax.random.split(key)
    u = flow.base_distribution.sample(draw_key, (NUM_RESPONSES,))
    coordinates = jax.random.randint(coordinate_key, (NUM_RESPONSES,), 0, flow.shape[0])
    parameters, static = eqx.partition(flow.bijection, trainable(flow.bijection))

    def response(u: Array, coordinate: Array) -> Array:
        def moved(parameters: Any) -> Array:
            return eqx.combine(parameters, static).forward(u)[coordinate]

        return sum((jnp.abs(leaf).sum() for leaf in jax.tree.leaves(jax.grad(moved)(parameters))), jnp.zeros(()))

    found = jax.jit(lambda u, coordinates: jax.lax.map(lambda pair: response(*pair), (u, coordinates)))(u, coordinates)
    mean = float(jnp.mean(jnp.where(jnp.isfinite(found), found, 0.0)))
    return max(1.0, mean)


class AutoFlow(AutoContinuous):
    """A flow over the unconstrained latent sites of a model, as a guide for `numpyro.infer.SVI`.

    It works like NumPyro's automatic guides, with `sample_posterior`, `median`, `quantiles`, `Predictive` and
    `NeuTraReparam(guide, params)` for NUTS in the flow's coordinates. A draw whose gradient is not finite is left out
    of the step.

    The flow is followed by the affine map of `AutoMultivariateNormal`, with the same initial values. A step of Adam
    changes all parameters by its learning rate, and a network has thousands: so those of the flow are held in units in
    which such a step moves draws, in the flow's coordinates, no farther than it moves the location. The learning rates
    of Gaussian guides then serve. `fit_posterior` also finds scales, stops automatically and diagnoses the result.

    Args:
        model: a NumPyro model with continuous latent sites.
        flow: a function of (dim, key=) that returns a Flow of shape (dim,), such as `pf.flows.nsf`; by default affine
            couplings (in one dimension a spline), then an affine map.
        key: the key for the flow's initial parameters.
        prefix: the prefix of the names of the guide's sites.
        init_loc_fn: NumPyro's initialization strategy; the flow is shifted to the initial values.
        init_scale: the initial standard deviation of the unconstrained latent vector, as in NumPyro's guides.

    Raises:
        ValueError: if `init_scale` is not positive.
        TypeError: when the guide first runs, if `flow` does not return a `Flow`.
        ValueError: when the guide first runs, if the flow has the wrong shape or takes a condition.
    """

    @checked(init_scale=POSITIVE)
    def __init__(
        self,
        model: Callable,
        flow: Callable[..., Flow] = default_flow,
        *,
        key: PRNGKeyArray,
        prefix: str = "auto",
        init_loc_fn: Callable = init_to_uniform,
        init_scale: float = 0.1,
    ):
        if not init_scale > 0:
            raise ValueError(f"init_scale must be positive, but is {init_scale}.")
        self._init_scale = init_scale
        self._make, self._key = flow, key
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def _setup_prototype(self, *args, **kwargs):
        super()._setup_prototype(*args, **kwargs)
        self._flow = self._make(self.latent_dim, key=self._key)
        check_flow(self._flow, (self.latent_dim,), None, "the model in unconstrained coordinates")
        with jax.ensure_compile_time_eval():
            self._step = 1 / _largest_response(self._flow, self._key)

    @checked()
    def flow(self, params: dict | None = None) -> Flow:
        """The flow with trained parameters, in unconstrained coordinates.

        Args:
            params: `SVI.get_params(state)` or `SVIRunResult.params`; None inside a guide, for the current parameters.
        """
        initial, static = eqx.partition(self._flow, trainable(self._flow))
        names = [f"{self.prefix}_{part}" for part in ("flow$params", "loc", "scale_tril")]
        if params is None:
            scaled = jax.tree.map(lambda leaf: leaf / self._step, initial)
            scale_tril = self._init_scale * jnp.eye(self.latent_dim)
            current = (
                numpyro.param(names[0], scaled),
                numpyro.param(names[1], self._init_latent),
                numpyro.param(names[2], scale_tril, constraint=constraints.softplus_lower_cholesky),
            )
            current = _with_finite_gradients(current)
        else:
            current = tuple(params[name] for name in names)
        scaled, loc, scale_tril = current
        inner = eqx.combine(jax.tree.map(lambda leaf: leaf * self._step, scaled), static)
        return Flow(inner.base, Chain([inner.bijection, Triangular(self.latent_dim, loc, scale_tril)]))

    def _get_posterior(self):
        return FlowDistribution(self.flow())

    def get_base_dist(self) -> dist.Distribution:
        """The base of the flow."""
        if isinstance(self._flow.base, Learnable):
            raise NotImplementedError("the base of this flow is learned, so it depends on the parameters.")
        return self._flow.base

    @checked()
    def get_transform(self, params: dict) -> BijectionTransform:
        """The flow's bijection, which maps to the unconstrained latent vector.

        Args:
            params: `SVI.get_params(state)` or `SVIRunResult.params`.
        """
        self.get_base_dist()
        return BijectionTransform(self.flow(params).bijection)

    @checked()
    def get_posterior(self, params: dict) -> FlowDistribution:
        """The distribution of the unconstrained latent vector.

        Args:
            params: `SVI.get_params(state)` or `SVIRunResult.params`.
        """
        return FlowDistribution(self.flow(params))

    @checked()
    def median(self, params: dict) -> dict[str, Array]:
        """The median of each latent site, from 10,000 draws.

        Args:
            params: `SVI.get_params(state)` or `SVIRunResult.params`.
        """
        return {name: value[0] for name, value in self.quantiles(params, 0.5).items()}

    @checked()
    def quantiles(self, params: dict, quantiles: Any) -> dict[str, Array]:
        """Quantiles of each latent site along a leading axis, from 10,000 draws that are the same at each call.

        Args:
            params: `SVI.get_params(state)` or `SVIRunResult.params`.
            quantiles: numbers between 0 and 1.

        Raises:
            ValueError: if a number is not between 0 and 1.
        """
        levels = jnp.atleast_1d(jnp.asarray(quantiles, float))
        if not bool(((levels >= 0) & (levels <= 1)).all()):
            raise ValueError(f"quantiles must be between 0 and 1, but are {quantiles}.")
        latent = self.flow(params).sample(self._key, (NUM_DRAWS,))
        draws = self._unpack_and_constrain(latent, params)
        return {name: jnp.quantile(value, levels, axis=0) for name, value in draws.items()}
