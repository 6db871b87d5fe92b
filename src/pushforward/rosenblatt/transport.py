r"""The universality theorem as code: the Rosenblatt map of a distribution, and the transport between any two.

Any positive density has a triangular map $F$ to the uniform density on the cube, $u_i = P(x'_i \le x_i \mid x_{<i})$.
If $G$ is this map for the base and $F$ for the target, $T = F^{-1} \circ G$ maps the base exactly to the target.

References:
    Papamakarios et al., Normalizing Flows for Probabilistic Modeling and Inference (2021), section 2.2.
    https://arxiv.org/abs/1912.02762
    Knothe, Contributions to the Theory of Convex Bodies (1957); Rosenblatt (1952).
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array

from pushforward.arguments import MAX_COUNT, Range, checked
from pushforward.bijections import (
    AbstractBijection,
    Chain,
    Elementwise,
    Frozen,
    Invert,
    Sigmoid,
    num_parameters,
    shift_arrays,
)
from pushforward.bijections.arrays import ArrayLike
from pushforward.bijections.wrappers import AbstractStandIn
from pushforward.flow import Flow, Learnable, rebuild
from pushforward.rosenblatt.base import AbstractRosenblatt
from pushforward.rosenblatt.conditionals import ConditionalRosenblatt
from pushforward.rosenblatt.mixture import GaussianMixtureRosenblatt
from pushforward.rosenblatt.quadrature import QuadratureRosenblatt

# Anything that has a Rosenblatt map, see `rosenblatt`.
Source = Any
Box = tuple[ArrayLike, ArrayLike]

# The number of points and parameters at which a flow is checked to be triangular.
PROBES = 4


class Rosenblatt(AbstractStandIn):
    r"""$u_i = P(x'_i \le x_i \mid x'_{<i} = x_{<i})$, from a density's support onto the open cube; $\det J = p(x)$.

    Args:
        to_logits: the bijection $x \mapsto \operatorname{logit} u$ onto $\mathbb R^d$: a Rosenblatt map, or a chain
            that ends in one. Unlike the map onto the cube, it keeps all digits in the tails.
    """

    to_logits: AbstractBijection

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a map of version 0.1.0, where `to_logits` had another name.

        Args:
            fields: the fields in the file.
        """
        return {"to_logits" if name == "to_line" else name: value for name, value in fields.items()}

    @property
    def bijection(self) -> Chain:
        """`to_logits`, then a sigmoid in each coordinate."""
        return Chain([self.to_logits, Elementwise(Sigmoid(), self.to_logits.shape[0])])


@checked(tolerance=Range(0, 1, open=True), order=Range(2, MAX_COUNT))
def rosenblatt(
    source: Source, *, box: Box | None = None, tolerance: float | None = None, order: int | None = None
) -> Rosenblatt:
    r"""The Rosenblatt map of a distribution: $u_i = P(x'_i \le x_i \mid x'_{<i} = x_{<i})$, with $\det J = p(x)$.

    Args:
        source: one of

            - a NumPyro distribution over arrays of shape (dim,): a Gaussian or a Gaussian mixture in any dimension, or
              independent coordinates that have CDFs; a `Learnable` one is used at its current parameters;
            - a sequence of functions; function i maps the coordinates before i, an array (i,), to the NumPyro
              distribution of coordinate i;
            - a triangular `Flow`: coordinate i of x increases with coordinate i of u and does not depend on later
              ones, as in one or more `MaskedAutoregressive` without permutations between them;
            - a log-density up to a constant, a function of an array (dim,) in one to three dimensions, with a `box`.
        box: the lower and upper ends of the box of a log-density, each of shape (dim,). Outside, the density is taken
            to be 0.
        tolerance: the tolerance for a log-density, see `QuadratureRosenblatt`.
        order: the number of nodes per panel for a log-density, see `QuadratureRosenblatt`.

    Returns:
        A bijection x -> u. Only the parameters of a flow can be trained. `to_logits` is the bijection x -> logit u; for
        a log-density it has the attributes `log_normalizer`, `error` and `edge_density`. To train a Gaussian mixture,
        use `GaussianMixtureRosenblatt`. Values that functions close over get no gradients.

    Raises:
        ValueError: if the source has no such map, or if a density is not positive, not finite or not integrable on the
            box.

    References:
        Papamakarios et al. (2021), section 2.2.
    """
    return Rosenblatt(_to_logits(source, _options(box, tolerance, order, [source])))  # pyright: ignore[reportCallIssue]


