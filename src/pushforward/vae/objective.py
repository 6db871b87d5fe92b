r"""The objective of a VAE: the negative ELBO, with warm-up and free bits, or the importance-weighted bound."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from pushforward.arguments import FROM_ZERO, NOT_NEGATIVE, checked
from pushforward.bijections.arrays import ArrayLike
from pushforward.generators import separate_key
from pushforward.training.data import Epochs
from pushforward.training.objectives import AbstractObjective
from pushforward.vae.data import check_images
from pushforward.vae.evaluation import map_in_chunks, max_chunk_size
from pushforward.vae.stored import StoredImages

# The number of validation images that are in memory at the same time.
EVALUATION_CHUNK = 500


class NegativeBound(AbstractObjective):
    r"""$-\frac1n \sum_x \log \frac1S \sum_s p(x \mid u_s) p(u_s)^\beta / q(u_s \mid x)^\beta$, $u_s \sim q(u \mid x)$.

    For $S = 1$ it is $-E[\log p(x \mid u)] + \beta\,\mathrm{KL}$, the negative ELBO if $\beta = 1$. During the warm-up
    $\beta$ is smaller, so that the decoder learns to use the latent vectors before the prior regularizes them. Free
    bits replace the mean KL of a batch by $\max(\lambda, \mathrm{KL})$, so that a KL below $\lambda$ nats brings
    no gain. The KL of a flow is not a sum over coordinates, so there is one $\lambda$ for all of them.

    Args:
        images: the training images, of shape (n, *shape), in memory or on disk. Every epoch uses each image at most
            once, in a random order.
        validation: the images for which `evaluate` estimates the negative ELBO; by default the training images.
        batch_size: the number of images in a step; all images if there are fewer.
        binarize: whether to draw black and white pixels with the gray levels as probabilities: again in every step for
            training images, once for validation images.
        warmup: the number of epochs in which $\beta$ grows linearly to 1. `evaluate` always uses $\beta = 1$.
        num_samples: $S$; more than 1 for the importance-weighted bound.
        free_bits: $\lambda$ in nats, for $S = 1$ only.
        path_gradient: whether to omit the score of $q$, which has mean zero, from the gradient; for $S = 1$ only.
        num_evaluation_samples: the number of draws for each validation image.

    Raises:
        ValueError: for images that are not finite or not in [0, 1], numbers that are too small, or options that
            exclude each other.

    References:
        Sønderby et al., Ladder Variational Autoencoders (2016), section 2.3 (warm-up). https://arxiv.org/abs/1602.02282
        Kingma et al. (2016), appendix C.8 (free bits). https://arxiv.org/abs/1606.04934
        Burda et al. (2016). https://arxiv.org/abs/1509.00519
        Roeder et al., Sticking the Landing (2017). https://arxiv.org/abs/1703.09194
    """

    images: Float[Array, "n *shape"] | StoredImages
    validation: Float[Array, "m *shape"] | StoredImages
    batch_size: int = eqx.field(static=True)
    binarize: bool = eqx.field(static=True)
    warmup: int = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)
    free_bits: float = eqx.field(static=True)
    path_gradient: bool = eqx.field(static=True)
    num_evaluation_samples: int = eqx.field(static=True)
    metrics: ClassVar[tuple[str, ...]] = ("reconstruction", "kl", "beta")

    @checked(images=None, validation=None, warmup=FROM_ZERO, free_bits=NOT_NEGATIVE)
    def __init__(
        self,
        images: ArrayLike | StoredImages,
        validation: ArrayLike | StoredImages | None = None,
        *,
        batch_size: int = 100,
        binarize: bool = False,
        warmup: int = 0,
        num_samples: int = 1,
        free_bits: float = 0.0,
        path_gradient: bool = False,
        num_evaluation_samples: int = 4,
    ):
        if num_samples > 1 and (free_bits or path_gradient):
            raise ValueError(f"free bits and path gradients need num_samples=1, but got num_samples={num_samples}.")
        self.images = _placed(images)
        self.validation = self.images if validation is None else _placed(validation)
        self.batch_size, self.binarize, self.warmup = min(batch_size, len(self.images)), binarize, warmup
        self.num_samples, self.free_bits, self.path_gradient = num_samples, free_bits, path_gradient
        self.num_evaluation_samples = num_evaluation_samples

    @property
    def batches(self) -> Epochs:
        """The training images in batches, without replacement within an epoch; of images on disk their indices."""
        if isinstance(self.images, StoredImages):
            return Epochs(jnp.arange(len(self.images)), self.batch_size)
        return Epochs(self.images, self.batch_size)

    def loss(self, vae, batch, key, step):
        x = self.images.at(batch) if isinstance(self.images, StoredImages) else batch
        x, beta = self._binarized(x, key), self._beta(step)
        terms = vae.terms(x, key, self.num_samples, path_gradient=self.path_gradient)
        divergence = terms.log_posterior - terms.log_prior
        reconstruction, kl = -terms.log_likelihood.mean(), divergence.mean()
        if self.num_samples > 1:
            log_weight = terms.log_likelihood - beta * divergence
            loss = -(jax.nn.logsumexp(log_weight, axis=0) - jnp.log(self.num_samples)).mean()
        else:
            loss = reconstruction + beta * (jnp.maximum(kl, self.free_bits) if self.free_bits else kl)
        return loss, {"reconstruction": reconstruction, "kl": kl, "beta": beta}

    def evaluate(self, vae, key):
        chunk = max_chunk_size(EVALUATION_CHUNK, self.num_evaluation_samples, vae)

        def elbo(x, key):
            return vae.elbo(x, key, self.num_evaluation_samples)

        def elbo_at(indices, elbo_key):
            x = stored.at(indices)
            if self.binarize:
                # Each image has a key, because all of them are never together.
                x = jax.vmap(lambda x, index: self._binarized(x, jr.fold_in(key, index)))(x, indices)
            return elbo(x, elbo_key)

        if isinstance(self.validation, StoredImages):
            stored = self.validation
            return -map_in_chunks(elbo_at, jnp.arange(len(stored)), key, chunk).mean()
        return -map_in_chunks(elbo, self._binarized(self.validation, key), key, chunk).mean()

    def _beta(self, step):
        if not self.warmup:
            return jnp.ones((), self.images.dtype)
        epochs = step // self.batches.steps_per_epoch + 1
        return jnp.minimum(1.0, epochs / self.warmup).astype(self.images.dtype)

    def _binarized(self, x, key):
        # `key` is split for the latent variables.
        return jr.bernoulli(separate_key(key), x).astype(x.dtype) if self.binarize else x


def _placed(images: ArrayLike | StoredImages) -> Array | StoredImages:
    return images if isinstance(images, StoredImages) else jnp.asarray(check_images(images))
