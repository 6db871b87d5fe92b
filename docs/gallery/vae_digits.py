# %% [markdown]
# # A variational autoencoder of digits
#
# 1,797 handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, CC BY 4.0; they come with scikit-learn). A VAE explains
# each image by a few numbers: it draws $u$ from a prior, and a decoder turns $u$ into the probabilities of the pixels. Here
# prior and posterior are flows, not Gaussians.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np

import pushforward as pf
from pushforward.reports.figures import plot_learning
from pushforward.vae.data import digits
from pushforward.vae.pictures import interpolations

images, labels = digits()
model, history = pf.fit_vae(
    images["train"], validation=images["valid"], key=jax.random.key(0), binarize=True, learning_rate=3e-3
)
test = (images["test"] > 0.5).astype("float32")
found = pf.vae.evaluate(model, test, key=jax.random.key(1))
print(f"-ELBO {-found.elbo:.2f}, NLL {found.nll:.2f} ± {found.nll_se:.2f}, gap {found.gap:.2f}, KL {found.kl:.2f} nats")
print(f"{found.active_units} active units")

# %% [markdown]
# ## What to look at
#
# **NLL** is the number to compare models by, on test images. The **gap** is its distance to the ELBO: how much the
# posterior $q(u \mid x)$ misses. **Active units** counts the latent coordinates that carry information.
#
# Then the pictures: samples that read as digits, and reconstructions that are the digit they came from.

# %% Samples of the model, and test images above their reconstructions


def sheet(rows):
    rows = np.pad(np.asarray(rows), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
    return rows.transpose(0, 2, 1, 3).reshape(rows.shape[0] * rows.shape[2], -1)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=[1, 1.4])
left.imshow(sheet(model.sample(jax.random.key(2), (8, 8), expected=True)), cmap="gray")
left.set_title("samples")
right.imshow(sheet([test[:12], model.reconstruct(test[:12], jax.random.key(3)), test[12:24],
                    model.reconstruct(test[12:24], jax.random.key(4))]), cmap="gray")  # fmt: skip
right.set_title("test images, and their reconstructions below")
for axes in (left, right):
    axes.axis("off")

# %% [markdown]
# A path from one digit to another, on a straight line in the space of the prior's base: every step should look like a
# digit, too. Where a path blurs, the prior has a region that no training image uses.

# %% Paths between pairs of digits
pairs = interpolations(model, test[:5], test[5:10], jax.random.key(5), steps=12)
figure, axes = plt.subplots(figsize=(6, 2.7))
axes.imshow(sheet(pairs), cmap="gray")
axes.axis("off")

# %% [markdown]
# ## What would be wrong
#
# Three faults to look for. *Posterior collapse*: no active units, and all reconstructions look alike. *Memorizing*: the
# ELBO of the training images rises, that of the validation images falls; training stops by itself there. *A gap that is
# large*: the posterior is too simple. The curve of the training is below. It is lower than the ELBO of the test images,
# because validation images are drawn black and white at random, with their gray levels as probabilities, and the test
# images above are rounded, which is easier.

# %% The ELBO of validation images rises and becomes flat
plot_learning(history, "ELBO of validation images (nats)")
