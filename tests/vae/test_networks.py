"""Encoders and decoders."""

import jax.numpy as jnp
import pytest

from products import few
from pushforward import vae as pv
from vae_cases import KEY


@pytest.mark.parametrize("shape", few([(8, 8), (7, 9), (2, 5, 6)], (2, 5, 6)))
def test_convolutions_mirror_each_other(shape):
    encoder, decoder = pv.conv_pair(shape, 3, 2, key=KEY, channels=(4, 4, 6, 6), features=5)
    assert encoder(jnp.zeros(shape)).shape == (5,)
    assert decoder(jnp.zeros(3)).shape == (2, *shape)
