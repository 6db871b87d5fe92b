"""NumPyro models as its samplers run them: fixed parameters and keys, observations as arrays."""

from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jaxtyping import PRNGKeyArray
from numpyro import handlers
from numpyro.infer import init_to_median, init_to_uniform
from numpyro.primitives import Messenger

from pushforward.masked import check_unmasked
from pushforward.posterior.spaces.arguments import ADVICE_ON_MASKS
from pushforward.posterior.spaces.enumeration import check_enumerable
from pushforward.printable import cause
from pushforward.user_warnings import warn

# Where a model is run to find its sites: first as NumPyro's samplers start, then nearer to 0, where fewer models fail.
NEAR = [init_to_uniform(radius=radius) for radius in (0.5, 0.1)]  # pyright: ignore[reportArgumentType]
# Errors that may come from values; all others are those of the code, wherever the model is run.
OF_VALUES = (RuntimeError, ArithmeticError, ValueError, AssertionError)
OF_CODE = (NotImplementedError, RecursionError)
STARTS = (*[init_to_uniform] * 4, *NEAR, *[init_to_median] * 2)


class FixedKeys(Messenger):
    """`numpyro.prng_key()` returns one fixed key, as in the density of NumPyro's samplers, in predictions too.

    Args:
        fn: the model.
        key: the key; by default `jax.random.key(0)`.
    """

    def __init__(self, fn: Callable, key: PRNGKeyArray | None = None):
        self.key = jr.key(0) if key is None else key
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Set the key.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "prng_key" and msg["value"] is None:
            msg["value"] = self.key


class KeysAsked(Messenger):
    """Notes whether a model calls `numpyro.prng_key()`.

    Args:
        fn: the model.

    Attributes:
        any: whether it has.
    """

    def __init__(self, fn: Callable):
        self.any = False
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Note a key.

        Args:
            msg: the message of a site.
        """
        self.any = self.any or msg["type"] == "prng_key"


class ObservedArrays(Messenger):
    """Observations become JAX arrays: NumPyro's checks of NumPy values and Python numbers fail at traced bounds."""

    def process_message(self, msg: Any) -> None:
        """Convert the value.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "sample" and msg["is_observed"] and not isinstance(msg["value"], jax.Array | type(None)):
            value = msg["value"]
            check_unmasked(f"the observation of the site {msg['name']}", value, ADVICE_ON_MASKS)
            msg["value"] = jnp.asarray(value if isinstance(value, int | float) else _numbers(msg["name"], value))


def _numbers(name: str, value: Any) -> np.ndarray:
    """An observation as an array of numbers; data frames and series know how to become NumPy arrays only."""
    array = np.asarray(value)
    if array.dtype == object and all(isinstance(entry, Real) for entry in array.flat):
        array = np.array(array.tolist())
        array = array.astype(float) if array.dtype == object else array  # fractions, and integers of many digits
    if array.dtype.kind in "OSUTMm":
        wrong = next((entry for entry in array.flat if not isinstance(entry, Real)), array)
        raise TypeError(
            f"the observation of the site {name} must be an array of numbers, but holds {str(wrong)!r}, which is a "
            f"{type(wrong).__name__}: convert text to the numbers of its categories, dates to days since a date, and "
            "leave out missing values."
        )
    return array


def bare(fn: Any) -> Any:
    """The distribution inside of masks, plates and `to_event`.

    Args:
        fn: a distribution.
    """
    while isinstance(fn, dist.MaskedDistribution | dist.ExpandedDistribution | dist.Independent):
        fn = fn.base_dist
    return fn


def is_factor(site: Any) -> bool:
    """Whether a site is a `numpyro.factor`, which has no observation.

    Args:
        site: a site.
    """
    return isinstance(bare(site["fn"]), dist.Unit)


class ExpandedObservations(Messenger):
    """Distributions of observed sites get the shape of the observations, so that there is a prediction for each."""

    def process_message(self, msg: Any) -> None:
        """Expand the distribution.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "sample" and msg["is_observed"] and not is_factor(msg):
            batch = _batch_shape(msg)
            if batch != tuple(msg["fn"].batch_shape):
                msg["fn"] = msg["fn"].expand(batch)


class Unobserved(Messenger):
    """Observed sites become latent, so that the handler of keys outside gives each its own.

    NumPyro's `uncondition` asks `numpyro.prng_key()` for their keys, which `FixedKeys` would answer.
    """

    def process_message(self, msg: Any) -> None:
        """Remove the observation.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "sample" and msg["is_observed"]:
            msg["is_observed"], msg["value"] = False, None


class CompletePlatesInLoops(Messenger):
    """Refuses subsampled plates inside `scan` and `cond`: outside, the choice of their rows is not seen."""

    def process_message(self, msg: Any) -> None:
        """Look into the functions of a loop or a condition.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "control_flow":
            msg["args"] = tuple(_CompletePlates(part) if callable(part) else part for part in msg["args"])


class _CompletePlates(Messenger):
    def process_message(self, msg: Any) -> None:
        if msg["type"] == "plate" and msg["args"][1] not in (None, msg["args"][0]):
            raise ValueError(
                f"the plate {msg['name']} is subsampled inside a scan or a cond, where it cannot be fitted by "
                "minibatches: leave out subsample_size."
            )


def prepared(model: Callable, held: dict[str, Any]) -> Callable:
    """The model as the density and the predictions run it.

    Args:
        model: a NumPyro model.
        held: the values of its param and mutable sites.
    """
    return ObservedArrays(FixedKeys(handlers.substitute(model, data=held)))


