"""The default flow, the number of validation rows and the optimizer, from the numbers of rows and columns alone."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PRNGKeyArray, PyTree

from pushforward import flows
from pushforward.bijections import MLP
from pushforward.flow import Flow

WEIGHT_DECAY = 1e-4
CLIP = 5.0
# Splines on whitened samples are affine outside of [-BOUND, BOUND].
BOUND = 4.0
# With fewer validation rows, noise determines which evaluation is the best.
MIN_VALIDATION_ROWS = 5
# The minimum number of validation rows is used only if it is at most this fraction of the rows.
MAX_MINIMUM_FRACTION = 0.3


def choose(size: int, dim: int, cond_dim: int | None, angles: tuple[bool, ...], key: PRNGKeyArray) -> tuple[Flow, str]:
    """The default flow: autoregressive splines, or spline couplings if there are angles.

    Its size depends on the number of values. Few columns get many bins and narrower networks, because a sharp density
    is then sharp in few conditionals; more columns get more layers.

    Args:
        size: the number of rows, or their effective sample size.
        dim: the number of columns.
        cond_dim: the number of columns of the condition, None without a condition.
        angles: which columns are angles.
        key: the key for the initialization of the networks.

    Returns:
        The flow and its description.
    """
    numbers = size * dim
    width, most_bins = (128, 32) if numbers > 20_000 else (64, 16) if numbers > 4_000 else (32, 8)
    bins = max(8, most_bins * 2 // max(dim, 2)) if numbers > 4_000 else 6
    if dim <= 2:
        width = min(width, 64)
    options: dict[str, Any] = {"hidden": (width, width), "cond_dim": cond_dim, "key": key}
    if any(angles):
        kind, layers = "spline couplings", 6
        flow = flows.circular(dim, angles=angles, num_layers=layers, bins=bins, **options)
    else:
        kind, layers = "autoregressive layers of splines", 5 if dim > 2 and numbers > 20_000 else 3
        flow = flows.arnsf(dim, num_layers=layers, bins=bins, bound=BOUND, fast="density", **options)
    return flow, f"{layers} {kind}, {bins} bins, networks of width {width}"


def num_validation_rows(size: int, fraction: float) -> int:
    """The number of validation rows: this fraction, but at least the minimum if there are enough rows.

    Args:
        size: the number of rows.
        fraction: the fraction of the rows to use for validation.
    """
    fewest = MIN_VALIDATION_ROWS if MAX_MINIMUM_FRACTION * size >= MIN_VALIDATION_ROWS else 1
    return min(max(fewest, round(fraction * size)), size - 1)


def num_steps_of_decay(best_step: int) -> int:
    """The length of the decay of the learning rate after early stopping: half the number of steps to the best model.

    The number is a power of two, because it is part of the compiled program.

    Args:
        best_step: the step with the highest validation likelihood.
    """
    return 2 ** max(5, round(math.log2(max(1, best_step / 2))))


@functools.lru_cache
def optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with decoupled weight decay of networks, clipped gradients, a warm-up and a cosine decay.

    Equal arguments return the same object, so that fits with equal arguments share one compiled program.

    Args:
        learning_rate: the learning rate after the warm-up; it decays to a hundredth.
        steps: the number of steps of the whole schedule.
    """
    rate = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 10), decay_steps=steps, end_value=learning_rate / 100
    )
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(rate, b2=0.99, weight_decay=WEIGHT_DECAY, mask=decayed)
    )


def decayed(parameters: PyTree) -> PyTree[bool]:
    """Which parameters decay: the weights of networks, without their biases.

    Args:
        parameters: the parameters of a flow.
    """

    def mark(node):
        nothing = jax.tree.map(lambda _: False, node)
        if not isinstance(node, MLP):
            return nothing
        return eqx.tree_at(lambda network: network.weights, nothing, tuple(True for _ in node.weights))

    return jax.tree.map(mark, parameters, is_leaf=lambda node: isinstance(node, MLP))
