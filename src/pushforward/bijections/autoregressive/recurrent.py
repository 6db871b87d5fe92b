r"""Autoregressive bijections whose conditioner is a recurrent network shared by all coordinates."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections.arrays import along, num_parameters
from pushforward.bijections.autoregressive.masked import AbstractAutoregressive
from pushforward.bijections.autoregressive.networks import MLP, check_widths, with_condition
from pushforward.bijections.autoregressive.transformer import check_parts, transform
from pushforward.bijections.base import AbstractBijection

# The state of the cell for each event.
State = Float[Array, "state *batch"]


class RecurrentAutoregressive(AbstractAutoregressive):
    r"""$x_i = \tau(u_i;\, c(h_i))$ with $h_i = \mathrm{GRU}(h_{i-1}, [u_{i-1}, \text{start}, \text{condition}])$.

    All coordinates share the parameters, whose number does not depend on `dim`. Each direction is one scan of `dim`
    steps; the inverse solves for one coordinate per step, without iteration. It starts as the given transformer in
    every coordinate. The initial state is learned. The first input is $u_0 = 0$ with the start flag 1; the flag is 0
    afterwards.

    Args:
        transformer: a scalar bijection.
        dim: the dimension.
        hidden: the size of the GRU's state, then the widths of the hidden layers between it and the transformer.
        cond_dim: the size of a condition, an input of the GRU at every coordinate.
        key: the key for the networks' initial weights.

    References:
        Papamakarios et al. (2021), section 3.1.2, "recurrent conditioners". https://arxiv.org/abs/1912.02762
        Oliva et al., Transformation Autoregressive Networks (2018), section 3.1. https://arxiv.org/abs/1801.09819
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014), section 2.3.
        https://arxiv.org/abs/1406.1078
    """

    transformer: AbstractBijection
    cell: eqx.nn.GRUCell
    start: Float[Array, " state"]
    head: MLP
    dim: int = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        transformer: AbstractBijection,
        dim: int,
        *,
        key: PRNGKeyArray,
        hidden: Sequence[int] = (64,),
        cond_dim: int | None = None,
    ):
        check_parts(transformer, dim, cond_dim)
        check_widths(hidden)
        if not hidden:
            raise ValueError(
                f"hidden must hold the size of the GRU's state, then the widths of layers, but got hidden={hidden}."
            )
        cell_key, head_key = jr.split(key)
        self.transformer, self.dim = transformer, dim
        self.cond_shape = None if cond_dim is None else (cond_dim,)
        self.cell = eqx.nn.GRUCell(2 + (cond_dim or 0), hidden[0], key=cell_key)
        self.start = jnp.zeros(hidden[0])
        self.head = MLP(hidden[0], num_parameters(transformer), hidden[1:], key=head_key)

    def _start(self, u: Array) -> State:
        return jnp.broadcast_to(along(self.start, u).astype(u.dtype), self.start.shape + u.shape[1:])

    def _flags(self, u: Array) -> Float[Array, " dim"]:
        return jnp.zeros(self.dim, u.dtype).at[0].set(1)

    def _advance(self, state: State, previous: Array, flag: Array, condition: Array | None) -> State:
        """The next state, given the previous coordinate."""
        batch = previous.shape
        inputs = with_condition(jnp.stack([previous, jnp.broadcast_to(flag, batch)]), condition)
        cell = self.cell
        for _ in batch:
            cell = jax.vmap(cell, in_axes=-1, out_axes=-1)
        return cell(inputs, state)

    def _forward(self, u, condition, key):
        def step(state, previous_and_flag):
            previous, flag = previous_and_flag
            state = self._advance(state, previous, flag, condition)
            return state, state

        # u is known, so only the states are computed sequentially.
        previous = jnp.concatenate([jnp.zeros_like(u[:1]), u[:-1]])
        _, states = jax.lax.scan(step, self._start(u), (previous, self._flags(u)))
        states = jnp.moveaxis(states, 0, 1)
        shifts = self.head(states.reshape(len(states), u.size)).reshape(num_parameters(self.transformer), *u.shape)
        x, log_slopes = transform(self.transformer, shifts, u)
        return x, log_slopes.sum(0)

    def _inverse(self, x, condition, key):
        def step(carry, x_and_flag):
            (state, previous), (x, flag) = carry, x_and_flag
            state = self._advance(state, previous, flag, condition)
            u, log_slope = transform(self.transformer, self.head(state), x, inverse=True)
            return (state, u), (u, log_slope)

        start = self._start(x), jnp.zeros_like(x[0])
        _, (u, log_slopes) = jax.lax.scan(step, start, (x, self._flags(x)))
        return u, log_slopes.sum(0)
