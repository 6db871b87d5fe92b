"""PyMC models as spaces: the unconstrained density is the one that PyMC's own samplers use, compiled by JAX."""

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PyTree

from pushforward.posterior.spaces.base import AbstractSpace, Draw, Labels, SupportSpace, UnavailablePrediction
from pushforward.posterior.spaces.large import with_likelihood
from pushforward.posterior.spaces.minibatch import ancestors, likelihood, minibatched
from pushforward.posterior.spaces.pymc_preparation import check_not_random, prepared
from pushforward.posterior.spaces.rows import RowNumbers


class PymcSpace(AbstractSpace):
    """The free random variables of a PyMC model; draws are dicts of its free and deterministic variables.

    Build it with `compile`.
    """

    # Static and one object for each model, so that programs are compiled once for each model.
    model: "_Compiled" = eqx.field(static=True)

    @property
    def description(self):
        return "a PyMC model"

    @classmethod
    def compile(cls, model: Any) -> tuple[AbstractSpace, PyTree]:
        """The space, with large data if the model has a minibatch, and PyMC's initial point.

        Args:
            model: a PyMC model.

        Raises:
            ImportError: if PyMC is not installed.
            TypeError: if `model` is not a `pymc.Model`.
            ValueError: if the model has discrete free variables, no free variable, a random density, a prior that PyMC
                cannot sample, an operation without a version in JAX, or a minibatch whose rows cannot be found.
        """
        model = prepared(model)
        compiled = _Compiled(model)
        values = dict(zip(compiled.free, compiled.start, strict=True))
        space, example = cls(compiled), {name: jnp.asarray(value, dtype=float) for name, value in values.items()}
        if not compiled.minibatched:
            return space, example
        of_rows = likelihood(model, space.values, compiled.minibatched, _compiled)
        draw = space.constrain(example)
        return with_likelihood(space, of_rows, RowNumbers(of_rows.num_rows), of_rows.batch_size, draw), example

    def _values(self, z):
        return [z[name] for name in self.model.free]

    def log_density(self, z):
        return self.model.log_density(*self._values(z))[0]

    def constrain(self, z):
        return dict(zip(self.model.drawn, self.model.constrain(*self._values(z)), strict=True))

    def unconstrain(self, draw):
        return dict(zip(self.model.free, self.values(draw), strict=True))

    def values(self, draw: Draw) -> list[Array]:
        """The unconstrained values of a draw, in the order of PyMC's free variables.

        Args:
            draw: a draw.
        """
        return list(self.model.unconstrain(*self._values(draw)))

    def latent(self, draw):
        return {name: draw[name] for name in self.model.free}

    def log_volume(self, z):
        return jnp.asarray(self.model.log_volume(*self._values(z))[0])  # a number if there is no transform

    def labels(self):
        return self.model.labels

    def observed(self):
        return self.model.observed

    def pointwise_log_likelihood(self, draw):
        if not self.model.observed_variables:
            return super().pointwise_log_likelihood(draw)
        return dict(zip(self.model.observed_variables, self.model.log_likelihoods(*self.values(draw)), strict=True))

    def replicate(self, draw, key):
        if not self.model.observed_variables:
            return super().replicate(draw, key)
        raise UnavailablePrediction(
            "no posterior predictive: PyMC draws it, by pymc.sample_posterior_predictive(posterior.to_arviz(), model)."
        )

    def detached(self):
        unsaveable = [name for name, constraint in self.model.constraints.items() if constraint is None]
        if unsaveable:
            raise ValueError(
                f"the supports of {', '.join(unsaveable)} depend on other variables, or have transforms that cannot be "
                "saved without the model's code; save draws instead (posterior.to_arviz())."
            )
        return SupportSpace(None, self.model.constraints, dict.fromkeys(self.model.free, 0.0))


