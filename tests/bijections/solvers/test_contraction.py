"""Fixed points of contractions; maps without one give NaN."""

import jax.numpy as jnp
import numpy as np

from pushforward.bijections.solvers.contraction import solve_contraction


def test_contraction_converges_near_the_limit_and_reports_failure():
    rotation = jnp.array([[0.0, -1.0], [1.0, 0.0]])

    def step(y, scale):
        return scale * (rotation @ y) + 1.0

    for rate in (0.5, 0.9, 0.999):
        y = solve_contraction(step, jnp.zeros(2), rate, rate)
        np.testing.assert_allclose(y, np.linalg.solve(np.eye(2) - rate * rotation, np.ones(2)), atol=1e-12)

    # Not a contraction, contrary to the given rate: the iteration cannot find a fixed point.
    def runaway(y, _):
        return 2 * y + 1

    assert np.isnan(solve_contraction(runaway, jnp.ones(2), None, 0.9)).all()
