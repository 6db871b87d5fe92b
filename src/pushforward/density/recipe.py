"""What is trained, and how, unless the caller says otherwise: decided by the numbers of rows and columns alone."""

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
# Of splines on whitened samples: beyond it they are affine.
BOUND = 4.0
# With fewer rows to judge by, the best of many evaluations is a matter of luck.
FEWEST_HELD_OUT = 5
# So many are held out whatever share was asked for, as long as they are not more than this one.
LARGEST_SHARE = 0.3


def choose(size: int, dim: int, cond_dim: int | None, angles: tuple[bool, ...], key: PRNGKeyArray) -> tuple[Flow, str]:
    """Autoregressive splines, couplings where there are angles: as large as so many numbers can bear.

    Few columns get many bins and narrower networks, for all that is sharp must then be in few conditionals; more
    columns get more layers.
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
    return flow, f"{layers} {kind}, {bins} bins, networks of width {width}; more rows would allow a larger flow"


def num_held_out(size: int, share: float) -> int:
    """How many of so many rows are held out: enough to judge by, unless that is too large a part of them."""
    fewest = FEWEST_HELD_OUT if LARGEST_SHARE * size >= FEWEST_HELD_OUT else 1
    return min(max(fewest, round(share * size)), size - 1)


def num_steps_of_decay(best_step: int) -> int:
    """How long the learning rate decays where training ended before it had: half as long as it took to get there.

    A power of two, for the number of steps is part of the compiled program.
    """
    return 2 ** max(5, round(math.log2(max(1, best_step / 2))))


@functools.lru_cache
def optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Adam with decoupled weight decay of networks, clipped gradients, a warm-up and a cosine decay.

    One object for equal arguments, so that equal fits compile once.
    """
    rate = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 10), decay_steps=steps, end_value=learning_rate / 100
    )
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(rate, b2=0.99, weight_decay=WEIGHT_DECAY, mask=decayed)
    )


def decayed(parameters: PyTree) -> PyTree[bool]:
    """The weights of networks, without biases and all that is no network's."""

    def mark(node):
        nothing = jax.tree.map(lambda _: False, node)
        if not isinstance(node, MLP):
            return nothing
        return eqx.tree_at(lambda network: network.weights, nothing, tuple(True for _ in node.weights))

    return jax.tree.map(mark, parameters, is_leaf=lambda node: isinstance(node, MLP))
