"""The networks of conditioners: multilayer perceptrons, masked if not all outputs may depend on all inputs."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from pushforward.bijections.arrays import along
from pushforward.bijections.checks import is_size


class MLP(eqx.Module):
    """A multilayer perceptron whose outputs depend only on the inputs that `adjacency` allows.

    The last layer starts at zero, so a conditioner does not change its transformer at first.

    Args:
        in_size: the number of inputs.
        out_size: the number of outputs.
        hidden: the widths of the hidden layers.
        activation: applied after each hidden layer; a module-level function.
        adjacency: boolean array (out_size, in_size), True where the output may depend on the input; by default True
            everywhere. The Jacobian has exact zeros elsewhere.
        key: the key for the initial weights.

    References:
        Germain et al., MADE: Masked Autoencoder for Distribution Estimation (2015), section 3.
        https://arxiv.org/abs/1502.03509
    """

    weights: tuple[Float[Array, "out in"], ...]
    biases: tuple[Float[Array, " out"], ...]
    masks: tuple[Bool[Array, "out in"], ...] | None
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden: Sequence[int],
        *,
        key: PRNGKeyArray,
        activation: Callable[[Array], Array] = jax.nn.silu,
        adjacency: np.ndarray | None = None,
    ):
        check_widths(hidden)
        self.weights, self.biases = _initial_layers((in_size, *hidden, out_size), key)
        self.masks = None if adjacency is None else tuple(map(jnp.asarray, layer_masks(adjacency, hidden)))
        self.activation = activation

    def __call__(self, x: Float[Array, " in *batch"], rows: Array | slice = slice(None)) -> Float[Array, " out *batch"]:
        """The outputs, or only the given rows of the outputs, at no cost for the others.

        Args:
            x: the inputs, with batch axes last.
            rows: the indices of outputs, by default all.
        """
        masks = (None,) * len(self.weights) if self.masks is None else self.masks
        *hidden, last = zip(self.weights, masks, self.biases, strict=True)
        for layer in hidden:
            x = self.activation(_affine(layer, x))
        weight, mask, bias = last
        return _affine((weight[rows], None if mask is None else mask[rows], bias[rows]), x)


class SkipMLP(MLP):
    """A multilayer perceptron plus a linear map of its inputs, which also starts at zero.

    A scale of many parameters multiplies all of their scales, so their logarithms depend on its logarithm linearly.

    Args:
        in_size: the number of inputs.
        out_size: the number of outputs.
        hidden: the widths of the hidden layers.
        key: the key for the initial weights.
    """

    direct: Float[Array, "out in"]

    def __init__(self, in_size: int, out_size: int, hidden: Sequence[int], *, key: PRNGKeyArray):
        super().__init__(in_size, out_size, hidden, key=key)
        self.direct = jnp.zeros((out_size, in_size))

    def __call__(self, x: Float[Array, " in *batch"], rows: Array | slice = slice(None)) -> Float[Array, " out *batch"]:
        return super().__call__(x, rows) + self.direct[rows] @ x


class LocalMLPs(eqx.Module):
    """Small networks side by side, each of a few of the inputs, plus a linear map of these; all start at zero.

    For conditioners where each coordinate depends on few others: the cost grows with the number of networks, not with
    its square.

    Args:
        parents: the indices of the inputs of each network, an array (networks, parents).
        out_size: the number of outputs of all networks together; network i has the outputs i, i + networks, ...
        hidden: the widths of the hidden layers of each network.
        key: the key for the initial weights.
    """

    parents: Int[Array, "networks parents"]
    weights: tuple[Float[Array, "networks out in"], ...]
    biases: tuple[Float[Array, "networks out"], ...]
    direct: Float[Array, "networks out parents"]

    def __init__(
        self,
        parents: Int[Array | np.ndarray, "networks parents"],
        out_size: int,
        hidden: Sequence[int],
        *,
        key: PRNGKeyArray,
    ):
        check_widths(hidden)
        num, num_parents = parents.shape
        self.parents = jnp.asarray(parents)
        self.weights, self.biases = _initial_layers((num_parents, *hidden, out_size // num), key, num)
        self.direct = jnp.zeros((num, out_size // num, num_parents))

    def __call__(self, x: Float[Array, " in *batch"]) -> Float[Array, " out *batch"]:
        def affine(weights, biases, x):
            products = jnp.einsum("noi,ni...->no...", weights, x)
            return products + along(biases, products)

        seen = outputs = x[self.parents]
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for layer in hidden:
            outputs = jax.nn.silu(affine(*layer, outputs))
        outputs = affine(*last, outputs) + jnp.einsum("noi,ni...->no...", self.direct, seen)
        return jnp.swapaxes(outputs, 0, 1).reshape(-1, *x.shape[1:])


def _initial_layers(sizes: Sequence[int], key: PRNGKeyArray, *networks: int) -> tuple[tuple, tuple]:
    """Weights and biases of one network or of several: He initialization, and zeros in the last layer."""
    keys = jr.split(key, len(sizes) - 1)
    shapes = zip(keys[:-1], sizes[:-2], sizes[1:-1], strict=True)
    # With a fan-in of zero there are no weights to scale.
    inner = [(2 / max(i, 1)) ** 0.5 * jr.normal(k, (*networks, o, i)) for k, i, o in shapes]
    weights = (*inner, jnp.zeros((*networks, sizes[-1], sizes[-2])))
    return weights, tuple(jnp.zeros((*networks, o)) for o in sizes[1:])


def check_widths(hidden: Sequence[int]) -> None:
    """Raise unless these are positive widths of layers."""
    if not isinstance(hidden, Sequence) or not all(map(is_size, hidden)):
        raise ValueError(f"hidden must hold widths of hidden layers, at least one unit each, but got hidden={hidden}.")


def _affine(layer: tuple[Array, Array | None, Array], x: Array) -> Array:
    weight, mask, bias = layer
    return (weight if mask is None else jnp.where(mask, weight, 0)) @ x + along(bias, x)


def with_condition(inputs: Float[Array, "in *batch"], condition: Array | None) -> Float[Array, "all *batch"]:
    """Append a condition, one for all events or one for each, to the inputs of a network."""
    if condition is None:
        return inputs
    return jnp.concatenate([inputs, jnp.broadcast_to(along(condition, inputs), (len(condition), *inputs.shape[1:]))])


def layer_masks(adjacency: np.ndarray, hidden: Sequence[int]) -> list[np.ndarray]:
    """One mask for each layer, such that output o depends on input i only if `adjacency[o, i]`.

    Each hidden unit gets the set of inputs that some output may depend on (a row of the adjacency). It feeds the units
    whose sets contain its own. For an autoregressive adjacency this is MADE, whose degrees are the sizes of the sets.
    """
    adjacency = np.asarray(adjacency, bool)
    rows = np.unique(adjacency, axis=0)
    rows = rows[np.argsort(rows.sum(1), kind="stable")]
    if len(rows) > 1 and not rows[0].any():
        rows = rows[1:]  # a unit without inputs would only be a bias
    masks, seen = [], np.eye(adjacency.shape[1], dtype=bool)
    for width in hidden:
        sets = rows[_spread(width, len(rows))]
        masks.append(_holds(sets, seen))
        seen = sets
    return [*masks, _holds(adjacency, seen)]


def _spread(width: int, count: int) -> np.ndarray:
    """The index of each unit's set out of `count`, evenly spread from the smallest set to the largest."""
    if width < count:
        return np.linspace(0, count - 1, width).round().astype(int)
    return np.arange(width) * count // width


def _holds(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """[o, i] is True where the set `inner[i]` is a subset of `outer[o]`."""
    return ~np.any(inner[None] & ~outer[:, None], axis=-1)