@checked(tolerance=Range(0, 1, open=True), order=Range(2, MAX_COUNT))
def transport(
    base: Source,
    target: Source,
    *,
    box: Box | None = None,
    tolerance: float | None = None,
    order: int | None = None,
) -> Chain:
    r"""The Knothe-Rosenblatt rearrangement $T = F^{-1} \circ G$, which maps `base` exactly to `target`.

    It is the only triangular and increasing map that does so. `Flow(base, transport(base, target))` has the target's
    density. It uses logits of CDFs, so it is precise even in tails where CDFs round to 1.

    Args:
        base: a source for `rosenblatt`, or the result of `rosenblatt`.
        target: a source for `rosenblatt`, or its result, of the same shape.
        box: the box of log-densities, used for each of the two that is a log-density.
        tolerance: the tolerance for log-densities, see `QuadratureRosenblatt`.
        order: the number of nodes per panel for log-densities, see `QuadratureRosenblatt`.

    Raises:
        ValueError: if the shapes differ; also as in `rosenblatt`.
    """
    options = _options(box, tolerance, order, [base, target])
    start, end = (_to_logits(source, options) for source in (base, target))
    if start.shape != end.shape:
        raise ValueError(f"base and target must have the same shape, but have {start.shape} and {end.shape}.")
    return Chain([start, Invert(end)])


def _is_density(source: Source) -> bool:
    known = (AbstractBijection, Learnable, Flow, dist.Distribution, Sequence)
    return callable(source) and not isinstance(source, known)


def _options(box: Box | None, tolerance: float | None, order: int | None, sources: list[Source]) -> dict[str, Any]:
    """The options of `QuadratureRosenblatt`; raise if there are options but no log-density."""
    if not any(map(_is_density, sources)):
        if any(option is not None for option in (box, tolerance, order)):
            raise ValueError("box, tolerance and order need a log-density, but no source is a log-density.")
        return {}
    if box is None or len(box) != 2:
        raise ValueError(f"a log-density needs a box for its integrals, box=(lower, upper), but got box={box}.")
    return {"lower": box[0], "upper": box[1], "tolerance": tolerance, "order": order}


def _to_logits(source: Source, options: dict[str, Any]) -> AbstractBijection:
    if isinstance(source, Rosenblatt):
        return source.to_logits
    if isinstance(source, AbstractRosenblatt):
        return source
    if isinstance(source, Learnable):
        source = source.distribution
    if isinstance(source, Flow):
        _check_triangular(source)
        return Chain([Invert(source.bijection), _to_logits(source.base, {})])
    if isinstance(source, dist.Distribution):
        return _map_of_distribution(source)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return ConditionalRosenblatt(source)
    if isinstance(source, str | bytes) or not _is_density(source):
        raise ValueError(
            "the source of a Rosenblatt map must be a NumPyro distribution, a sequence of conditionals, a triangular "
            f"flow or a log-density, but is {type(source).__name__}."
        )
    return QuadratureRosenblatt(source, **options)


def _map_of_distribution(d: dist.Distribution) -> AbstractBijection:
    if len(d.event_shape) != 1 or d.batch_shape:
        raise ValueError(
            f"a distribution must have an event shape (dim,) and no batch shape, but has event shape {d.event_shape} "
            f"and batch shape {d.batch_shape}; .expand([dim]).to_event(1) gives independent coordinates."
        )
    gaussians = _gaussians(d)
    if gaussians is not None:
        return Frozen(GaussianMixtureRosenblatt(*gaussians))
    size, one = d.event_shape[0], _unwrapped(d)
    if one.event_shape:
        raise ValueError(
            f"the library has no conditional CDFs for {type(d).__name__}; give a sequence of conditionals, or its "
            "log_prob and a box."
        )
    try:
        return ConditionalRosenblatt([_Coordinate(one, i, size) for i in range(size)])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the coordinates of {type(one).__name__} cannot be separated or have no CDF ({error}); give a sequence "
            "of conditionals, or its log_prob and a box."
        ) from error


