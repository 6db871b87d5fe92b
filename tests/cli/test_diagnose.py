"""`pushforward diagnose`: fresh draws, weights and a verdict of a saved fit on a model."""

import json

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import pushforward as pf
from cli_cases import said
from pushforward.cli import main
from pushforward.flows.stack import standard_normal

# The posterior of models.py:normal, whose data are 1, 2 and 3.
VARIANCE = 1 / (3 + 1 / 25)
COMMAND = ["models.py:normal", "--data", "data.json", "--num", "1000"]


def save_exact(shift=0.0, name="exact.flow"):
    affine = pf.bijections.Triangular(1, jnp.array([6 * VARIANCE + shift]), jnp.array([[VARIANCE**0.5]]))
    pf.Flow(standard_normal(1), affine).save(name)


def test_verdicts_of_flows_and_posteriors(files, capsys):
    save_exact()
    assert main(["diagnose", "exact.flow", *COMMAND, "--json", "--out", "out"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    summary = result["summary"]
    assert summary["verdict"] == "good" and summary["diagnostics"]["num_draws"] == 1000
    assert abs(summary["diagnostics"]["log_evidence"] - summary["diagnostics"]["elbo"]) < 1e-6
    assert sorted(result["written"]) == ["posterior.flow", "report.html", "summary.json"]
    assert json.loads((files / "out" / "summary.json").read_text()) == summary

    # The posterior that was written is diagnosed on other data, for which it is wrong.
    (files / "other.json").write_text(json.dumps({"y": [9.0, 9.0, 9.0]}))
    assert main(["diagnose", "out/posterior.flow", "models.py:normal", "--data", "other.json", "--num", "1000"]) == 0
    printed = said(capsys)
    assert "out/posterior.flow as a fit of models.py:normal" in printed and "verdict: unreliable" in printed
    loaded = pf.load("out/posterior.flow")
    assert loaded.diagnostics.verdict == "good" and np.ptp(loaded.pool_weights) < 1e-6


def test_fits_of_other_models_are_refused(files, capsys):
    (files / "wide.py").write_text((files / "models.py").read_text().replace('sample("mu"', 'sample("nu"'))
    save_exact()
    pf.flows.linear(2, key=jr.key(0)).save("two.flow")
    pf.save("other", {"a": 1})
    target = pf.Target(lambda x: -0.5 * x["mu"] ** 2, {"mu": jnp.array(0.0)})
    zeros = jnp.zeros(100)
    diagnostics = pf.Diagnostics(*[0.0] * 7, 100, "good", ())
    fields = (pf.load("exact.flow"), diagnostics, pf.training.History(np.zeros(0), ()), zeros[:, None], zeros + 0.01)
    pf.Posterior(target, *fields).save("posterior.flow")
    for saved, model, words in (
        ("two.flow", "models.py:normal", "two.flow: ~"),
        ("other", "models.py:normal", "holds a dict, but must hold a posterior"),
        ("posterior.flow", "wide.py:normal", "only the fit has mu; only the model has nu"),
        ("posterior.flow", "models.py:broken", "out of cheese"),
    ):
        assert main(["diagnose", saved, model, "--data", "data.json"]) == 2
        assert words.strip("~") in said(capsys) or words.endswith("~")
    assert main(["diagnose", "posterior.flow", *COMMAND, "--out", "."]) == 2
    assert "is the folder of posterior.flow, which would be replaced" in said(capsys)
    assert main(["diagnose", "exact.flow", *COMMAND[:3], "--num", "5"]) == 2
    assert "num_draws must be a whole number between 100 and" in said(capsys)
