"""NumPyro models as spaces: the unconstrained density is the one that NumPyro's own samplers use."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.infer import Predictive, init_to_uniform, log_likelihood
from numpyro.infer.util import constrain_fn, log_density, potential_energy, unconstrain_fn

from pushforward.posterior.spaces.base import AbstractSpace, Labels, SupportSpace
from pushforward.user_warnings import warn


class NumpyroSpace(AbstractSpace):
    """The latent sites of a NumPyro model; draws are dicts of its latent and deterministic sites.

    Build it with `trace`.

    Attributes:
        model: the model.
        args: the positional arguments of the model.
        kwargs: the keyword arguments of the model.
        names: the names of the latent sites.
        plain: the latent sites as a space without the model's code; None if a support depends on another site.
    """

    model: Callable = eqx.field(static=True)
    args: tuple
    kwargs: dict[str, Any]
    names: tuple[str, ...] = eqx.field(static=True)
    plain: SupportSpace | None

    @property
    def description(self):
        return f"the NumPyro model {getattr(self.model, '__name__', type(self.model).__name__)}"

    @classmethod
    def trace(cls, model: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple["NumpyroSpace", PyTree]:
        """The space, and unconstrained values of the latent sites.

        Args:
            model: a NumPyro model.
            args: the positional arguments of the model.
            kwargs: the keyword arguments of the model.

        Raises:
            ValueError: if the model has discrete latent sites, subsampled plates or no latent site.
        """
        original = args, kwargs
        args, kwargs = jax.tree.map(_as_argument, original)
        sites = sites_of(model, *original, seed=0)
        latent = {name: site for name, site in sites.items() if _is_latent(site)}
        _check_sites(sites, latent)
        values, supports = _latent_values(sites)
        # A support that differs at another point depends on other sites.
        fixed = eqx.tree_equal(supports, _latent_values(sites_of(model, *original, seed=1))[1])
        plain = SupportSpace(None, supports, values) if fixed else None
        example = unconstrain_fn(model, *original, values)
        space = cls(model, args, kwargs, tuple(latent), plain)
        try:
            eqx.filter_eval_shape(lambda space, z: space.log_density(z), space, example)
        except (
            TypeError,  # a shape that depends on a value
            jax.errors.ConcretizationTypeError,
            jax.errors.NonConcreteBooleanIndexError,
            jax.errors.TracerArrayConversionError,
            jax.errors.TracerIntegerConversionError,
        ):
            # The model's Python code uses the values of its arguments, which NumPyro allows. They become constants of
            # the compiled program: NumPy arrays, because operations on JAX arrays have no values during tracing.
            original = jax.tree.map(lambda a: np.asarray(a) if isinstance(a, jax.Array) else a, original)
            space = cls(_Bound(model, *original), (), {}, tuple(latent), plain)
        return space, example

    @property
    def data(self):
        return self.args[0]

    def with_data(self, data):
        return eqx.tree_at(lambda s: s.args[0], self, data)

    def log_density(self, z):
        return -potential_energy(self.model, self.args, self.kwargs, z)

    def constrain(self, z):
        return constrain_fn(self.model, self.args, self.kwargs, z, return_deterministic=True)

    def unconstrain(self, draw):
        return unconstrain_fn(self.model, self.args, self.kwargs, {name: draw[name] for name in self.names})

    def log_volume(self, z):
        draw = constrain_fn(self.model, self.args, self.kwargs, z)
        constrained, _ = log_density(self.model, self.args, self.kwargs, {name: draw[name] for name in self.names})
        return self.log_density(z) - constrained

    def labels(self):
        """The plates name the axes."""
        dims = {}
        for name, site in sites_of(self.model, self.args, self.kwargs, seed=0).items():
            if site["type"] in ("sample", "deterministic"):
                shape = jnp.shape(site["value"])
                event_dim = site["fn"].event_dim if site["type"] == "sample" else 0
                axes = [f"{name}_dim_{axis}" for axis in range(len(shape))]
                for frame in site["cond_indep_stack"]:
                    axis = frame.dim - event_dim
                    if -axis <= len(shape) and shape[axis] == frame.size:
                        axes[axis] = frame.name
                if any(frame.name in axes for frame in site["cond_indep_stack"]):
                    dims[name] = axes
        return Labels({}, dims)

    def predict(self, draws, key):
        observed = {
            name: site["value"]
            for name, site in sites_of(self.model, self.args, self.kwargs, seed=0).items()
            if site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], dist.Unit)
        }
        if not observed:
            return {}
        latent = {name: draws[name] for name in self.names}
        likelihood = log_likelihood(self.model, latent, *self.args, batch_ndims=2, **self.kwargs)
        groups = {"observed_data": observed, "log_likelihood": {name: likelihood[name] for name in observed}}
        if key is None:
            return groups
        try:
            predictive = Predictive(handlers.uncondition(self.model), latent, batch_ndims=2, parallel=True)
            replicas = predictive(key, *self.args, **self.kwargs)
        except NotImplementedError as error:
            warn(f"no posterior predictive: a likelihood of the model cannot be sampled: {error}")
            return groups
        return groups | {"posterior_predictive": {name: replicas[name] for name in observed}}

    def detached(self):
        if self.plain is None:
            raise ValueError(
                "the support of a site of this model depends on another site, so draws need the model's code, which a "
                "file does not hold; save draws instead (posterior.to_arviz())."
            )
        return self.plain


def _as_argument(value: Any) -> Any:
    """NumPy arrays become arguments of the compiled program; integers stay constants, as shapes may depend on them."""
    if isinstance(value, np.integer) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu"
    ):
        return int(value)
    return jnp.asarray(value) if isinstance(value, np.ndarray) else value


class _Bound:
    """A model with its arguments, in one static object."""

    def __init__(self, model: Callable, args: tuple, kwargs: dict[str, Any]):
        self.call = lambda: model(*args, **kwargs)

    def __call__(self):
        return self.call()


def _is_latent(site: dict) -> bool:
    return site["type"] == "sample" and not site["is_observed"]


def sites_of(model: Callable, args: tuple, kwargs: dict[str, Any], seed: int) -> dict:
    """The sites of a model at a random starting point.

    Args:
        model: the model.
        args: the positional arguments of the model.
        kwargs: the keyword arguments of the model.
        seed: the seed of the random numbers.
    """
    start = handlers.substitute(handlers.seed(model, seed), substitute_fn=init_to_uniform)
    return handlers.trace(start).get_trace(*args, **kwargs)


def _latent_values(sites: dict) -> tuple[dict, dict]:
    latent = {name: site for name, site in sites.items() if _is_latent(site)}
    return {n: site["value"] for n, site in latent.items()}, {n: site["fn"].support for n, site in latent.items()}


def _check_sites(sites: dict, latent: dict) -> None:
    discrete = [name for name, site in latent.items() if site["fn"].support.is_discrete]
    if discrete:
        raise ValueError(
            f"the latent sites {', '.join(discrete)} are discrete, but a flow draws real numbers: marginalize them "
            "(mixtures: numpyro.distributions.MixtureSameFamily or logsumexp), or observe them."
        )
    subsampled = [
        name
        for name, site in sites.items()
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0])
    ]
    if subsampled:
        raise ValueError(f"the plates {', '.join(subsampled)} are subsampled; fit_posterior needs the full density.")
    if not latent:
        raise ValueError("the model has no latent site, so there is nothing to infer. Are all of its sites observed?")
    if any(site["type"] == "param" for site in sites.values()):
        warn("param sites of the model are fixed at their initial values.")
