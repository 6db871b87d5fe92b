"""Likelihoods p(x | u): distributions of images with pixels in [0, 1], parametrized by the decoder's outputs."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from pushforward.arguments import MAX_COUNT, POSITIVE, Range, check_fields
from pushforward.bijections.positive import positive


class AbstractLikelihood(eqx.Module):
    """The distribution of an image given the decoder's outputs, under which the pixels are independent.

    A decoder returns `num_outputs` arrays of the image's shape, stacked along the first axis.

    Examples:
        >>> import jax.numpy as jnp, numpyro.distributions as dist, pushforward as pf
        >>> class Laplace(pf.vae.AbstractLikelihood):  # pixels with a fixed scale; the decoder gives the median
        ...     discrete = False
        ...     num_outputs = 1
        ...
        ...     def distribution(self, outputs):
        ...         return dist.Independent(dist.Laplace(outputs[0], 0.1), outputs.ndim - 1)
        ...
        ...     def image(self, outputs):
        ...         return outputs[0]
        ...
        ...     def draw(self, key, outputs):
        ...         return self.distribution(outputs).sample(key)
        >>> Laplace().log_prob(jnp.zeros((1, 8, 8)), jnp.zeros((8, 8))).shape
        ()
    """

    # Whether pixels are discrete, so that `log_prob` is the log of a probability and bits per dimension are defined.
    discrete: ClassVar[bool]

    @property
    @abc.abstractmethod
    def num_outputs(self) -> int:
        """The number of decoder outputs for each pixel."""

    @abc.abstractmethod
    def distribution(self, outputs: Float[Array, "k *shape"]) -> Any:
        """The NumPyro distribution of `values`, with the image's axes as event axes.

        Args:
            outputs: the decoder's outputs.
        """

    def values(self, x: Float[Array, " *shape"]) -> Array:
        """The image as values of `distribution`: for example, class indices for a categorical distribution.

        Args:
            x: an image with pixels in [0, 1].
        """
        return x

    @abc.abstractmethod
    def image(self, outputs: Float[Array, "k *shape"]) -> Float[Array, " *shape"]:
        """The expected image.

        Args:
            outputs: the decoder's outputs.
        """

    @abc.abstractmethod
    def draw(self, key: Array, outputs: Float[Array, "k *shape"]) -> Float[Array, " *shape"]:
        """A random image, with pixels in [0, 1] if they are discrete.

        Args:
            key: the key for the draw.
            outputs: the decoder's outputs.
        """

    def log_prob(self, outputs: Float[Array, "k *shape"], x: Float[Array, " *shape"]) -> Float[Array, ""]:
        r"""$\log p(x \mid u)$ in nats.

        Args:
            outputs: the decoder's outputs at $u$.
            x: an image with pixels in [0, 1].
        """
        return self.distribution(outputs).log_prob(self.values(x))

    def check(self, x: np.ndarray) -> None:  # noqa: B027
        """Raise a ValueError if these images have probability zero under this likelihood.

        Args:
            x: images with pixels in [0, 1], of shape (n, *shape).
        """


class Bernoulli(AbstractLikelihood):
    """Black and white pixels; the decoder gives the logit of white."""

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
                "a Bernoulli likelihood needs pixels that are 0 or 1, but some lie strictly between; binarize them "
                "(`binarize=True` draws new black and white pixels for every batch), or use a Categorical or Gaussian "
                "likelihood."
            )


class Categorical(AbstractLikelihood):
    """Pixels with the gray levels 0, 1/(levels - 1), ..., 1; the decoder gives the logit of each level.

    Args:
        levels: the number of gray levels; 256 for 8-bit images.
    """

    levels: int = eqx.field(static=True, default=256)
    discrete: ClassVar[bool] = True

    def __check_init__(self):
        check_fields(self, levels=Range(2, MAX_COUNT))

    @property
    def num_outputs(self) -> int:
        return self.levels

    def distribution(self, outputs) -> Any:
        return dist.Independent(dist.Categorical(logits=jnp.moveaxis(outputs, 0, -1)), outputs.ndim - 1)

    def values(self, x):
        return jnp.round(x * (self.levels - 1)).astype(int)

    def image(self, outputs):
        gray = jnp.linspace(0, 1, self.levels, dtype=outputs.dtype)
        return jnp.tensordot(gray, jax.nn.softmax(outputs, axis=0), axes=1)

    def draw(self, key, outputs):
        return self.distribution(outputs).sample(key).astype(outputs.dtype) / (self.levels - 1)

    def check(self, x):
        steps = x * (self.levels - 1)
        # The tolerance covers 8-bit gray levels that were divided in single precision.
        if np.any(np.abs(steps - np.round(steps)) > 1e-3):
            raise ValueError(
                f"a Categorical likelihood with {self.levels} levels needs pixels k/{self.levels - 1}, but some lie "
                "between those levels; use the number of levels of the images, or a Gaussian likelihood."
            )


class Gaussian(AbstractLikelihood):
    r"""Continuous pixels, each distributed as $N(\mu, \sigma^2)$; the decoder gives $\mu$.

    Args:
        scale: $\sigma$ of all pixels; if None, the decoder gives $\sigma$ of each pixel as a second output.
        min_scale: a lower bound of $\sigma$ if the decoder gives it. Without a bound the likelihood is unbounded.
    """

    scale: float | None = eqx.field(static=True, default=None)
    min_scale: float = eqx.field(static=True, default=0.01)
    discrete: ClassVar[bool] = False

    def __check_init__(self):
        check_fields(self, scale=POSITIVE, min_scale=POSITIVE)

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a likelihood of version 0.1.0, where `min_scale` had another name.

        Args:
            fields: the fields in the file.
        """
        return {"min_scale" if name == "smallest" else name: value for name, value in fields.items()}

    @property
    def num_outputs(self) -> int:
        return 2 if self.scale is None else 1

    def distribution(self, outputs) -> Any:
        scale = self.scale if self.scale is not None else self.min_scale + positive(outputs[1])
        return dist.Independent(dist.Normal(outputs[0], scale), outputs.ndim - 1)

    def image(self, outputs):
        return outputs[0]

    def draw(self, key, outputs):
        return self.distribution(outputs).sample(key)
