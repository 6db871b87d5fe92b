"""Density estimation: samples in, a flow out."""

import math
import warnings
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import ArrayLike, Float, PRNGKeyArray, PyTree
from numpyro.distributions import constraints
from numpyro.distributions.constraints import Constraint

from pushforward import flows
from pushforward.bijections import (
    MLP,
    Affine,
    Chain,
    Elementwise,
    OntoBox,
    RescaledCondition,
)
from pushforward.flow import Flow
from pushforward.objectives import AbstractObjective, ForwardKL
from pushforward.training import train

BATCH = 256
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
CLIP = 5.0
# Steps of the cosine decay, unless `max_epochs` says otherwise.
FEWEST_STEPS, MOST_STEPS = 2_000, 20_000
# A column with fewer distinct values than this share of its rows is suspiciously coarse.
COARSE_SHARE = 0.5
FEWEST_FOR_COARSE = 50


def fit_density(
    x: ArrayLike,
    *,
    key: PRNGKeyArray,
    condition: ArrayLike | None = None,
    flow: Flow | None = None,
    support: Constraint | Sequence[Constraint] = constraints.real,
    weights: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    validation: float = 0.1,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    max_epochs: int | None = None,
    patience: int = 20,
    progress: bool = True,
) -> Flow:
    r"""Fit a flow to samples by maximum likelihood.

    The samples are carried to the whole space, if they have a bounded support, and standardised; a share of the rows is
    held out; Adam with decoupled weight decay (of networks), clipped gradients and a cosine decay trains until the
    held-out likelihood has not risen for `patience` evaluations. The parameters that did best on held-out rows are
    returned, with standardisation and support folded into the flow: its densities are in the units of `x`, and draws
    lie in the support.

    Args:
        x: samples, of shape (n, dim).
        key: for all randomness.
        condition: what each row is given, of shape (n, cond_dim): then the flow is conditional, $q(x \mid c)$.
        flow: what to train, on standardised samples; by default coupling splines whose size depends on n and dim.
        support: where the columns lie, as NumPyro constraints: one for all or one for each. Intervals only.
        weights: of rows, not negative: how often each counts.
        names: of the columns, for messages.
        validation: the share of rows that is held out.
        batch_size: rows a step.
        learning_rate: at first; it decays to a hundredth.
        max_epochs: passes through the data at most; by default as many as make 2,000 to 20,000 steps.
        patience: evaluations without a better held-out likelihood, after which training ends.
        progress: whether to show a bar, and to say which flow was chosen and why.

    Returns:
        A flow with `log_prob` in nats and in the units of `x`, and `sample`.

    Raises:
        ValueError: for samples that are not finite, not in the support, constant or duplicated columns, too few rows,
            and shapes that do not go together. The message names rows and columns.

    References:
        Papamakarios et al. (2021), section 2.3.1. https://arxiv.org/abs/1912.02762
    """
    x, condition, weights = _check(x, condition, weights, names)
    if not 0 < validation < 1 or batch_size < 1 or patience < 1 or (max_epochs is not None and max_epochs < 1):
        raise ValueError(
            f"fit_density needs 0 < validation < 1, and batch_size, patience and max_epochs of 1 or more, but got "
            f"validation={validation}, batch_size={batch_size}, patience={patience} and max_epochs={max_epochs}."
        )
    size, dim = x.shape
    to_support = _onto(support, dim)
    _check_inside(x, to_support, _columns(dim, names))
    z = np.asarray(jax.jit(jax.vmap(to_support.inverse))(x))
    loc, scale = z.mean(0), z.std(0)
    z = (z - loc) / scale
    cond_loc, cond_scale = (0.0, 1.0) if condition is None else (condition.mean(0), condition.std(0))
    given = None if condition is None else (condition - cond_loc) / cond_scale

    flow_key, split_key, train_key = jr.split(key, 3)
    if flow is None:
        flow, reason = _choose(size, dim, None if condition is None else condition.shape[1], flow_key)
        if progress:
            print(reason)
    elif flow.shape != (dim,) or flow.cond_shape != (None if condition is None else condition.shape[1:]):
        raise ValueError(
            f"the flow must have shape ({dim},) and the condition's shape, but has shape {flow.shape} and cond_shape "
            f"{flow.cond_shape}, with a condition of shape {None if condition is None else condition.shape}."
        )
    rows = np.asarray(jr.permutation(split_key, size))
    held_out, kept = np.split(rows, [max(1, round(validation * size))])

    def part(rows):
        return ForwardKL(
            z[rows],
            None if given is None else given[rows],
            batch_size=min(batch_size, len(rows)),
            num_evaluation_samples=len(rows),
            weights=None if weights is None else weights[rows],
        )

    epoch = math.ceil(len(kept) / batch_size)
    steps = min(max(FEWEST_STEPS, 30 * epoch), MOST_STEPS) if max_epochs is None else max_epochs * epoch
    waited = {"best": math.inf, "count": 0}

    def tired(_, loss):
        waited["count"] = 0 if loss < waited["best"] else waited["count"] + 1
        waited["best"] = min(waited["best"], loss)
        return waited["count"] >= patience

    flow, _ = train(
        flow,
        _HeldOut(part(kept), part(held_out)),
        train_key,
        steps=steps,
        optimizer=_optimizer(learning_rate, steps),
        progress=progress,
        num_evaluations=min(100, steps),
        callback=tired,
    )
    back = Elementwise(Affine(), dim)
    back = eqx.tree_at(lambda b: b.scalars, back, eqx.filter_vmap(Affine)(jnp.asarray(loc), jnp.asarray(scale)))
    bijection = flow.bijection
    if condition is not None:
        bijection = RescaledCondition(bijection, cond_loc, cond_scale)
    return Flow(flow.base, Chain([bijection, back, to_support]))


