"""NumPyro models with a subsampled plate: the plate's indices are the rows of a large data set.

The plate is replayed with any of its indices: with random ones in training, and with all of them, chunk by chunk, for
the density of all rows. The plate's factor size / subsample_size is left out of the log-likelihood of a row.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, PyTree
from numpyro import handlers
from numpyro.primitives import Messenger

from pushforward.posterior.spaces.arguments import has_constants, unbind
from pushforward.posterior.spaces.base import AbstractSpace
from pushforward.posterior.spaces.large import with_likelihood
from pushforward.posterior.spaces.numpyro import NumpyroSpace
from pushforward.posterior.spaces.preparation import prepared, traced
from pushforward.posterior.spaces.rows import RowsInMemory


class _AtIndices(Messenger):
    """Replays a plate with other indices."""

    def __init__(self, fn: Callable, plate: str, indices: Int[Array, " rows"]):
        self.plate, self.indices = plate, indices
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        if msg["type"] == "plate" and msg["name"] == self.plate:
            msg["value"], msg["args"] = self.indices, (len(self.indices), len(self.indices))


class _WithoutRows(Messenger):
    """Leaves out the likelihood and the deterministic sites inside a plate."""

    def __init__(self, fn: Callable, plate: str):
        self.plate = plate
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        if any(frame.name == self.plate for frame in msg.get("cond_indep_stack", ())):
            if msg["type"] == "deterministic":
                msg["stop"] = True
            elif msg["type"] == "sample" and msg["is_observed"]:
                msg["fn"] = msg["fn"].mask(False)


class _Prior:
    """The model without the likelihood of the rows."""

    def __init__(self, model: Callable, plate: str, size: int):
        self.model, self.plate, self.size = model, plate, size

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        indices = jnp.arange(self.size)
        return _WithoutRows(_AtIndices(self.model, self.plate, indices), self.plate)(*args, **kwargs)


class _RowsLikelihood(eqx.Module):
    """The log-likelihood of the rows of a plate."""

    model: Callable = eqx.field(static=True)
    plate: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    args: tuple
    kwargs: dict[str, Any]
    held: dict[str, Any]

    def __call__(self, draw: PyTree, indices: Int[Array, " rows"]) -> Float[Array, " rows"]:
        latent = {name: draw[name] for name in self.names}
        replayed = handlers.substitute(
            handlers.seed(_AtIndices(prepared(self.model, self.held), self.plate, indices), 0), data=latent
        )
        total = jnp.zeros(len(indices))
        args, kwargs = unbind(self.args), unbind(self.kwargs)
        for site in handlers.trace(replayed).get_trace(*args, **kwargs).values():
            if site["type"] != "sample" or not site["is_observed"]:
                continue
            for frame in site["cond_indep_stack"]:
                if frame.name == self.plate:
                    values = site["fn"].log_prob(site["value"])
                    # The scale of the site contains that of the plate.
                    values = values * (site["scale"] * len(indices) / self.size)
                    axes = tuple(axis for axis in range(-values.ndim, 0) if axis != frame.dim)
                    total = total + jnp.sum(values, axes)
        return total


def trace(model: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[AbstractSpace, PyTree]:
    """The space of a NumPyro model, with or without a subsampled plate, and unconstrained values of its latent sites.

    Args:
        model: a NumPyro model.
        args: the positional arguments of the model.
        kwargs: the keyword arguments of the model.

    Raises:
        ValueError: if the model has discrete latent sites or no latent site; if several plates are subsampled, or
            latent sites are inside a subsampled plate; or if the Python code of a model with a subsampled plate uses
            the values of its arguments.
    """
    sites = traced(model, args, kwargs, seed=0)
    plates = {
        n: s["args"] for n, s in sites.items() if s["type"] == "plate" and s["args"][1] not in (None, s["args"][0])
    }
    if not plates:
        return NumpyroSpace.trace(model, args, kwargs)
    if len(plates) > 1:
        raise ValueError(
            f"the plates {', '.join(plates)} are subsampled, but only one plate of a model can be: leave out "
            "subsample_size of the others."
        )
    ((plate, (size, subsample_size)),) = plates.items()
    _check_inside(sites, plate)
    prior, example = NumpyroSpace.trace(_Prior(model, plate, subsample_size), args, kwargs)
    if prior.discrete:
        raise ValueError(
            f"the latent sites {', '.join(prior.discrete)} are discrete, and cannot be summed out of a model with the "
            f"subsampled plate {plate}: leave out subsample_size, or marginalize them."
        )
    likelihood = _RowsLikelihood(model, plate, size, prior.names, prior.args, prior.kwargs, prior.held)
    draw = prior.constrain(example)
    if has_constants((prior.args, prior.kwargs)):
        try:
            eqx.filter_eval_shape(likelihood, draw, jnp.arange(subsample_size))
        except Exception as error:
            raise ValueError(
                "the model's Python code uses the values of its arguments (for example in an `if` or as a size), "
                f"so JAX cannot trace it for other rows of the plate {plate}; use jax.numpy.where, and take sizes from "
                "shapes."
            ) from error
    return with_likelihood(prior, likelihood, RowsInMemory(jnp.arange(size)), subsample_size, draw), example


def _check_inside(sites: dict, plate: str) -> None:
    inside = {n: s for n, s in sites.items() if any(f.name == plate for f in s.get("cond_indep_stack", ()))}
    samples = {n: s for n, s in inside.items() if s["type"] == "sample"}
    latent = [n for n, s in samples.items() if not s["is_observed"]]
    if latent:
        raise ValueError(
            f"the latent sites {', '.join(latent)} are inside the subsampled plate {plate}, so each batch has only "
            "some of them, but fit_posterior fits all: leave out subsample_size, or put them into a plate of their own "
            "that is not subsampled, and index them by row."
        )
    if not any(not isinstance(s["fn"], dist.Unit) or jnp.ndim(s["fn"].log_factor) for s in samples.values()):
        raise ValueError(f"the subsampled plate {plate} has no observed site with one value for each row.")
