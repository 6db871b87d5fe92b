# %% [markdown]
# # A density with counts and angles
#
# A weather station records three numbers each hour: the direction of the wind, its speed, and the number of lightning
# flashes. We want their joint distribution: to draw realistic hours, to ask how unusual an hour was. No Gaussian will do:
# a direction of 359° is next to 1°, a speed is positive, and flashes are counted. Say so, and the density respects it.
#
# The data are simulated: westerly winds are strong, easterly ones weak, and flashes come with strong winds from the west.

# %%
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
from numpyro.distributions import constraints

import pushforward as pf

jax.config.update("jax_enable_x64", True)

rng = np.random.default_rng(0)


def hours(n):
    west = rng.uniform(size=n) < 0.6
    direction = np.degrees(np.where(west, rng.vonmises(-0.2, 4.0, n), rng.vonmises(2.5, 2.0, n))) % 360
    speed = rng.gamma(3.0, np.where(west, 2.5, 1.0))
    flashes = rng.poisson(np.where(west, 0.3 * speed, 0.2))
    return np.column_stack([direction, speed, flashes])


names = ["direction", "speed", "flashes"]
rows, test = hours(8000), hours(2000)

# %% [markdown]
# ## Say what the columns are

# %%
density = pf.fit_density(
    rows,
    key=jax.random.key(0),
    names=names,
    support={"direction": pf.Circular(360.0), "speed": constraints.positive, "flashes": constraints.nonnegative},
    discrete=["flashes"],
)
draws = np.asarray(density.sample(jax.random.key(1), (8000,)))
for name, row in zip(names, draws[:4].T, strict=True):
    print(f"{name:10}", *(f"{value:8.2f}" for value in row))

# %% [markdown]
# ## What to look at
#
# First the scores of rows that the fit has not seen, next to a Gaussian and the best mixture of Gaussians. If the flow
# does not beat the mixture, there are too few rows, or you have not said something about the columns. Then calibration:
# are the test rows distributed as the draws, column by column?

# %%
print(density.evaluate(test, key=jax.random.key(2)))

# %% [markdown]
# The flow beats the mixture, although the mixture knows nothing of circles and counts. No column leaves the band of all
# columns. The flashes come nearest to it: half of the hours have none, and the density falls at once to zero below them,
# which is hard for a smooth flow; the right panel of the picture shows how little that matters. Nothing special happens at 0° = 360°, no
# speed is negative, and the counts are whole numbers.

# %% Directions, speeds and counts of data and draws: the same clouds, bars and histograms
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for panel, points, title in zip(axes, (rows, draws), ("data", "draws"), strict=False):
    for flashed, label in ((False, "no flash"), (True, "flashes")):
        chosen = points[:700][(points[:700, 2] > 0) == flashed]
        panel.scatter(chosen[:, 0], chosen[:, 1], s=2, label=label)
    panel.set(xlabel="direction", ylabel="speed", title=title, xlim=(0, 360), ylim=(0, 25))
    panel.legend()
counts = np.arange(9)
for shift, points, label in ((-0.2, rows, "data"), (0.2, draws, "draws")):
    axes[2].bar(counts + shift, [(points[:, 2] == k).mean() for k in counts], width=0.4, label=label)
axes[2].set(xlabel="flashes", ylabel="fraction of hours", title="counts")
axes[2].legend()
figure.tight_layout()

# %% [markdown]
# The probability of a count is the integral of the density over one step. Here are the probabilities of 0, 1, 2 and 3
# flashes, if the wind blows at 12 m/s from 350°:

# %%
grid = np.linspace(0.01, 0.99, 50)
counts = np.arange(8)
points = np.array([[350.0, 12.0, k + u] for k in counts for u in grid])
mass = np.exp(density.log_prob(points)).reshape(len(counts), -1).mean(1)
print("from the density:", np.round(mass[:4] / mass.sum(), 2))
near = (np.abs((rows[:, 0] - 350 + 180) % 360 - 180) < 20) & (np.abs(rows[:, 1] - 12) < 2)
print(f"in {near.sum()} hours:   ", np.round([(rows[near, 2] == k).mean() for k in range(4)], 2))

# %% [markdown]
# ## What would be wrong
#
# Leave out what you know, and the library warns. It is right: without `discrete`, the likelihood is unbounded, because
# ever narrower spikes at the counts always pay, and any score is meaningless. Without the supports, some draws are
# impossible.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    careless = pf.fit_density(rows, key=jax.random.key(0), names=names, max_epochs=5)
for warning in caught:
    print(warning.message)
strange = np.asarray(careless.sample(jax.random.key(1), (8000,)))
print(f"negative speeds: {(strange[:, 1] < 0).mean():.1%}, directions outside of the circle: "
      f"{((strange[:, 0] < 0) | (strange[:, 0] > 360)).mean():.1%}")  # fmt: skip