def _unwrapped(d: dist.Distribution) -> dist.Distribution:
    """The distribution without `Independent` and `ExpandedDistribution` around it."""
    while isinstance(d, (dist.Independent, dist.ExpandedDistribution)):
        d = d.base_dist
    return d


class _Coordinate(eqx.Module):
    """One of several independent coordinates, as a conditional."""

    distribution: dist.Distribution
    index: int = eqx.field(static=True)
    size: int = eqx.field(static=True)

    def __call__(self, before: Array) -> dist.Distribution:
        return rebuild(self.distribution, lambda path, value, _: jnp.broadcast_to(value, (self.size,))[self.index])


def _gaussians(d: Any) -> tuple[Array, Array, Array] | None:
    """Weights, means and Cholesky factors, if it is a Gaussian or a Gaussian mixture; otherwise None."""
    if isinstance(d, dist.MixtureSameFamily):
        parts, weights = [d.component_distribution], d.mixing_distribution.probs
    elif isinstance(d, dist.MixtureGeneral):
        parts, weights = d.component_distributions, d.mixing_distribution.probs
    else:
        parts, weights = [d], jnp.ones(1)
    moments = [_moments(part) for part in parts]
    if any(m is None for m in moments):
        return None
    locs, factors = (jnp.concatenate([m[i] for m in moments if m is not None]) for i in range(2))
    weights = jnp.broadcast_to(jnp.asarray(weights), locs.shape[:1])
    # Components with weight 0 are dropped.
    return weights[weights > 0], locs[weights > 0], factors[weights > 0]


def _moments(d: Any) -> tuple[Array, Array] | None:
    """Means and Cholesky factors of a batch of Gaussians; None for other distributions."""
    shape = (*(d.batch_shape or (1,)), *d.event_shape)
    one: Any = _unwrapped(d)
    size = d.event_shape[-1]
    kind = type(one)
    if issubclass(kind, dist.Normal):
        scales = jnp.broadcast_to(one.scale, shape)
        return jnp.broadcast_to(one.loc, shape), scales[..., None] * jnp.eye(size)
    if issubclass(kind, dist.MultivariateNormal):
        return jnp.broadcast_to(one.loc, shape), jnp.broadcast_to(one.scale_tril, (*shape, size))
    if issubclass(kind, dist.LowRankMultivariateNormal):
        return jnp.broadcast_to(one.loc, shape), jnp.linalg.cholesky(
            jnp.broadcast_to(one.covariance_matrix, (*shape, size))
        )
    return None


def _check_triangular(flow: Flow) -> None:
    """Raise unless x_i depends only on u_1, ..., u_i and increases with u_i, at the given and at other parameters."""
    if len(flow.shape) != 1 or flow.cond_shape is not None:
        raise ValueError(
            f"a flow with a Rosenblatt map must have shape (dim,) and no condition, but this one has shape "
            f"{flow.shape} and cond_shape {flow.cond_shape}."
        )
    points = flow.base_distribution.sample(jr.key(0), (PROBES,))
    moves = 0.3 * jr.normal(jr.key(1), (PROBES, num_parameters(flow.bijection))) * (jnp.arange(PROBES) > 0)[:, None]

    def jacobian(move, u):
        return jax.jacfwd(shift_arrays(flow.bijection, move).forward)(u)

    found = np.asarray(jax.vmap(jacobian)(moves, points))
    if not np.isfinite(found).all():
        raise ValueError("the flow's Jacobian is not finite at draws of its base.")
    above = np.argwhere(np.abs(np.triu(found, 1)).max(0) > 0)
    if above.size:
        i, j = above[0]
        raise ValueError(
            f"the flow is not triangular: coordinate {i} of x depends on coordinate {j} of u, which comes after it. "
            "`MaskedAutoregressive` is triangular; permutations and couplings are not."
        )
    flat = np.flatnonzero(~(np.diagonal(found, axis1=1, axis2=2) > 0).all(0))
    if flat.size:
        raise ValueError(f"coordinate {flat[0]} of x must increase with that of u, but does not at draws of the base.")
