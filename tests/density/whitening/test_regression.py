"""Heavy tails of columns, conditional on rows of a condition."""

import numpy as np

from pushforward.density.whitening.regression import fit_tail_transforms_given_condition


def test_tails_beside_a_kind_that_some_rows_lack():
    """As in the part of a file that fits into memory."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.standard_cauchy(500), np.zeros(500), rng.normal(size=500)])
    assert fit_tail_transforms_given_condition(rows, 1, np.ones(500)).tails[0] > 1
    rows[:, 2] = rows[:, 0]
    assert fit_tail_transforms_given_condition(rows, 1, np.ones(500)).tails[0] == 1
