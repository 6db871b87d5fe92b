"""What cannot fit into memory is refused."""

import os

import jax.numpy as jnp
import jax.random as jr
import pytest

import pushforward as pf
from pushforward.memory import check_memory

KNOWN = pytest.mark.skipif(
    "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}), reason="the size of memory is unknown here"
)


def test_what_fits_passes():
    check_memory(1e3, "draws", "take fewer")


@pytest.mark.skipif(
    "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}), reason="the size of memory is unknown here"
)
def test_more_than_the_machine_has():
    with pytest.raises(ValueError, match=r"draws need about 1e\+09 GB of memory \(1,000,000.* bytes\).*take"):
        check_memory(1e18, "draws", "take fewer")


@pytest.mark.skipif(
    "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}), reason="the size of memory is unknown here"
)
def test_too_many_dimensions_for_a_fit(monkeypatch):
    sizes = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    target = pf.Target(lambda x: -jnp.sum(x**2), jnp.zeros(100))
    with pytest.raises(ValueError, match=r"100 dimensions need about .* bytes\)"):
        pf.fit_posterior(target, key=jr.key(0))
