"""Discrete latent sites of NumPyro models: summed out of the density by funsor, and drawn afterwards."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import Predictive

from pushforward.posterior.spaces.base import UnavailablePrediction


def check_enumerable(discrete: dict[str, Any]) -> None:
    """Check that discrete latent sites can be summed out.

    Args:
        discrete: the sites.

    Raises:
        ImportError: if funsor is not installed.
        ValueError: if a site has a support that is infinite or that NumPyro cannot enumerate, or another mark than
            `infer={"enumerate": "parallel"}`.
    """
    infinite = [name for name, site in discrete.items() if not site["fn"].has_enumerate_support]
    partly = [name.removesuffix("_unobserved") for name in infinite if name.endswith("_unobserved")]
    if partly:
        raise ValueError(
            f"the sites {', '.join(partly)} with obs_mask are discrete and cannot be enumerated: leave out the entries "
            "that are not observed, for example by obs=y[mask] and a plate of their number."
        )
    if infinite:
        raise ValueError(
            f"the latent sites {', '.join(infinite)} are discrete and cannot be enumerated: marginalize them (for "
            "example, a Poisson rate with a Gamma prior is a numpyro.distributions.GammaPoisson), or observe them."
        )
    for name, site in discrete.items():
        try:
            site["fn"].enumerate_support(expand=False)
        except NotImplementedError as error:
            reason = f": {error}" if str(error) else ""
            how = (
                "use a numpyro.plate instead of to_event, or marginalize it"
                if site["fn"].event_dim
                else "marginalize it"
            )
            raise ValueError(f"NumPyro cannot enumerate the discrete latent site {name}{reason}; {how}.") from error
    marks = {name: site["infer"].get("enumerate") for name, site in discrete.items()}
    others = [name for name, mark in marks.items() if mark not in (None, "parallel")]
    if others:
        raise ValueError(
            f'the discrete latent sites {", ".join(others)} must be marked infer={{"enumerate": "parallel"}}, but are '
            f"marked {marks[others[0]]!r}."
        )
    if discrete:
        try:
            import funsor  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"the latent sites {', '.join(discrete)} are discrete, and NumPyro needs funsor to sum over them: "
                "pip install 'pushforward[discrete]'. Otherwise marginalize them (mixtures: "
                "numpyro.distributions.MixtureSameFamily), or observe them."
            ) from error


def first_free_dim(sites: dict[str, Any]) -> int:
    """The first dimension, from the right, that no plate of a model uses.

    Args:
        sites: the sites of the model.
    """
    frames = [frame for site in sites.values() if site["type"] == "sample" for frame in site["cond_indep_stack"]]
    return min((frame.dim for frame in frames if frame.dim is not None), default=0) - 1


def marked(model: Callable) -> Callable:
    """The model with all discrete latent sites marked for enumeration.

    Args:
        model: a NumPyro model.
    """
    from numpyro.contrib.funsor import config_enumerate

    return config_enumerate(model)


def enumerated(model: Callable, first: int) -> Callable:
    """The model with the values of each discrete latent site along an axis.

    Args:
        model: a NumPyro model.
        first: the first dimension that no plate uses.
    """
    from numpyro.contrib.funsor import enum

    return enum(marked(model), first_available_dim=first)


def draw_discrete(
    model: Callable, names: tuple[str, ...], key: PRNGKeyArray, args: tuple, kwargs: dict[str, Any]
) -> dict[str, Array]:
    """Discrete latent sites drawn given all others and the observations.

    Args:
        model: a NumPyro model whose other latent sites have values.
        names: the names of the discrete latent sites.
        key: the key.
        args: the positional arguments of the model.
        kwargs: the keyword arguments of the model.

    Raises:
        UnavailablePrediction: if funsor cannot draw them.
    """
    predictive = Predictive(model, {}, num_samples=1, infer_discrete=True, return_sites=list(names))
    try:
        return {name: value[0] for name, value in predictive(key, *args, **kwargs).items()}
    except (AssertionError, NotImplementedError, ValueError) as error:
        raise UnavailablePrediction(
            f"no draws of the discrete latent sites {', '.join(names)}, and no posterior predictive: funsor cannot "
            f"draw them in this model ({type(error).__name__}: {error})."
        ) from error
