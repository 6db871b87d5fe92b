# %% [markdown]
# # Patches of images
#
# What do small pieces of natural images have in common? Mostly edges: neighboring pixels are nearly equal, except where an
# object ends. A Gaussian knows the first half (the correlations) and not the second. A density of patches is a good test,
# and it is useful: as a prior for removing noise, or for finding what does not belong to an image.
#
# We make images of "dead leaves": disks of random size and brightness that cover each other. Their patches have the
# statistics of natural images (Lee, Mumford and Huang 2001), and no license.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import pushforward as pf

rng = np.random.default_rng(0)
SIDE = 4


def dead_leaves(size=256, disks=1500):
    image = np.full((size, size), np.nan)
    down, across = np.mgrid[:size, :size]
    for _ in range(disks):  # from front to back
        radius = 3 / np.sqrt(rng.uniform(0.003, 1))
        row, column = rng.uniform(-radius, size + radius, 2)
        inside = (down - row) ** 2 + (across - column) ** 2 < radius**2
        image[inside & np.isnan(image)] = rng.uniform()
    return np.nan_to_num(image, nan=0.5)


def patches(images, n):
    """Random patches without their mean brightness, with some noise of a camera, as vectors."""
    found = []
    for _ in range(n):
        image = images[rng.integers(len(images))]
        row, column = rng.integers(0, image.shape[0] - SIDE, 2)
        found.append(image[row : row + SIDE, column : column + SIDE].ravel())
    found = np.array(found) + 0.02 * rng.normal(size=(n, SIDE * SIDE))
    return (found - found.mean(1, keepdims=True))[:, :-1]  # the last pixel follows from the others


images = [dead_leaves() for _ in range(8)]
training, test = patches(images[:6], 10_000), patches(images[6:], 4_000)

# %% [markdown]
# The test patches come from other images than the training patches. Patches of one image overlap; if some of the overlapping
# ones were test patches, the scores would be too good.
#
# ## The fit

# %%
density = pf.fit_density(training, key=jax.random.key(0), max_epochs=30)
scores = density.evaluate(test, key=jax.random.key(1)).scores
for name, score in scores.items():
    print(f"{name:20} {score.mean / (SIDE * SIDE - 1) / np.log(2):5.2f} bits per pixel")

# %% [markdown]
# ## What to look at
#
# Scores are logarithms of the density, so higher is better: with one bit per pixel more, test patches are twice as probable,
# per pixel. Flow and mixture of Gaussians are far above the Gaussian, and close to each other: a mixture suits patches that
# are of few kinds, flat or with an edge. And look at draws: those of the Gaussian are clouds, those of the flow have edges.

# %% Patches of images, draws of the flow with edges, and blurred draws of a Gaussian
gaussian = rng.multivariate_normal(training.mean(0), np.cov(training.T), 64)
draws = np.asarray(density.sample(jax.random.key(2), (64,)))
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6))
axes[0].imshow(images[0], cmap="gray")
sheets = {"patches": test[:64], "draws of the flow": draws, "draws of a Gaussian": gaussian}
for panel, (title, rows) in zip(axes[1:], sheets.items(), strict=True):
    full = np.column_stack([rows, -rows.sum(1)]).reshape(8, 8, SIDE, SIDE)
    sheet = np.pad(full, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan).transpose(0, 2, 1, 3)
    panel.imshow(sheet.reshape(8 * (SIDE + 1), -1), cmap="gray", vmin=-0.5, vmax=0.5)
    panel.set_title(title)
axes[0].set_title("an image")
for panel in axes:
    panel.axis("off")
figure.tight_layout()

# %% [markdown]
# ## What does not belong?
#
# Put a patch of pure noise, with the same covariance, among the test patches. A Gaussian cannot know the difference, since
# mean and covariance are all it has. The flow can.

# %%
noise = rng.multivariate_normal(training.mean(0), np.cov(training.T), 4000)
natural, strange = np.asarray(density.log_prob(test)), np.asarray(density.log_prob(noise))
print(f"median log-density: patches {np.median(natural):.1f}, noise {np.median(strange):.1f} nats")
print(f"probability that a patch has the higher density: {(natural > strange).mean():.1%}")
