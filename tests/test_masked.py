"""Masked entries are found in any container, and never count as observed."""

import dataclasses
import types

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pushforward as pf
from pushforward.masked import check_unmasked, has_masked, without_masks

MASKED = np.ma.array([0.1, 50.0, 0.4], mask=[0, 1, 0])


@dataclasses.dataclass
class Record:
    y: np.ndarray


PLACES = {
    "y": MASKED,
    "y[0]['a']": [{"a": MASKED}],
    "y['a']": {1: 2.0, "a": MASKED},  # JAX cannot sort these keys
    "y[0].y": [Record(MASKED)],
    "y.y": types.SimpleNamespace(x=1, y=MASKED),
    "y[1]": np.array([None, MASKED], dtype=object),
    "y[2]": (1.0, 2.0, np.ma.masked),
}


@pytest.mark.parametrize("place", PLACES)
def test_masked_entries_are_found(place):
    with pytest.raises(ValueError) as caught:
        check_unmasked("y", PLACES[place], "leave them out")
    assert str(caught.value).startswith(f"{place} is a masked array with 1 masked entries")
    assert has_masked(PLACES[place])


@pytest.mark.parametrize("value", [np.ma.array([1.0, 2.0]), [1.0, "text", None, {2}], np.ones(3), Record(np.ones(2))])
def test_all_else_is_allowed(value):
    check_unmasked("y", value, "leave them out")


def test_masks_without_masked_entries_are_removed():
    kept = {1: 2, "a": "text"}
    plain, same, frame = without_masks([np.ma.array([1.0, 2.0]), kept, None])
    assert type(plain) is np.ndarray and plain.tolist() == [1.0, 2.0]
    assert same is kept and frame is None


def of_arguments(x, y, z=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def of_data_inside():
    numpyro.sample("y", dist.Normal(numpyro.sample("slope", dist.Normal(0.0, 2.0)), 1.0), obs=MASKED)


def of_rows(data):
    def log_likelihood(draw, rows):
        return -0.5 * (rows["y"] - draw) ** 2

    return pf.Target(lambda draw: -0.5 * draw**2, 0.0, log_likelihood=log_likelihood, data=data)


def incomplete(**options):
    return pf.fit_density(np.random.default_rng(0).normal(size=(3, 1)), key=jr.key(0), **options)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pf.Target.from_numpyro(of_arguments, np.ones(3), MASKED), "the argument y is a masked"),
        (lambda: pf.Target.from_numpyro(of_arguments, MASKED, np.ones(3)), "the argument x is a masked"),
        (
            lambda: pf.Target.from_numpyro(of_arguments, np.ones(3), np.ones(3), z=[MASKED]),
            r"the argument z\[0\] is a masked",
        ),
        (lambda: pf.Target.from_numpyro(of_data_inside), "the observation of the site y is a masked.*obs_mask="),
        (lambda: pf.ConditionalTarget.from_numpyro(of_arguments, np.ones(3), MASKED), "the argument y"),
        (lambda: pf.ConditionalTarget.from_numpyro(of_arguments, MASKED, np.ones(3)), "data must be an array"),
        (lambda: of_rows({"x": np.ones(3), "y": MASKED}), r"data\['y'\] is a masked array with 1 masked entries"),
        (lambda: pf.Target(lambda draw: -jnp.sum(draw**2), MASKED), "example must be a real array.*are masked"),
        (lambda: pf.ForwardKL(MASKED), "data must be an array of real numbers.*are masked"),
        (lambda: incomplete(weights=MASKED), "weights is a masked array"),
        (lambda: pf.fit_density([MASKED[:, None]] * 3, key=jr.key(0)), "x has masked values"),
        (lambda: pf.fit_vae([np.ma.masked_less(np.eye(8), 0.5)] * 40, key=jr.key(0)), "images.*masked"),
    ],
)
def test_masked_entries_are_refused(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()


def test_memory_mapped_rows_do_not_hide_masked_ones(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=r"data\['y'\] is a masked array"):
        of_rows({"x": mapped, "y": MASKED})


def test_arrays_without_masked_entries_are_arguments():
    complete = np.ma.array([0.1, 0.2, 0.4])
    masked, plain = (pf.Target.from_numpyro(of_arguments, y, y) for y in (complete, np.asarray(complete)))
    assert masked(jnp.ones(1)) == plain(jnp.ones(1))
    masked, plain = (of_rows({"y": y}) for y in (complete, np.asarray(complete)))
    assert masked(jnp.ones(1)) == plain(jnp.ones(1))
