"""How many modes a search did not find, from how often it reached the others."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.posterior.search.candidates import Candidate
from pushforward.posterior.search.census import Census, Round
from pushforward.posterior.search.gaussians import find_candidates


def at(place, mass=1.0, decrement=0.0):
    return Candidate(np.array([float(place), 0.0]), np.eye(2), np.log(mass), 0.01, decrement)


def reached(*places):
    """The census of paths that ended at these places."""
    return Census.of([Round(None, [at(place) for place in places])])


@pytest.mark.parametrize(
    ("places", "unseen"),
    [
        ([0, 0, 0, 0], 0),
        ([0], 0),
        ([0, 0, 0, 10, 10, 10], 0),
        ([0, 0, 0, 0, 10], 0.5 / 2),
        ([0, 0, 0, 10, 20, 30, 40], 4**2 / 2 / 5),
        ([0, 0, 0, 10, 10, 20, 20, 30, 40], 2**2 / (2 * 2) / 5),
    ],
)
def test_modes_reached_once_show_others(places, unseen):
    assert reached(*places).unseen == pytest.approx(unseen)


def test_the_estimate_is_the_mass_of_the_modes_that_random_paths_miss():
    """Sixty paths to a hundred modes of the same mass."""
    rng = np.random.default_rng(0)
    estimates, truths = [], []
    for _ in range(50):
        places = 10 * rng.integers(100, size=60)
        num = len(set(places))
        estimates.append(reached(*places).unseen)
        truths.append((100 - num) / num)
    assert np.mean(estimates) == pytest.approx(np.mean(truths), rel=0.2)


def test_paths_from_near_a_mode_do_not_count_for_it():
    near = Round(at(10), [at(10)] * 20 + [at(0)])
    census = Census.of([Round(None, [at(0), at(0), at(10)]), near])
    assert [mode.count for mode in census.modes] == [3, 1] or [mode.count for mode in census.modes] == [1, 3]
    assert census.unseen > 0


def test_gaussians_that_are_no_modes_and_tiny_modes_do_not_count():
    census = Census.of([Round(None, [at(0), at(0), at(30, decrement=2.0), at(20, mass=1e-6)])])
    assert len(census.modes) == 1 and census.unseen == 0


def test_points_of_a_ridge_are_no_separate_modes():
    rng = np.random.default_rng(0)
    census = reached(0, 0, 10, 20, 30)
    ridge = np.stack([rng.uniform(-10, 40, 20_000), rng.normal(size=20_000)], 1)
    islands = rng.choice([0, 10, 20, 30], 20_000)[:, None] * [1, 0] + rng.normal(size=(20_000, 2))
    ones = np.ones(20_000)
    assert not census.separate(ridge, ones).modes
    assert census.separate(islands, ones) == census
    assert census.separate(islands[:1] + 1000, ones[:1]) == census  # the fit has none of them


def test_a_search_with_many_modes_goes_on_until_it_finds_no_more():
    """Twenty modes of 1 % each, 30 standard deviations around one of 80 %."""
    rng = np.random.default_rng(1)
    places = rng.normal(size=(20, 5))
    places *= 30 / np.linalg.norm(places, axis=1, keepdims=True)
    locs = jnp.asarray(np.concatenate([np.zeros((1, 5)), places]))
    log_weights = jnp.log(jnp.asarray([0.8] + 20 * [0.01]))

    def log_density(x):
        parts = log_weights - 0.5 * jnp.sum((x - locs) ** 2, 1) - 2.5 * jnp.log(2 * jnp.pi)
        return jnp.logaddexp.reduce(parts)

    found = find_candidates(log_density, jnp.zeros(5), jr.key(0))
    assert len(found.census.modes) >= 20 and found.census.unseen < 0.005
    for mode in found.census.modes:
        assert np.linalg.norm(mode.candidate.loc - locs, axis=1).min() < 0.1
