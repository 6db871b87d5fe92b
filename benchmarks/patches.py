"""A large flow for image patches, trained by the clock: for an accelerator.

All is made of the library's parts. Each batch is drawn from the grey levels, turned or mirrored by one of the eight
symmetries of the square, and given fresh noise; whitened, and with tails made lighter, it is what the flow is a density
of. The learning rate follows a cosine of the time that has gone, so that training ends when time does, wherever it
runs. Held-out patches choose among the parameters on the way.
"""

import math
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, UInt8

import pushforward as pf
from pushforward.bijections import Affine, Chain, Elementwise, Shift, SinhArcsinh, Triangular
from pushforward.density.recipe import decayed
from pushforward.flow import trainable
from pushforward.training import update_where

SIDE = 8
# Of whitened patches, whose tails are far heavier than a normal's.
TAILS = 2.0
STEPS_A_CALL = 250


def symmetries() -> np.ndarray:
    """Eight orders of a patch's pixels: rows and columns mirrored or not, and swapped or not."""
    order = np.arange(SIDE**2).reshape(SIDE, SIDE)
    turned = [a[::up, ::left] for a in (order, order.T) for up in (1, -1) for left in (1, -1)]
    return np.stack([a.ravel() for a in turned])


def centred(pixels: Float[Array, "n 64"]) -> Float[Array, "n 63"]:
    """Less the mean of each patch, and without the last pixel, which the others then give."""
    return (pixels - pixels.mean(-1, keepdims=True))[..., :-1]


def turn(x: Float[np.ndarray, "n 63"], order: np.ndarray) -> Float[np.ndarray, "n 63"]:
    """Centred patches, turned: a permutation of all pixels, which keeps volumes."""
    whole = np.concatenate([x, -x.sum(-1, keepdims=True)], axis=-1)
    return whole[:, order][:, :-1]


class Patches(eqx.Module):
    """Grey levels to draw batches from."""

    pixels: UInt8[Array, "n 64"]
    orders: Array

    def draw(self, key, size: int) -> Float[Array, "size 63"]:
        """Patches with fresh noise, each turned in one of the ways."""
        row_key, turn_key, noise_key = jr.split(key, 3)
        rows = jr.randint(row_key, (size,), 0, len(self.pixels))
        orders = self.orders[jr.randint(turn_key, (size,), 0, len(self.orders))]
        pixels = self.pixels[rows[:, None], orders]
        return centred((pixels + jr.uniform(noise_key, pixels.shape)) / 256)


def whitening(x: Float[np.ndarray, "n 63"]) -> Chain:
    """From coordinates of mean 0, covariance 1 and light tails to patches."""
    factor = np.linalg.cholesky(np.cov(x.T))
    z = np.linalg.solve(factor, (x - x.mean(0)).T)
    scale = float(np.sinh(np.arcsinh(z) / TAILS).std())
    dim = x.shape[1]
    lighter = [Elementwise(Affine(scale=scale), dim), Elementwise(SinhArcsinh(tail=TAILS), dim)]
    matrix = Triangular(dim, matrix=jnp.asarray(factor, float))
    shift = eqx.filter_vmap(Shift)(jnp.asarray(x.mean(0), float))
    return Chain([*lighter, matrix, eqx.tree_at(lambda b: b.scalars, Elementwise(Shift(), dim), shift)])


def fit(
    pixels: UInt8[np.ndarray, "n 64"],
    held_out: UInt8[np.ndarray, "m 64"],
    seconds: float,
    *,
    num_layers: int,
    hidden: tuple[int, ...],
    bins: int,
    bound: float,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> Callable[[np.ndarray], np.ndarray]:
    """The log density of centred patches after so many seconds, of which at least half must be left to train in."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    orders = symmetries()
    some = pixels[rng.permutation(len(pixels))[:100_000]]
    sample = np.take_along_axis(some, orders[rng.integers(len(orders), size=len(some))], axis=1)
    back = whitening(np.asarray(centred((sample + rng.random(sample.shape)) / 256)))
    held_out = jnp.asarray(centred((held_out + rng.random(held_out.shape)) / 256), jnp.float32)
    flow = pf.flows.arnsf(
        pixels.shape[1] - 1, key=jr.key(0), num_layers=num_layers, hidden=hidden, bins=bins, bound=bound, fast="density"
    )
    optimizer = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(
            optax.clip_by_global_norm(5.0),
            optax.adamw(learning_rate, b2=0.99, weight_decay=weight_decay, mask=decayed),
        )
    )(learning_rate=0.0)
    which = trainable(flow)
    parameters, static = eqx.partition(flow, which)

    def log_prob(parameters, x):
        z, log_det = back.batched("inverse_and_log_det", (x.T,), None, None)
        return eqx.combine(parameters, static).log_prob(z.T) + log_det

    @eqx.filter_jit
    def advance(patches, parameters, state, key):
        def step(carry, key):
            parameters, state = carry
            draw = patches.draw(key, batch_size)
            loss, gradient = jax.value_and_grad(lambda p: -log_prob(p, draw).mean())(parameters)
            finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient, squared=True))
            return update_where(finite, optimizer, gradient, parameters, state), jnp.where(finite, loss, jnp.nan)

        (parameters, state), losses = jax.lax.scan(step, (parameters, state), jr.split(key, STEPS_A_CALL))
        return parameters, state, jnp.nanmean(losses), jnp.isnan(losses).sum()

    score = eqx.filter_jit(log_prob)
    patches = Patches(jnp.asarray(pixels), jnp.asarray(orders))
    state = optimizer.init(parameters)
    # The rate is 0 still: nothing but compilation.
    jax.block_until_ready(advance(patches, parameters, state, jr.key(1)))
    begin, end = time.perf_counter(), start + seconds
    if end - begin < seconds / 2:
        raise ValueError(f"to begin took {begin - start:.0f} of {seconds:.0f} seconds: give it more, or a GPU.")
    best, best_loss, calls, told, gone = parameters, math.inf, 0, 0.0, 0.0
    while gone < 1:
        # It rises for a fiftieth of the time, and falls by a cosine.
        rate = learning_rate * min(1.0, gone / 0.02 + 0.01) * 0.5 * (1 + math.cos(math.pi * gone))
        state.hyperparams["learning_rate"] = jnp.asarray(rate, jnp.float32)
        parameters, state, loss, skipped = advance(patches, parameters, state, jr.fold_in(jr.key(1), calls))
        calls += 1
        loss = float(loss)
        gone = min(1.0, (time.perf_counter() - begin) / (end - begin))
        if gone - told >= 0.02 or gone == 1:
            told = gone
            found = -float(score(parameters, held_out).mean())
            if found < best_loss:
                best, best_loss = parameters, found
            print(
                f"{time.perf_counter() - start:.0f} s, {calls * STEPS_A_CALL} steps: training {-loss:.3f}, "
                f"held out {-found:.3f}, {int(skipped)} skipped",
                flush=True,
            )
    return lambda x: np.asarray(score(best, jnp.asarray(x, jnp.float32)), float)
