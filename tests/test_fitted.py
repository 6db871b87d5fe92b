"""The page "What can be fitted", and the supports and refusals that it lists."""

import jax.numpy as jnp
import numpy as np
import pytest

import fitted_page
import pushforward as pf
from refused_cases import REFUSED, SUPPORTS


def test_the_page_is_what_its_generator_writes():
    assert fitted_page.PAGE.read_text() == fitted_page.page(), "run make fitted"


@pytest.mark.parametrize("name", SUPPORTS)
def test_supports_are_taken(name):
    constraint, value = SUPPORTS[name]
    target = pf.Target(lambda x: -jnp.sum(x**2) / 2, jnp.array(value), constraint)
    assert np.isfinite(target(target.start))
    np.testing.assert_allclose(target.constrain(target.start), value, atol=1e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name):
    case = REFUSED[name]
    if name.startswith("pymc"):
        pytest.importorskip("pymc")
    with pytest.raises(case.error, match=case.words):
        case.build()