def traced(model: Callable, args: tuple, kwargs: dict[str, Any], seed: int) -> dict:
    """The sites of a model at random values of the latent ones, at which it raises no error.

    A model may raise errors at some values only, as solvers of differential equations do. So several values are tried.

    Args:
        model: a NumPyro model.
        args: its positional arguments.
        kwargs: its keyword arguments.
        seed: the seed.

    Raises:
        ValueError: if a plate inside a loop is subsampled, or if the model raises runtime errors at all values.
        Exception: an error of the model's code, at once if it cannot come from the values.
    """
    checked = CompletePlatesInLoops(ObservedArrays(model))
    errors = []
    for attempt, values in enumerate(STARTS):
        # Other values for each attempt, and for the attempts with another seed.
        seeded = handlers.seed(checked, seed if attempt == 0 else jr.fold_in(jr.key(seed), attempt))
        try:
            return handlers.trace(handlers.substitute(seeded, substitute_fn=values)).get_trace(*args, **kwargs)
        except OF_CODE:
            raise
        except OF_VALUES as error:
            errors.append(error)
    first, last = errors[0], errors[-1]
    if not isinstance(last, RuntimeError | ArithmeticError):
        raise first  # an error of the model's code, which does not depend on the values
    raise ValueError(
        f"the model raises an error at all of {len(STARTS)} random values of its latent sites, around 0 in "
        f"unconstrained coordinates and at medians of the prior: {cause(last)} Check the model there, or let it return "
        "values instead of an error, such as the argument throw=False of a solver."
    ) from last


def held_values(sites: dict) -> dict[str, Any]:
    """The values of the param and mutable sites, which stay fixed, as in NumPyro's samplers.

    Args:
        sites: the sites of a model.
    """
    held = {name: site["value"] for name, site in sites.items() if site["type"] in ("param", "mutable")}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, float | np.ndarray) else leaf, held)


def latent_sites(sites: dict) -> tuple[dict, dict]:
    """The continuous and the discrete latent sites of a model.

    Args:
        sites: the sites of the model.
    """
    latent = {n: site for n, site in sites.items() if site["type"] == "sample" and not site["is_observed"]}
    discrete = {name: site for name, site in latent.items() if site["fn"].support.is_discrete}
    return {name: site for name, site in latent.items() if name not in discrete}, discrete


def check_sites(sites: dict, continuous: dict, discrete: dict) -> None:
    """Check that a model can be fitted.

    Args:
        sites: the sites of the model.
        continuous: its continuous latent sites.
        discrete: its discrete latent sites.

    Raises:
        ImportError: if the model has discrete latent sites and funsor is not installed.
        ValueError: if there is a discrete site that cannot be summed out, a site of a single value or of NumPyro's
            `CircularReparam`, a subsampled plate, no continuous latent site, or, with discrete sites, a missing plate.
    """
    check_enumerable(discrete)
    points = [name for name, site in continuous.items() if isinstance(bare(site["fn"]), dist.Delta)]
    if points:
        raise ValueError(f"the latent sites {', '.join(points)} are dist.Delta; use numpyro.deterministic for them.")
    # The sites that numpyro's CircularReparam makes, of which one is an improper angle.
    stems = [
        name.removesuffix("_unwrapped")
        for name, site in continuous.items()
        if name.endswith("_unwrapped") and isinstance(bare(site["fn"]), dist.ImproperUniform)
    ]
    circular = [stem for stem in stems if f"{stem}_factor" in sites]
    if circular:
        raise ValueError(
            f"the sites {', '.join(circular)} have numpyro's CircularReparam, with which an angle runs around the "
            "circle again and again, so that the density has no integral: leave it out."
        )
    subsampled = [
        name
        for name, site in sites.items()
        if site["type"] == "plate" and site["args"][1] not in (None, site["args"][0])
    ]
    if subsampled:
        raise ValueError(f"the plates {', '.join(subsampled)} are subsampled; fit_posterior needs the full density.")
    if not continuous:
        reason = f"all of its latent sites are discrete: {', '.join(discrete)}" if discrete else "all of it is observed"
        raise ValueError(f"the model has no continuous latent site, so there is nothing to infer; {reason}.")
    _check_plates(sites, bool(discrete))


def _check_plates(sites: dict, enumerated: bool) -> None:
    """NumPyro's check: dimensions without a plate are a warning next to plates, an error if sites are enumerated."""
    for name, site in sites.items():
        if site["type"] != "sample":
            continue
        batch = _batch_shape(site)
        plates = {frame.dim for frame in site["cond_indep_stack"]}
        over_time = {-len(batch)} if site.get("_control_flow_done") else set()
        missing = [d for d in range(-len(batch), 0) if batch[d] > 1 and d not in plates | over_time]
        if missing and enumerated:
            raise ValueError(
                f"the site {name} of batch shape {batch} has no plate for its dimensions {missing}; sums over discrete "
                "latent sites need a numpyro.plate for each dimension."
            )
        if missing and plates:
            warn(f"missing a plate statement for the batch dimensions {missing} of shape {batch} at the site {name}.")


def _batch_shape(site: Any) -> tuple[int, ...]:
    """The shape of a site's independent events, broadcast to its value."""
    shape = jnp.shape(site["value"])
    return lax.broadcast_shapes(tuple(site["fn"].batch_shape), shape[: len(shape) - site["fn"].event_dim])
