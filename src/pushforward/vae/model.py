r"""The variational autoencoder: decoder $p(x \mid u)$, prior $p(u)$ and amortized posterior $q(u \mid x)$."""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.distributions.constraints import Constraint

from pushforward.arguments import FROM_ZERO, checked
from pushforward.bijections import AbstractBijection, Amortized, Chain, num_parameters
from pushforward.bijections.arrays import ArrayLike
from pushforward.bijections.intervals import bounds, same_interval
from pushforward.files import write_text
from pushforward.flow import Flow
from pushforward.reports.summary import Facts
from pushforward.reports.vae import plot_image_grids, vae_page
from pushforward.serialization import Picklable, save
from pushforward.training.history import History
from pushforward.training.objectives import sample_and_path_log_prob
from pushforward.vae.data import without_bytes
from pushforward.vae.evaluation import Evaluation, evaluate
from pushforward.vae.layout import Channels, find_channels
from pushforward.vae.likelihoods import AbstractLikelihood, Bernoulli
from pushforward.vae.pictures import all_pictures


class Terms(NamedTuple):
    r"""The terms of the variational bounds at draws $u \sim q(u \mid x)$, each of shape (num_samples, *batch).

    Attributes:
        log_likelihood: $\log p(x \mid u)$.
        log_prior: $\log p(u)$.
        log_posterior: $\log q(u \mid x)$.
    """

    log_likelihood: Float[Array, "samples *batch"]
    log_prior: Float[Array, "samples *batch"]
    log_posterior: Float[Array, "samples *batch"]

    @property
    def log_weight(self) -> Float[Array, "samples *batch"]:
        r"""$\log p(x \mid u) + \log p(u) - \log q(u \mid x)$."""
        return self.log_likelihood + self.log_prior - self.log_posterior