class _Compiled:
    """The graphs of a model as functions of JAX arrays: one array for each free variable, in the order of `free`.

    All of them have the data that the model has now: `pm.set_data` does not change them.

    The densities are those without the observed variables that depend on a minibatch, and the draws those without the
    deterministic variables that do.
    """

    def __init__(self, model: Any):
        from pytensor.graph.replace import graph_replace
        from pytensor.tensor.basic import as_tensor_variable

        _register_erfcx()
        self.minibatched = minibatched(model)
        nodes = set(self.minibatched.values())
        drawn = [v for v in model.deterministics if nodes.isdisjoint(a.owner for a in ancestors([v]))]
        drawn = [*model.free_RVs, *drawn]
        check_not_random(model, [*model.potentials, *drawn])
        self.free = tuple(rv.name for rv in model.free_RVs)
        self.drawn = tuple(v.name for v in drawn)
        start = model.initial_point()
        values = [model.rvs_to_values[rv] for rv in model.free_RVs]
        # PyMC's first value of an angle is its mean, which may lie outside of the interval of angles.
        self.start = [np.nan_to_num(start[value.name], posinf=0.0, neginf=0.0) for value in values]
        # JAX needs the shapes before it runs.
        sized = [v.type.clone(shape=array.shape)() for v, array in zip(values, self.start, strict=True)]
        self._sized = [*zip(values, sized, strict=True)]
        summed = [v for v in (*model.basic_RVs, *model.potentials) if v not in self.minibatched]
        transforms = {rv: model.rvs_to_transforms[rv] for rv in model.free_RVs}
        draws = {rv: rv.type() for rv in transforms}
        inverse: Any = [t.forward(draws[rv], *rv.owner.inputs) if t else draws[rv] for rv, t in transforms.items()]
        volumes: Any = [t.log_jac_det(model.rvs_to_values[rv], *rv.owner.inputs) for rv, t in transforms.items() if t]
        log_volume: Any = sum((volume.sum() for volume in volumes), as_tensor_variable(0.0))
        self.log_density = self._compiled([model.logp(summed)])
        self.log_volume = self._compiled(model.replace_rvs_by_values([log_volume]))
        self.constrain = self._compiled(model.replace_rvs_by_values(drawn))
        inverse = graph_replace(inverse, [*draws.items()], strict=False)
        self.unconstrain = _compiled([*draws.values()], inverse)
        coords = {name: list(values) for name, values in model.coords.items() if values is not None}
        self.labels = Labels(coords, {name: list(dims) for name, dims in model.named_vars_to_dims.items()})
        observed = [rv for rv in model.observed_RVs if rv not in self.minibatched]
        data = _with_constants([model.rvs_to_values[rv] for rv in observed])
        self.observed_variables = dict(zip([rv.name for rv in observed], data, strict=True))
        self._log_likelihoods = _with_constants(model.logp(observed, sum=False)) if observed else []
        self.constraints = {rv.name: _constraint(t, rv) for rv, t in transforms.items()}

    @functools.cached_property
    def observed(self) -> dict[str, np.ndarray]:
        """The observations."""
        return {name: _value(variable) for name, variable in self.observed_variables.items()}

    @functools.cached_property
    def log_likelihoods(self) -> Any:
        """The function that computes the log-likelihood of each observation; compiled when it is used."""
        with jax.ensure_compile_time_eval():  # its constants are kept, so they may not belong to a program
            return self._compiled(self._log_likelihoods)

    def _compiled(self, outputs: Any) -> Any:
        """The function of the unconstrained values."""
        from pytensor.graph.replace import graph_replace

        return _compiled([v for _, v in self._sized], graph_replace(outputs, self._sized, strict=False))


def _with_constants(graphs: Any) -> Any:
    """The graphs with constants for shared variables such as `pm.Data`, whose values may change later."""
    from pytensor.compile.sharedvalue import SharedVariable
    from pytensor.graph.replace import graph_replace
    from pytensor.tensor.basic import as_tensor_variable

    shared = [v for v in ancestors(graphs) if isinstance(v, SharedVariable)]
    return graph_replace(graphs, [(v, as_tensor_variable(v.get_value())) for v in shared], strict=False)