class _HeldOut(AbstractObjective):
    """Trained on some rows, compared on others."""

    training: ForwardKL
    validation: ForwardKL

    def loss(self, flow, key):
        return self.training.loss(flow, key)

    def evaluate(self, flow, key):
        return self.validation.evaluate(flow, key)


def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 10), decay_steps=steps, end_value=learning_rate / 100
    )
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(rate, b2=0.99, weight_decay=WEIGHT_DECAY, mask=_decayed)
    )


def _decayed(parameters: PyTree) -> PyTree[bool]:
    """The weights of networks, without biases and all that is no network's."""

    def mark(node):
        nothing = jax.tree.map(lambda _: False, node)
        if not isinstance(node, MLP):
            return nothing
        return eqx.tree_at(lambda network: network.weights, nothing, tuple(True for _ in node.weights))

    return jax.tree.map(mark, parameters, is_leaf=lambda node: isinstance(node, MLP))


def _choose(size: int, dim: int, cond_dim: int | None, key: PRNGKeyArray) -> tuple[Flow, str]:
    """Coupling splines: as large as so many numbers can bear."""
    per_row = size * dim
    width, bins, layers = (64, 12, 8) if per_row > 20_000 else (32, 8, 5) if per_row > 2_000 else (16, 4, 3)
    flow = flows.nsf(dim, key=key, num_layers=layers, hidden=(width, width), bins=bins, cond_dim=cond_dim)
    given = "" if cond_dim is None else f" given {cond_dim} numbers"
    return flow, (
        f"{size:,} rows of {dim} columns{given}: {layers} spline couplings, {bins} bins, networks of width {width}; "
        "more rows would allow more."
    )


# Data.


def _columns(dim: int, names: Sequence[str] | None) -> list[str]:
    """What messages call the columns."""
    if names is not None and len(names) != dim:
        raise ValueError(f"names must have one entry for each of {dim} columns, but has {len(names)}.")
    return [f"column {i}" if names is None else f"column {i} ({names[i]})" for i in range(dim)]


def _check(x, condition, weights, names):
    x = _matrix("x", x)
    size, dim = x.shape
    columns = _columns(dim, names)
    if size < 2 or size <= dim:
        raise ValueError(f"a density needs more rows than columns, and two at least, but x has shape {x.shape}.")
    _check_finite("x", x, columns)
    for i in np.flatnonzero(np.ptp(x, axis=0) == 0):
        raise ValueError(f"{columns[i]} of x is constant, {x[0, i] + 0.0:g}: it has no density; leave it out.")
    _, first = np.unique(x, axis=1, return_index=True)
    for i in sorted(set(range(dim)) - set(first.tolist())):
        twin = next(j for j in range(dim) if j != i and np.array_equal(x[:, i], x[:, j]))
        raise ValueError(f"{columns[i]} of x equals {columns[twin]}: together they have no density; leave one out.")
    for i in range(dim):
        distinct = np.unique(x[:, i]).size
        if size >= FEWEST_FOR_COARSE and distinct < COARSE_SHARE * size:
            warnings.warn(
                f"{columns[i]} of x has {distinct} distinct values in {size} rows: the likelihood of a density is "
                "unbounded on such data. Add noise of the width of a step to it, or leave it out.",
                stacklevel=3,
            )
    if condition is not None:
        condition = _matrix("condition", condition)
        if len(condition) != size:
            raise ValueError(f"x and condition must have as many rows, but have {size} and {len(condition)}.")
        named = [f"column {i}" for i in range(condition.shape[1])]
        _check_finite("condition", condition, named)
        for i in np.flatnonzero(np.ptp(condition, axis=0) == 0):
            raise ValueError(f"{named[i]} of condition is constant, {condition[0, i]:g}; leave it out.")
    if weights is not None:
        weights = np.asarray(weights, float)
        if weights.shape != (size,):
            raise ValueError(f"weights must have shape ({size},), one for each row, but have shape {weights.shape}.")
        if not np.all(np.isfinite(weights)) or np.any(weights < 0) or weights.sum() == 0:
            raise ValueError("weights must be finite and not negative, and not all zero.")
    return x, condition, weights


def _matrix(name: str, values: ArrayLike) -> Float[np.ndarray, "n dim"]:
    try:
        values = np.asarray(values, dtype=jnp.result_type(float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if values.ndim != 2 or 0 in values.shape:
        hint = f"; {name}[:, None] makes one column of it" if values.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (rows, columns), neither of them 0, but has {values.shape}{hint}.")
    return values


def _check_finite(name: str, values: np.ndarray, columns: Sequence[str]) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"{name} has {len(bad)} values that are NaN or infinite, the first in row {row}, {columns[column]}; remove "
            "or impute those rows."
        )


def _onto(support: Constraint | Sequence[Constraint], dim: int) -> OntoBox:
    """From the whole space onto the support, column by column."""
    each = list(support) if isinstance(support, Sequence) else [support] * dim
    if len(each) != dim:
        raise ValueError(f"support must be one constraint or one for each of {dim} columns, but there are {len(each)}.")
    return OntoBox(each)


def _check_inside(x: np.ndarray, box: OntoBox, columns: Sequence[str]) -> None:
    lower, upper = np.array(box.ends).T
    bad = np.argwhere((x <= lower) | (x >= upper))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"x has {len(bad)} values that are not inside their support, the first in row {row}, {columns[column]}: "
            f"{x[row, column]:g} is not between {lower[column]:g} and {upper[column]:g}."
        )
