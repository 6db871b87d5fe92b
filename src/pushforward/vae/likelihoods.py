"""What a decoder's outputs mean: distributions of images whose pixels lie in [0, 1]."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from pushforward.bijections.positive import positive


class AbstractLikelihood(eqx.Module):
    """The distribution of an image, its pixels independent given the decoder's outputs.

    A decoder returns `num_outputs` arrays of the image's shape, stacked along a first axis.
    """

    # Whether `log_prob` is that of a discrete image, in nats, so that bits per dimension mean something.
    discrete: ClassVar[bool]

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """How many numbers a decoder gives for each pixel."""

    @abc.abstractmethod
    def distribution(self, outputs: Float[Array, "k *shape"]) -> Any:
        """The NumPyro distribution of `values`."""

    def values(self, x: Float[Array, " *shape"]) -> Array:
        """The image as the distribution counts it."""
        return x

    @abc.abstractmethod
    def image(self, outputs: Float[Array, "k *shape"]) -> Float[Array, " *shape"]:
        """The expected image."""

    @abc.abstractmethod
    def draw(self, key: Array, outputs: Float[Array, "k *shape"]) -> Float[Array, " *shape"]:
        """A random image."""

    def log_prob(self, outputs: Float[Array, "k *shape"], x: Float[Array, " *shape"]) -> Float[Array, ""]:
        r"""$\log p(x \mid u)$ in nats."""
        return self.distribution(outputs).log_prob(self.values(x))

    def check(self, x: np.ndarray) -> None:  # noqa: B027
        """Raise if this can be no likelihood of these images, whose pixels are in [0, 1]."""


class Bernoulli(AbstractLikelihood):
    """Black and white pixels, by the logits of white."""

    discrete: ClassVar[bool] = True

    @property
    def num_outputs(self) -> int:
        return 1

    def distribution(self, outputs) -> Any:
        return dist.Bernoulli(logits=outputs[0]).to_event()

    def image(self, outputs):
        return jax.nn.sigmoid(outputs[0])

    def draw(self, key, outputs):
        return self.distribution(outputs).sample(key).astype(outputs.dtype)

    def check(self, x):
        if np.any((x > 0) & (x < 1)):
            raise ValueError(
                "a Bernoulli likelihood is one of pixels 0 and 1, but some pixels lie between; binarise them "
                "(`binarize=True` draws afresh every epoch), or use a Categorical or Gaussian likelihood."
            )


class Categorical(AbstractLikelihood):
    """Pixels of so many grey levels, each with a probability of its own: 0, 1/(levels - 1), ..., 1.

    Args:
        levels: how many; 256 for images of 8 bits.
    """

    levels: int = eqx.field(static=True, default=256)
    discrete: ClassVar[bool] = True

    def __check_init__(self):
        if self.levels < 2:
            raise ValueError(f"a Categorical likelihood needs two or more levels, but got levels={self.levels}.")

    @property
    def num_outputs(self) -> int:
        return self.levels

    def distribution(self, outputs) -> Any:
        return dist.Independent(dist.Categorical(logits=jnp.moveaxis(outputs, 0, -1)), outputs.ndim - 1)

    def values(self, x):
        return jnp.round(x * (self.levels - 1)).astype(int)

    def image(self, outputs):
        grey = jnp.linspace(0, 1, self.levels, dtype=outputs.dtype)
        return jnp.tensordot(grey, jax.nn.softmax(outputs, axis=0), axes=1)

    def draw(self, key, outputs):
        return self.distribution(outputs).sample(key).astype(outputs.dtype) / (self.levels - 1)

    def check(self, x):
        steps = x * (self.levels - 1)
        # The rounding of 8-bit greys divided in single precision.
        if np.any(np.abs(steps - np.round(steps)) > 1e-3):
            raise ValueError(
                f"a Categorical likelihood of {self.levels} levels is one of pixels k/{self.levels - 1}, but some lie "
                "between; give the number of levels that the images have, or use a Gaussian likelihood."
            )


class Gaussian(AbstractLikelihood):
    r"""Continuous pixels, $N(\mu, \sigma^2)$ each.

    Args:
        scale: $\sigma$ of all pixels; None if the decoder gives one for each, as a second output.
        smallest: the least $\sigma$ that a decoder can give. Without a bound the likelihood has none.
    """

    scale: float | None = eqx.field(static=True, default=None)
    smallest: float = eqx.field(static=True, default=0.01)
    discrete: ClassVar[bool] = False

    def __check_init__(self):
        if (self.scale is not None and self.scale <= 0) or self.smallest <= 0:
            raise ValueError(f"scales must be positive, but got scale={self.scale}, smallest={self.smallest}.")

    @property
    def num_outputs(self) -> int:
        return 2 if self.scale is None else 1

    def distribution(self, outputs) -> Any:
        scale = self.scale if self.scale is not None else self.smallest + positive(outputs[1])
        return dist.Independent(dist.Normal(outputs[0], scale), outputs.ndim - 1)

    def image(self, outputs):
        return outputs[0]

    def draw(self, key, outputs):
        return self.distribution(outputs).sample(key)
