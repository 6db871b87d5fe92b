# %% [markdown]
# # A new bijection in 20 lines
#
# Suppose you need a layer that the library does not have: $x = u + \frac{a}{b} \tanh(b u)$ with $a > -1$. Near zero it
# stretches by the factor $1 + a$, far away it only shifts. You write both directions with their log-determinants.
# Everything else works without further code: layers, couplings, training, gradients, files.
#
# The inverse has no closed form, so we take a solver of the library. Its gradients are implicit, and a root that it does
# not find is NaN, never a wrong number.

# %%
from typing import ClassVar

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro.distributions as dist
from jaxtyping import Array, Float

import pushforward as pf
from pushforward.bijections.solvers.monotone import invert_monotone

jax.config.update("jax_enable_x64", True)


def stretch(u, a_and_b):
    a, b = a_and_b
    return u + a / b * jnp.tanh(b * u)


class Stretch(pf.bijections.AbstractBijection):
    """x = u + a tanh(b u) / b, with a > -1 and b > 0."""

    raw_a: Float[Array, ""]
    raw_b: Float[Array, ""]
    shape: ClassVar[tuple[int, ...]] = ()  # it acts on numbers, so it can also be a transformer
    cond_shape: ClassVar[None] = None

    def __init__(self):
        self.raw_a = self.raw_b = jnp.zeros(())  # a = 0: the identity

    @property
    def a_and_b(self):
        return jax.nn.softplus(self.raw_a + jnp.log(jnp.e - 1)) - 1, jnp.exp(self.raw_b)

    def _forward(self, u, condition, key):
        a, b = self.a_and_b
        return stretch(u, (a, b)), jnp.log1p(a * (1 - jnp.tanh(b * u) ** 2))

    def _inverse(self, x, condition, key):
        u = invert_monotone(stretch, x, self.a_and_b)
        return u, -self._forward(u, condition, key)[1]


# %% [markdown]
# Two rules made this work. Every array of a bijection is a parameter and may take *any* real value, so positive numbers
# are properties of raw ones. And each direction returns the log-determinant of its own direction.
#
# ## Is it right?
#
# `check_bijection` is the test that the library's own bijections pass. It goes far from the initial parameters (there,
# this layer is the identity, and nearly any bug hides), and compares with automatic Jacobians and gradients.

# %%
pf.testing.check_bijection(Stretch(), key=jax.random.key(0))
print("all checks passed")


# %% [markdown]
# What would it say if we had made a mistake? Two common ones: a forgotten sign, and a square that is missing.


# %%
class WrongSign(Stretch):
    def _inverse(self, x, condition, key):
        u = invert_monotone(stretch, x, self.a_and_b)
        return u, self._forward(u, condition, key)[1]


class WrongJacobian(Stretch):
    def _forward(self, u, condition, key):
        a, b = self.a_and_b
        return stretch(u, (a, b)), jnp.log1p(a * (1 - jnp.tanh(b * u)))


for wrong in (WrongSign(), WrongJacobian()):
    try:
        pf.testing.check_bijection(wrong, key=jax.random.key(0))
    except AssertionError as error:
        print(str(error).split("; ")[0].replace(": ", ":\n  ").replace(", more", ",\n  more"))

# %% [markdown]
# ## Use it
#
# As the transformer of a coupling: the network of the coupling sets `raw_a` and `raw_b` from the other coordinates. We
# train on a ring, by maximum likelihood.

# %% The ring, and draws of the flow, which agree up to a few points inside of the ring
bj = pf.bijections
angle, radius = jax.random.uniform(jax.random.key(1), (4000,)), 1 + 0.1 * jax.random.normal(jax.random.key(2), (4000,))
ring = radius[:, None] * jnp.stack([jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle)], axis=1)

layers = []
for number in range(6):
    key = jax.random.key(number)
    transformer = bj.Chain([Stretch(), bj.Affine()])
    layers += [bj.Coupling(transformer, dim=2, hidden=(32, 32), key=key), bj.Permutation([1, 0])]
flow = pf.Flow(dist.Normal(jnp.zeros(2), 1.0).to_event(1), bj.Chain(layers))
flow, history = pf.train(flow, pf.ForwardKL(ring), key=jax.random.key(3), steps=4000)
before, after = -history.losses[0], -history.losses[-100:].mean()
print(f"log-likelihood of the ring: {before:.2f} nats before, {after:.2f} after training")

draws = flow.sample(jax.random.key(4), (2000,))
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharex=True, sharey=True)
for panel, points, title in zip(axes, (ring[:2000], draws), ("data", "draws of the flow"), strict=True):
    panel.scatter(*points.T, s=2)
    panel.set(title=title, aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))

# %% [markdown]
# The few points inside of the ring are no error of the layer. The base has no hole, and a continuous map with a continuous
# inverse cannot tear one: some mass always stays inside, less with more layers or with splines.
#
# More rules, and how to add a bijection to the library itself: [Extending](../extending.md).
