"""Fits of the examples against published reference draws."""

import json
import math

import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from pushforward import examples


@pytest.mark.conformance
@pytest.mark.parametrize("model", [examples.eight_schools_centered])
def test_eight_schools_against_reference_draws(model, reference_data):
    folder = reference_data / "posteriordb"
    entry = json.loads((folder / "index.json").read_text())[f"eight_schools-{model.__name__}"]
    reference = np.load(folder / entry["draws"])
    # The reference's Cauchy is a full one on a half line; NumPyro's HalfCauchy is twice that.
    log_evidence = entry["log_evidence"] + math.log(2)
    posterior = pf.fit_posterior(pf.Target.from_numpyro(model, **examples.EIGHT_SCHOOLS), key=jr.key(3))
    assert abs(posterior.diagnostics.elbo - log_evidence) < 0.05
    for draws in (posterior.sample(jr.key(4), 20_000), posterior.resample(jr.key(4), 20_000)):
        columns = {"mu": draws["mu"], "tau": draws["tau"]}
        columns |= {f"theta[{i + 1}]": draws["theta"][:, i] for i in range(8)}
        for name, expected in zip(reference["names"], reference["draws"].T, strict=True):
            if name in columns:
                assert abs(columns[name].mean() - expected.mean()) < 0.1 * expected.std(), name
                assert abs(columns[name].std() - expected.std()) < 0.1 * expected.std(), name
