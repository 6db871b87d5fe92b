"""Draws that somebody has, from a file, ArviZ or arrays, as unconstrained vectors of a target."""

import os
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pushforward.posterior.arviz import import_arviz
from pushforward.posterior.log_prob import in_support
from pushforward.posterior.search.survey import num_affordable_draws
from pushforward.posterior.target import Draw, Target
from pushforward.posterior.thinning import stride, thinned
from pushforward.reports.columns import named
from pushforward.training.compilation import jit_quick_compilation

MIN_GIVEN = 100
# More draws are thinned: they would say no more, because those of a chain are dependent.
MAX_GIVEN = 20_000
MIN_PER_CHAIN = 8
GROUP, AXES = "posterior", ("chain", "draw")


def given_draws(target: Target, draws: Any) -> Float[np.ndarray, "chains draws dim"]:
    """The unconstrained vectors of draws that were not made by a fit.

    Args:
        target: the target that they are draws of.
        draws: ArviZ's `InferenceData` or `DataTree` with a group "posterior", a dataset of xarray, the path of a NetCDF
            file of one of them; or a dict of arrays by the names of the sites, with the axes (chains, draws, *shape) or
            (draws, *shape). Names that the target does not have are ignored, such as those of deterministic sites.

    Raises:
        TypeError: if the draws are of another type.
        ValueError: if the file cannot be read; if a name is missing or a shape is another; if there are too few draws;
            or if a draw is NaN, outside of the support, or of density zero. The message names the site, and the place.
    """
    arrays = {_plain(name): value for name, value in _arrays(draws).items()}
    shape = _latent(target)
    shapes = {_plain(name): leaf.shape for name, leaf in named(shape).items()}
    if missing := [name for name in shapes if name not in arrays]:
        raise ValueError(
            f"draws has no {', '.join(missing)}; the target's sites are {', '.join(shapes)}, and draws has "
            f"{', '.join(arrays) or 'nothing'}."
        )
    values = _with_chains({name: _as_numbers(name, arrays[name]) for name in shapes}, shapes)
    for name, value in values.items():
        bad = np.argwhere(~np.isfinite(value))
        if len(bad):
            raise ValueError(f"draws of {name} hold NaN or infinite values, the first at {_place(bad[0])}.")
    num_chains, num = next(iter(values.values())).shape[:2]
    # Of short chains enough draws are left for R-hat.
    step = max(1, min(stride(num_chains * num, MAX_GIVEN), num // MIN_PER_CHAIN))
    values = {name: value[:, ::step] for name, value in values.items()}
    # Of the target's structure.
    tree = jax.tree.unflatten(jax.tree.structure(shape), values.values())
    flat = jax.tree.map(lambda a: jnp.asarray(a.reshape(-1, *a.shape[2:]), float), tree)
    inside, u = map(np.asarray, _unconstrained(target, flat))
    _check_all(inside, step, values, "outside of the support of the target, or at its boundary")
    if len(u) < MIN_GIVEN or len(np.unique(u, axis=0)) <= target.dim:
        raise ValueError(
            f"draws has {num_chains * num} draws, {len(np.unique(u, axis=0))} of them different, but at least "
            f"{MIN_GIVEN} are needed, and more different ones than the target has dimensions, {target.dim}."
        )
    checked = thinned(u, num_affordable_draws(target, len(u)))
    possible = np.isfinite(_log_densities(target, jnp.asarray(checked)))
    if not possible.all():
        raise ValueError(
            f"the log-density is not finite at {(~possible).sum()} of {len(checked)} draws: they are draws of another "
            "target, or of one with other data."
        )
    return u.reshape(num_chains, -1, target.dim)


def _latent(target: Target) -> Draw:
    """The shapes of the values of a draw that determine it, without deterministic sites."""
    draw = eqx.filter_eval_shape(lambda t: t.constrain(t.start), target)
    if not isinstance(draw, dict):
        return draw
    return {name: draw[name] for name in eqx.filter_eval_shape(target.space.latent, draw)}


def _plain(name: str) -> str:
    """The name as ArviZ's files have it: slashes denote groups there."""
    return str(name).replace("/", ".")


def _arrays(draws: Any) -> dict[str, Any]:
    """The arrays by name; those of ArviZ with the axes of chains and draws first."""
    if isinstance(draws, str | os.PathLike):
        draws = _read(os.fspath(draws))
    if isinstance(draws, np.ndarray | jax.Array):
        return {"x": draws}  # as a draw that is one array is called in files
    if not getattr(draws, "data_vars", None):  # else a dataset of xarray
        if not hasattr(draws, "groups"):
            if isinstance(draws, Mapping):
                return named(dict(draws))
            raise TypeError(
                "draws must be ArviZ's InferenceData or DataTree, the path of a NetCDF file, or a dict of arrays, but "
                f"is of type {type(draws).__name__}."
            )
        # A method of `InferenceData`, an attribute of `DataTree`.
        found: Any = draws.groups() if callable(draws.groups) else draws.groups
        groups = [name.strip("/") for name in found]
        if GROUP not in groups:
            raise ValueError(f"draws has no group {GROUP}; it has {', '.join(filter(None, groups)) or 'none'}.")
        draws = draws[GROUP]
    variables = {str(name): draws[name] for name in draws.data_vars}
    return {name: v.transpose(*AXES, ...).values for name, v in variables.items() if set(AXES) <= set(v.dims)}


def _read(path: str) -> Any:
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path} of draws.")
    arviz = import_arviz()
    try:
        return arviz.from_netcdf(path)
    except Exception as error:  # each backend has its own
        raise ValueError(f"{path} is not a NetCDF file of draws, as ArviZ writes it: {error}.") from None


def _as_numbers(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"draws of {name} must be real numbers, but have dtype {array.dtype}.")
    return array.astype(float)


def _with_chains(values: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays with axes (chains, draws, *shape), of the same numbers of chains and draws."""
    leading = {name: value.ndim - len(shapes[name]) for name, value in values.items()}
    for name, value in values.items():
        shape = shapes[name]
        if leading[name] not in (1, 2) or value.shape[leading[name] :] != shape:
            raise ValueError(
                f"draws of {name} must have the shape (chains, draws{_further(shape)}) or (draws{_further(shape)}), "
                f"but have shape {value.shape}."
            )
    found = {value.shape[: leading[name]] for name, value in values.items()}
    if len(found) > 1:
        each = ", ".join(f"{name}: {value.shape[: leading[name]]}" for name, value in values.items())
        raise ValueError(f"draws must have the same numbers of chains and draws for all sites, but have {each}.")
    return {name: value if leading[name] == 2 else value[None] for name, value in values.items()}


def _further(shape: tuple[int, ...]) -> str:
    return "".join(f", {size}" for size in shape)


def _place(index: np.ndarray) -> str:
    chain, draw, *rest = index.tolist()
    return f"chain {chain}, draw {draw}" + (f", entry {rest}" if rest else "")


def _check_all(inside: np.ndarray, step: int, values: dict[str, np.ndarray], problem: str) -> None:
    if inside.all():
        return
    first = int(np.argmin(inside))
    chain, draw = np.unravel_index(first, next(iter(values.values())).shape[:2])
    found = ", ".join(f"{name} = {_short(value[chain, draw])}" for name, value in values.items())
    raise ValueError(
        f"{(~inside).sum()} of {inside.size} draws are {problem}; the first is chain {chain}, draw {draw * step}: "
        f"{found}."
    )


def _short(value: np.ndarray) -> str:
    text = np.array2string(value, precision=4, threshold=8, edgeitems=3).replace("\n", "")
    return text if len(text) <= 80 else f"{text[:80]} ..."


@jit_quick_compilation
def _unconstrained(target: Target, draws: Draw) -> tuple[Any, Any]:
    return jax.vmap(lambda draw: (in_support(target, draw), target.unconstrain(draw)))(draws)


@jit_quick_compilation
def _log_densities(target: Target, u: Any) -> Any:
    return jax.lax.map(target, u, batch_size=256)