class VAE(Picklable):
    r"""A variational autoencoder whose posterior and prior are flows.

    The encoder maps an image to features $h$, the posterior is a flow conditioned on them, $q(u \mid h(x))$, and the
    decoder maps $u$ to the parameters of the likelihood. Training maximizes the
    $\mathrm{ELBO}(x) = E_{q(u \mid x)}[\log p(x \mid u) + \log p(u) - \log q(u \mid x)] \le \log p(x)$.
    With a Gaussian posterior and a standard normal prior this is the standard VAE. The KL divergence is always
    estimated from draws, also where a formula exists.

    Methods take leading batch axes. All values are in nats per image.

    Args:
        encoder: a function from one image to the features that the posterior is conditioned on.
        decoder: a function from one latent vector to the likelihood's outputs, of shape (num_outputs, *shape of an
            image).
        posterior: a conditional flow over latent vectors.
        prior: a flow over latent vectors, without condition.
        likelihood: the distribution of an image given the decoder's outputs; by default `Bernoulli()`.
        channels: which axis of an image pictures take for its channels, "first" or "last"; by default detected from the
            shape, "first" if that is not clear. It is None for images without such an axis.

    Raises:
        ValueError: if two parts do not fit together; the message names them and both sizes.

    References:
        Kingma and Welling, Auto-Encoding Variational Bayes (2014). https://arxiv.org/abs/1312.6114
        Papamakarios et al. (2021), section 6.2.3. https://arxiv.org/abs/1912.02762
    """

    encoder: Callable[[Array], Array]
    decoder: Callable[[Array], Array]
    posterior: Flow
    prior: Flow
    likelihood: AbstractLikelihood
    shape: tuple[int, ...] = eqx.field(static=True)
    channels: Channels | None = eqx.field(static=True)

    @checked()
    def __init__(
        self,
        encoder: Callable[[Array], Array],
        decoder: Callable[[Array], Array],
        posterior: Flow,
        prior: Flow,
        likelihood: AbstractLikelihood | None = None,
        *,
        channels: Channels | None = None,
    ):
        self.encoder, self.decoder, self.posterior, self.prior = encoder, decoder, posterior, prior
        self.likelihood = Bernoulli() if likelihood is None else likelihood
        _check_latents(posterior, prior)
        outputs = eqx.filter_eval_shape(decoder, jnp.zeros(prior.shape)).shape
        if len(outputs) < 2 or outputs[0] != self.likelihood.num_outputs:
            raise ValueError(
                f"the decoder must return {self.likelihood.num_outputs} arrays of the image's shape for a "
                f"{type(self.likelihood).__name__} likelihood, shape ({self.likelihood.num_outputs}, ...), but returns "
                f"shape {outputs}."
            )
        self.shape = outputs[1:]
        self.channels = find_channels(self.shape, channels, unclear="first")
        try:
            emitted = eqx.filter_eval_shape(encoder, jnp.zeros(self.shape)).shape
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the encoder does not accept images of shape {self.shape}, which the decoder returns: {error}"
            ) from error
        wanted = posterior.cond_shape or ()
        if emitted != wanted:
            raise ValueError(
                f"the encoder returns {math.prod(emitted)} numbers, shape {emitted}, but the posterior's first "
                f"conditional layer, {_first_conditional(posterior.bijection)}, takes "
                f"{math.prod(wanted)}, shape {wanted}."
            )

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a VAE of an earlier version, all of whose images had their channels first.

        Args:
            fields: the fields in the file.
        """
        return {"channels": "first" if len(fields.get("shape", ())) == 3 else None} | fields

    @property
    def dim(self) -> int:
        """The dimension of the latent space."""
        return math.prod(self.prior.shape)

    @checked()
    def encode(self, x: ArrayLike) -> Float[Array, "*batch features"]:
        """The features of images, on which the posterior is conditioned.

        Args:
            x: images, of shape (*batch, *shape).
        """
        return _map(self.encoder, self._images(x), len(self.shape))

    @checked()
    def decode(self, u: ArrayLike) -> Float[Array, "..."]:
        """The likelihood's outputs at latent vectors, of shape (*batch, num_outputs, *shape).

        Args:
            u: latent vectors, of shape (*batch, dim).
        """
        return _map(self.decoder, jnp.asarray(u), len(self.prior.shape))

    @checked(sample_shape=FROM_ZERO)
    def infer(self, x: ArrayLike, key: PRNGKeyArray, sample_shape: tuple[int, ...] = ()) -> Float[Array, "*batch dim"]:
        r"""Draws of $q(u \mid x)$, of shape (*sample_shape, *batch, dim).

        Args:
            x: images, of shape (*batch, *shape).
            key: the key for the draws.
            sample_shape: the shape of the draws for each image.
        """
        return self.posterior.sample(key, sample_shape, self.encode(x))

    @checked()
    def terms(self, x: ArrayLike, key: PRNGKeyArray, num_samples: int = 1, *, path_gradient: bool = False) -> Terms:
        r"""The terms of the variational bounds at draws of the posterior.

        Args:
            x: images, of shape (*batch, *shape).
            key: the key for the draws.
            num_samples: the number of draws for each image.
            path_gradient: whether the gradient of $\log q$ is the path gradient: through the draws only, without the
                score term.
        """
        x = self._images(x)
        if num_samples < 1:
            raise ValueError(f"a bound needs num_samples >= 1, but got num_samples={num_samples}.")
        features = self.encode(x)
        if path_gradient:
            u, log_q = sample_and_path_log_prob(self.posterior, key, (num_samples,), features)
        else:
            u, log_q = self.posterior.sample_and_log_prob(key, (num_samples,), features)
        outputs = self.decode(u)
        event = len(self.shape)
        flat = outputs.reshape(num_samples, -1, *outputs.shape[-event - 1 :])
        images = x.reshape(-1, *self.shape)
        log_likelihood = jax.vmap(jax.vmap(self.likelihood.log_prob), in_axes=(0, None))(flat, images)
        return Terms(log_likelihood.reshape(log_q.shape), self.prior.log_prob(u), log_q)

    @checked()
    def elbo(self, x: ArrayLike, key: PRNGKeyArray, num_samples: int = 1) -> Float[Array, "*batch"]:
        """An unbiased estimate of the ELBO of each image.

        Args:
            x: images, of shape (*batch, *shape).
            key: the key for the draws.
            num_samples: the number of draws for each image.
        """
        return self.terms(x, key, num_samples).log_weight.mean(0)

    @checked()
    def log_likelihood_estimate(
        self, x: ArrayLike, key: PRNGKeyArray, num_samples: int = 1000, *, chunk: int = 100
    ) -> Float[Array, "*batch"]:
        r"""$\log \frac1S \sum_s p(x, u_s) / q(u_s \mid x)$, an estimate of $\log p(x)$ by importance sampling.

        Its expectation is the importance-weighted bound, which approaches $\log p(x)$ from below as $S$ grows.

        Args:
            x: images, of shape (*batch, *shape).
            key: the key for the draws.
            num_samples: $S$.
            chunk: the number of draws of each image that are in memory at the same time.

        References:
            Burda et al., Importance Weighted Autoencoders (2016), equation 8. https://arxiv.org/abs/1509.00519
        """
        x = self._images(x)
        if num_samples < 1 or chunk < 1:
            raise ValueError(f"the estimate needs num_samples >= 1 and chunk >= 1, but got {num_samples} and {chunk}.")

        def more(total, count, key):
            return jnp.logaddexp(total, jax.nn.logsumexp(self.terms(x, key, count).log_weight, axis=0))

        full, rest = divmod(num_samples, chunk)
        last_key, *_ = keys = jr.split(key, full + 1)
        total = jnp.full(x.shape[: x.ndim - len(self.shape)], -jnp.inf, x.dtype)
        if full:
            total, _ = jax.lax.scan(lambda total, key: (more(total, chunk, key), None), total, keys[1:])
        if rest:
            total = more(total, rest, last_key)
        return total - math.log(num_samples)

    @checked(sample_shape=FROM_ZERO)
    def sample(
        self, key: PRNGKeyArray, sample_shape: tuple[int, ...] = (), *, expected: bool = False
    ) -> Float[Array, "..."]:
        """Draw images.

        Args:
            key: the key for the draws.
            sample_shape: the leading axes of the result.
            expected: whether to return the expected images at the drawn latent vectors, as in the figures of most
                papers, instead of draws of the likelihood.
        """
        latent_key, image_key = jr.split(key)
        outputs = self.decode(self.prior.sample(latent_key, sample_shape))
        if expected:
            return _map(self.likelihood.image, outputs, len(self.shape) + 1)
        keys = jr.split(image_key, math.prod(sample_shape))
        flat = outputs.reshape(-1, *outputs.shape[len(sample_shape) :])
        return jax.vmap(self.likelihood.draw)(keys, flat).reshape(*sample_shape, *self.shape)

    @checked()
    def image(self, u: ArrayLike) -> Float[Array, "..."]:
        """The expected images at latent vectors.

        Args:
            u: latent vectors, of shape (*batch, dim).
        """
        return _map(self.likelihood.image, self.decode(u), len(self.shape) + 1)

    @checked()
    def reconstruct(self, x: ArrayLike, key: PRNGKeyArray) -> Float[Array, "..."]:
        r"""The expected image at one draw of $q(u \mid x)$ for each image.

        Args:
            x: images, of shape (*batch, *shape).
            key: the key for the draws.
        """
        return self.image(self.infer(x, key))

    def summary(self) -> Facts:
        """The shape of an image, the likelihood, and the sizes of the parts."""
        parts = ("encoder", "decoder", "posterior", "prior")
        sizes = {f"parameters of the {name}": num_parameters(getattr(self, name)) for name in parts}
        layout = {} if self.channels is None else {"channels of an image": self.channels}
        facts = {"shape of an image": self.shape} | layout
        facts |= {"likelihood": self.likelihood, "latent dimensions": self.dim}
        return Facts(facts | sizes)

    @checked()
    def plot(self, images: ArrayLike, *, key: PRNGKeyArray) -> Any:
        """A Matplotlib figure of reconstructions, samples, traversals and interpolations.

        Args:
            images: test images, of shape (n, *shape); those with one axis or more than three cannot be shown.
            key: the key for the draws.
        """
        return plot_image_grids(all_pictures(self, self._images(images), key))

    @checked()
    def report(
        self,
        path: str | os.PathLike,
        images: ArrayLike | None = None,
        *,
        key: PRNGKeyArray,
        num_samples: int = 500,
        evaluation: Evaluation | None = None,
        history: History | None = None,
        title: str = "variational autoencoder",
        command: str = "",
    ) -> Evaluation | None:
        """Evaluate on test images, and write one self-contained HTML page: summary, evaluation and pictures.

        Args:
            path: the path of the page; its folder must exist.
            images: test images, of shape (n, *shape); without them, the page shows images drawn from the model.
            key: the key for the draws.
            num_samples: the number of draws per image for the likelihood.
            evaluation: the evaluation on these images, by default computed.
            history: the history of the training, for the curve of the ELBO.
            title: the title of the page.
            command: the command that repeats the training, for the page.

        Returns:
            The evaluation; None without images.
        """
        facts = self.summary()
        if images is not None:
            facts = Facts({**facts, "test images": np.shape(images)[0]})
            if evaluation is None:
                evaluation = evaluate(self, images, key=key, num_samples=num_samples)
        pictures = all_pictures(self, None if images is None else self._images(images), key)
        write_text(path, vae_page(title, facts, evaluation, pictures, history, command))
        return evaluation

    @checked()
    def save(self, path: str | os.PathLike) -> None:
        """Save the model to a file that `pushforward.load` reads.

        Args:
            path: the path of the file; it is replaced if it exists.
        """
        save(path, self.as_saved())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def _images(self, x: ArrayLike) -> Array:
        x = jnp.asarray(without_bytes(x), dtype=jnp.result_type(float))
        if x.shape[x.ndim - len(self.shape) :] != self.shape:
            raise ValueError(f"images must have shape (..., {', '.join(map(str, self.shape))}), but have {x.shape}.")
        return x


def _map(fn: Callable, x: Array, event: int) -> Array:
    """Apply a function of one event of `event` axes to an array with leading batch axes."""
    batch = x.shape[: x.ndim - event]
    if not batch:
        return fn(x)
    out = jax.vmap(fn)(x.reshape(-1, *x.shape[len(batch) :]))
    return out.reshape(*batch, *out.shape[1:])


def _check_latents(posterior: Flow, prior: Flow) -> None:
    if prior.cond_shape is not None:
        raise ValueError(f"the prior must take no condition, but takes one of shape {prior.cond_shape}.")
    if posterior.cond_shape is None:
        raise ValueError("the posterior must be a conditional flow, but takes no condition; build it with cond_dim.")
    if posterior.shape != prior.shape or len(prior.shape) != 1:
        raise ValueError(
            f"posterior and prior must be over vectors of the same size, but have shapes {posterior.shape} and "
            f"{prior.shape}."
        )
    one, other = _support(posterior), _support(prior)
    if not same_interval(one, other):
        raise ValueError(
            f"the posterior's support {one} differs from the prior's, {other}: where only the posterior has mass the "
            "ELBO is minus infinity, and where only the prior has mass the posterior cannot draw. End the posterior "
            "with a bijection onto the prior's support, such as Elementwise(Sigmoid(), dim) for the unit cube."
        )


def _support(flow: Flow) -> Constraint:
    """The support of a flow."""
    support = flow.base_distribution.support if flow.bijection.keeps_intervals else flow.bijection.codomain
    try:
        bounds(support)
    except ValueError as error:
        raise ValueError(f"the support of latent vectors must be a product of intervals, but is {support}.") from error
    return support


def _first_conditional(bijection: AbstractBijection) -> str:
    """The name of the first layer that takes the condition."""
    while isinstance(bijection, Chain):
        bijection = next(part for part in bijection.bijections if part.cond_shape is not None)
    if isinstance(bijection, Amortized):
        return f"Amortized {type(bijection.bijection).__name__}"
    return type(bijection).__name__
