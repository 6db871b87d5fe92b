"""A fit is assessed only on targets whose unconstrained vectors stand for the same draws."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.posterior.same_coordinates import check_same_coordinates

U = np.random.default_rng(0).normal(size=(20, 3))


def model(upper=1.0, names=("a", "b"), size=2):
    def code():
        numpyro.sample(names[0], dist.Uniform(0, upper))
        x = numpyro.sample(names[1], dist.Normal(0, 1).expand([size]).to_event(1))
        numpyro.deterministic("sum", x.sum())

    return pf.Target.from_numpyro(code)


def test_same_models_pass_also_without_their_code():
    check_same_coordinates(model(), model(), U)
    check_same_coordinates(model().detached(), model(), U)
    plain = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(3))
    check_same_coordinates(plain.detached(), plain, U)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: model(upper=2.0), "supports of a differ"),
        (lambda: model(names=("a", "c")), r"only the fit has b\[0\], b\[1\]; only the model has c\[0\], c\[1\]"),
        (lambda: model(size=3), r"this model: only the model has b\[2\]"),
    ],
)
def test_other_models_are_named(other, words):
    """A uniform prior on (0, 1) and one on (0, 2) have the same density in unconstrained coordinates."""
    with pytest.raises(ValueError, match=words):
        check_same_coordinates(model().detached(), other(), U)
    with pytest.raises(TypeError, match=r"must be a pushforward.Target, but is a function"):
        check_same_coordinates(model(), lambda x: x, U)