def _value(variable: Any) -> np.ndarray:
    """The value of a constant, or of a function of constants."""
    return np.asarray(variable.data if hasattr(variable, "data") else variable.eval())


def _compiled(inputs: Any, outputs: Any) -> Any:
    """A graph as a function of JAX arrays, or an error that names the operation that JAX lacks."""
    with _unchanged_xla_flags():
        from pymc.sampling.jax import get_jaxified_graph
    try:
        return get_jaxified_graph(inputs, outputs)
    except NotImplementedError as error:
        raise ValueError(
            f"an operation of the model has no version in JAX ({error}). Write it with PyTensor: JAX cannot "
            "compile functions of NumPy."
        ) from error


@contextlib.contextmanager
def _unchanged_xla_flags() -> Iterator[None]:
    """When it is imported, PyMC's sampling for JAX asks for 100 devices, in this process and in those it starts."""
    before = os.environ.get("XLA_FLAGS")
    try:
        yield
    finally:
        os.environ.pop("XLA_FLAGS", None)
        if before is not None:
            os.environ["XLA_FLAGS"] = before


def _register_erfcx() -> None:
    """Censored normal variables need erfcx, which PyTensor takes from TensorFlow Probability if that is installed."""
    from pytensor.link.jax.dispatch.basic import jax_funcify
    from pytensor.scalar.math import Erfcx

    jax_funcify.register(Erfcx)(lambda op, **kwargs: erfcx)  # pyright: ignore[reportArgumentType]


def erfcx(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$e^{x^2} \mathrm{erfc}(x)$, by its asymptotic series where the factors overflow and underflow.

    JAX's function of this name is zero in a narrow range near 26.5.

    Args:
        x: the arguments.
    """
    large = x > 9
    small, big = jnp.where(large, 0.0, x), jnp.where(large, x, 10.0)
    series = jnp.ones_like(big)
    for n in range(12, 0, -1):
        series = 1 - (2 * n - 1) / (2 * big**2) * series
    return jnp.where(large, series / (big * np.sqrt(np.pi)), jnp.exp(small**2) * jax.scipy.special.erfc(small))


def _constraint(transform: Any, variable: Any) -> dist.constraints.Constraint | None:
    """The NumPyro constraint with the same transform as in PyMC, or None."""
    from pymc.distributions import transforms
    from pymc.logprob.transforms import IntervalTransform

    if transform is None:
        return dist.constraints.real
    if isinstance(transform, transforms.LogTransform):
        return dist.constraints.positive
    if isinstance(transform, transforms.LogOddsTransform):
        return dist.constraints.unit_interval
    if isinstance(transform, transforms.Ordered) and transform.ascending and not transform.positive:
        return dist.constraints.ordered_vector
    if isinstance(transform, IntervalTransform):
        return _interval(*transform.args_fn(*variable.owner.inputs))
    return None


def _interval(*ends: Any) -> dist.constraints.Constraint | None:
    from pymc.exceptions import NotConstantValueError
    from pymc.pytensorf import constant_fold
    from pytensor.tensor.basic import as_tensor_variable

    try:
        values = [None if e is None else np.asarray(constant_fold([as_tensor_variable(e)])[0], float) for e in ends]
    except NotConstantValueError:
        return None
    lower, upper = (None if e is None or np.isinf(e).all() else e for e in values)
    if any(e is not None and np.isinf(e).any() for e in (lower, upper)):
        return None
    if lower is not None and upper is not None:
        return dist.constraints.interval(lower, upper)
    if lower is not None:
        return dist.constraints.greater_than(lower)
    return dist.constraints.real if upper is None else dist.constraints.less_than(upper)
