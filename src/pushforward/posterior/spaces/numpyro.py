"""NumPyro models as spaces: the unconstrained density is the one that NumPyro's own samplers use."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.infer.util import constrain_fn, potential_energy, unconstrain_fn

from pushforward.posterior.spaces.arguments import bind, has_constants, unbind
from pushforward.posterior.spaces.base import AbstractSpace, Labels, SupportSpace, UnavailablePrediction, total
from pushforward.posterior.spaces.dependence import dependence, dependent
from pushforward.posterior.spaces.enumeration import (
    draw_discrete,
    enumerated,
    first_free_dim,
    marked,
)
from pushforward.posterior.spaces.preparation import (
    ExpandedObservations,
    FixedKeys,
    KeysAsked,
    Unobserved,
    check_sites,
    held_values,
    is_factor,
    latent_sites,
    prepared,
    traced,
)
from pushforward.printable import listed
from pushforward.user_warnings import warn


class NumpyroSpace(AbstractSpace):
    """The continuous latent sites of a NumPyro model; draws are dicts of them and the deterministic sites.

    Discrete latent sites are summed out. Build it with `trace`.

    Attributes:
        model: the model.
        args: the positional arguments of the model, as `bind` returns them.
        kwargs: the keyword arguments of the model, as `bind` returns them.
        held: the values of the model's param and mutable sites.
        names: the names of the continuous latent sites.
        discrete: the names of the discrete latent sites.
        first_free_dim: the first dimension, from the right, that no plate uses.
        hidden: the deterministic sites that depend on discrete latent sites; draws do not have them.
        plain: the latent sites as a space without the model's code; None if a support depends on another site, or, in a
            `ConditionalTarget`, on the data.
    """

    model: Callable = eqx.field(static=True)
    args: tuple
    kwargs: dict[str, Any]
    held: dict[str, Any]
    names: tuple[str, ...] = eqx.field(static=True)
    discrete: tuple[str, ...] = eqx.field(static=True)
    first_free_dim: int = eqx.field(static=True)
    hidden: frozenset[str] = eqx.field(static=True, default=frozenset())
    plain: SupportSpace | None = None

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
            ImportError: if the model has discrete latent sites and funsor is not installed.
            ValueError: if a discrete latent site cannot be summed out, or the support of another site depends on it; or
                if the model has subsampled plates or no continuous latent site.
        """
        keys = KeysAsked(model)
        sites = traced(keys, args, kwargs, seed=0)
        held = held_values(sites)
        latent, discrete = latent_sites(sites)
        check_sites(sites, latent, discrete)
        values = {name: site["value"] for name, site in latent.items()}
        first = first_free_dim(sites)

        def space(arguments: tuple[tuple, dict[str, Any]]) -> NumpyroSpace:
            return cls(model, *arguments, held, tuple(latent), tuple(discrete), first)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they came with the trace above
            example = space(bind((args, kwargs), lambda _: False)).unconstrain(values)

            def traceable(arguments: tuple[tuple, dict[str, Any]]) -> bool:
                try:
                    eqx.filter_eval_shape(lambda s, z: (s.log_density(z), s.constrain(z)), space(arguments), example)
                except Exception:  # whatever Python code does with a tracer instead of a value
                    return False
                return True

            bound = bind((args, kwargs), traceable)
            result = space(bound)
            result._check_supports(example)
            try:
                fixed = not dependent(result._supports, example)
            except Exception:  # JAX cannot trace the model at all, which a later error says better
                fixed = False
        supports = {name: site["fn"].support for name, site in latent.items()}
        plain = SupportSpace(None, supports, values) if fixed else None
        result = dataclasses.replace(result, hidden=result._depending_on_discrete(example), plain=plain)
        result._report_held(example)
        if keys.any:
            result._report_keys(example)
        return result, example

    @property
    def data(self):
        return self.args[0]

    def with_data(self, data):
        return eqx.tree_at(lambda s: s.args[0], self, data)

    @property
    def is_conditional(self) -> bool:
        """Whether the first argument can be replaced: JAX traces all of it."""
        return not has_constants(self.args[0])

    def for_all_data(self, z: dict[str, Array]) -> "NumpyroSpace":
        """The space without `plain` if the support of a site depends on the data.

        Args:
            z: unconstrained values.
        """
        moving = dependent(lambda data: self.with_data(data)._supports(z), self.data)
        return dataclasses.replace(self, plain=None) if moving else self

    def _arguments(self) -> tuple[tuple, dict[str, Any]]:
        return unbind(self.args), unbind(self.kwargs)

    def _plain_model(self, key: PRNGKeyArray | None = None) -> Callable:
        """The model for anything but its density; discrete latent sites, if there are any, are drawn from the prior."""
        model = prepared(self.model, self.held)
        return handlers.seed(marked(model), jr.key(0) if key is None else key) if self.discrete else model

    def _density_model(self) -> Callable:
        model = prepared(self.model, self.held)
        return enumerated(model, self.first_free_dim) if self.discrete else model

    def log_density(self, z):
        return -potential_energy(self._density_model(), *self._arguments(), z, enum=bool(self.discrete))

    def constrain(self, z):
        return self._constrain(z, None)

    def _constrain(self, z: dict[str, Array], key: PRNGKeyArray | None) -> dict[str, Array]:
        draw = constrain_fn(self._plain_model(key), *self._arguments(), z, return_deterministic=True)
        return {name: value for name, value in draw.items() if name not in self.hidden}

    def unconstrain(self, draw):
        return unconstrain_fn(self._plain_model(), *self._arguments(), self.latent(draw))

    def latent(self, draw):
        return {name: draw[name] for name in self.names}

    def log_volumes(self, z: dict[str, Array]) -> dict[str, Array]:
        """The log-volumes of which `log_volume` is the sum: one for each event of a latent site.

        Args:
            z: unconstrained values.
        """
        plain = SupportSpace(None, self._supports(z), z) if self.plain is None else self.plain
        return plain.log_volumes(z)

    def log_volume(self, z):
        return total(self.log_volumes(z))

    def sites(self, z: dict[str, Array], key: PRNGKeyArray | None = None) -> dict[str, Any]:
        """The sites of the model.

        Args:
            z: unconstrained values of the continuous latent sites.
            key: the key that draws the discrete ones; by default always the same.
        """
        model = handlers.substitute(self._plain_model(key), data=self.latent(self._constrain(z, key)))
        args, kwargs = self._arguments()
        return handlers.trace(model).get_trace(*args, **kwargs)

    def _supports(self, z: dict[str, Array], key: PRNGKeyArray | None = None) -> dict[str, dist.constraints.Constraint]:
        """The supports of the latent sites, of which some may depend on the values of other sites."""
        sites = self.sites(z, key)
        return {name: sites[name]["fn"].support for name in self.names}

    def _check_supports(self, z: dict[str, Array]) -> None:
        """Refuse supports that depend on discrete latent sites, that is, on the key that draws those."""
        names = dependent(lambda key: self._supports(z, key), jr.key(0)) if self.discrete else None
        if names:
            raise ValueError(
                f"the supports of the sites {', '.join(sorted(names))} depend on discrete latent sites, which are "
                "summed out: give these sites a support that does not depend on them, or marginalize."
            )

    def _depending_on_discrete(self, z: dict[str, Array]) -> frozenset[str]:
        """The deterministic sites that depend on discrete latent sites, that is, on the key that draws those."""
        if not self.discrete:
            return frozenset()
        names = dependent(lambda key: self._constrain(z, key), jr.key(0))
        if names:
            warn(
                f"the deterministic sites {', '.join(sorted(names))} depend on discrete latent sites, which are summed "
                "out; they are not part of the draws."
            )
        return names

    def _report_held(self, z: dict[str, Array]) -> None:
        """Warn about the parameters that matter and have no prior."""

        def outputs(held: dict[str, Any]) -> PyTree:
            space = eqx.tree_at(lambda s: s.held, self, eqx.combine(held, static), is_leaf=lambda n: n is self.held)
            return space.log_density(z), space.constrain(z)

        arrays, static = eqx.partition(self.held, eqx.is_array)
        if not jax.tree.leaves(arrays):
            return
        _, sources = dependence(outputs, arrays)
        used = frozenset().union(*sources)
        paths = [
            jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(arrays)
        ]
        named = [path for index, path in enumerate(paths) if index in used]
        if named:
            warn(
                f"the parameters {listed(named, 5)} of the model have no prior: they are held fixed at their initial "
                "values. Give them priors (numpyro.sample, or random_flax_module and its kin) to infer them."
            )

    def _report_keys(self, z: dict[str, Array]) -> None:
        """Warn if the model's own random numbers matter."""

        def outputs(key: PRNGKeyArray) -> PyTree:
            space = dataclasses.replace(self, model=FixedKeys(self.model, key))
            return space.log_density(z), space.constrain(z)

        if any(dependence(outputs, jr.key(0))[1]):
            warn(
                "the model draws random numbers with numpyro.prng_key: they are held fixed, in predictions too. Make "
                "them sites (numpyro.sample) to infer them."
            )

    def labels(self):
        """The plates name the axes."""
        dims = {}
        for name, site in traced(self._plain_model(), *self._arguments(), seed=0).items():
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

    def observed(self):
        return {
            name: site["value"]
            for name, site in traced(self._plain_model(), *self._arguments(), seed=0).items()
            if site["type"] == "sample" and site["is_observed"] and not is_factor(site)
        }

    def pointwise_log_likelihood(self, draw):
        if self.discrete:
            raise UnavailablePrediction(
                f"no pointwise log-likelihoods: the discrete latent sites {', '.join(self.discrete)} are summed out of "
                "the density of all observations together."
            )
        args, kwargs = self._arguments()
        model = handlers.substitute(self._plain_model(), data=self.latent(draw))
        sites = handlers.trace(model).get_trace(*args, **kwargs)
        return {name: sites[name]["fn"].log_prob(sites[name]["value"]) for name in self.observed()}

    def discrete_draws(self, draw, key):
        if not self.discrete:
            return {}
        model = handlers.substitute(prepared(self.model, self.held), data=self.latent(draw))
        return draw_discrete(model, self.discrete, key, *self._arguments())

    def replicate(self, draw, key):
        model = Unobserved(ExpandedObservations(prepared(self.model, self.held)))
        values = self.latent(draw) | self.discrete_draws(draw, key)
        seeded = handlers.seed(handlers.substitute(model, data=values), jr.fold_in(key, 1))
        args, kwargs = self._arguments()
        try:
            sites = handlers.trace(seeded).get_trace(*args, **kwargs)
        except (NotImplementedError, ImportError) as error:
            reason = f": {error}" if str(error) else ""
            raise UnavailablePrediction(
                f"no posterior predictive: NumPyro cannot sample a likelihood of the model{reason}"
            ) from error
        return {name: sites[name]["value"] for name in self.observed()}

    def detached(self):
        if self.plain is None:
            raise ValueError(
                "the support of a site of this model depends on another site, or on the data of a ConditionalTarget. "
                "So draws need the model's code, which a file does not hold; save draws instead (posterior.to_arviz())."
            )
        return self.plain
