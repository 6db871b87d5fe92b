"""`pushforward report`: a page of everything that can be saved."""

import json

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pushforward as pf
from cli_cases import said
from pushforward.cli import main
from pushforward.density import Density
from pushforward.density.result import NO_HISTORY
from vae_cases import SHAPE, images, small


def posterior(**provenance):
    target = pf.Target(lambda x: -0.5 * jnp.sum(x["a"] ** 2), {"a": jnp.zeros(2)})
    diagnostics = pf.Diagnostics(*[0.5] * 7, 100, "reweight", ("near",))
    flow, pool = pf.flows.linear(2, key=jr.key(0)), jr.normal(jr.key(1), (100, 2))
    facts = tuple(provenance.items())
    return pf.Posterior(target, flow, diagnostics, NO_HISTORY, pool, jnp.full(100, 0.01), facts)


def test_posteriors(folder, capsys):
    posterior(command="pushforward fit m.py:f").save("posterior.flow")
    assert main(["report", "posterior.flow"]) == 0
    assert "wrote posterior.html" in said(capsys)
    page = (folder / "posterior.html").read_text()
    assert "Verdict: reweight" in page and "pushforward fit m.py:f" in page and "<td>a[1]" in page
    assert main(["report", "posterior.flow", "--out", "a/b", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["written"] == ["report.html"] and (folder / "a" / "b" / "report.html").exists()
    assert result["summary"] == {"kind": "Posterior", "verdict": "reweight"}
    posterior(call="pf.fit_posterior(target)").save("posterior.flow")
    assert main(["report", "posterior.flow", "--out", "page.htm"]) == 0
    assert "pf.fit_posterior(target)" in (folder / "page.htm").read_text()


def test_densities_and_flows(folder, capsys):
    """Without rows there is no verdict; rows may have further columns, in another order."""
    flow = pf.flows.linear(2, key=jr.key(0))
    flow.save("plain.flow")
    density = Density.of(flow)
    columns = {"columns": ("noise", "count"), "key": jr.key(0)}
    Density(**{**vars(density), **columns}).save("density.flow")
    for name, shown in (("plain", "x1"), ("density", "noise")):
        assert main(["report", f"{name}.flow", "--out", f"{name}.html"]) == 0
        page = (folder / f"{name}.html").read_text()
        assert "Verdict: not evaluated" in page and f"<td>{shown}" in page and "<td>mean" not in page
    said(capsys)
    assert main(["report", "density.flow", "--data", "data.csv", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    page = (folder / "density.html").read_text()
    assert f"Verdict: {result['summary']['verdict']}" in page
    assert "Log-likelihood of 300 test rows" in page and "Verdict: not evaluated" not in page
    given = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,), cond_dim=1)
    given.save("given.flow")
    assert main(["report", "given.flow"]) == 0
    said(capsys)
    assert main(["report", "density.flow", "--data", "data.json"]) == 2
    assert "no file data.json" in said(capsys)
    assert main(["report", "plain.flow", "--data", "data.csv"]) == 2
    assert "data.csv has no column x0; it has size, count, wind, noise" in said(capsys)


def test_vaes(folder, capsys):
    small().save("model.vae")
    np.savez("images.npz", train=images(4), test=images(6))
    np.save("other.npy", np.zeros((4, 2, 2)))
    assert main(["report", "model.vae"]) == 0
    page = (folder / "model.html").read_text()
    assert "Verdict: not evaluated" in page and page.count("data:image/png") == 1
    said(capsys)
    assert main(["report", "model.vae", "--data", "images.npz", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert f"Verdict: {result['summary']['verdict']}" in (folder / "model.html").read_text()
    assert "<td>test images<td>6" in (folder / "model.html").read_text()
    # Gray pixels are drawn as black and white, as for training.
    np.save("gray.npy", 0.3 + 0.4 * images(6))
    assert main(["report", "model.vae", "--data", "gray.npy"]) == 0
    np.savez("train.npz", train=images(6))
    said(capsys)
    assert main(["report", "model.vae", "--data", "train.npz"]) == 2
    assert 'has an array "train", but no array "test"' in said(capsys)
    assert main(["report", "model.vae", "--data", "other.npy"]) == 2
    assert f"images have shape (2, 2), but those of the model have {SHAPE}" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["other"], "holds a dict, which has no report"),
        (["posterior.flow", "--data", "data.csv"], "remove --data"),
        (["posterior.flow", "--out", "foreign.html"], "foreign.html, which pushforward did not write"),
        (["posterior.flow", "--out", "data.csv"], "cannot be written: File exists"),
        (["saved.html"], "the page saved.html would replace the saved file"),
        (["posterior.flow", "--out", "taken.html/"], "is a folder"),
    ],
)
def test_errors_are_one_paragraph(folder, capsys, arguments, words):
    posterior().save("posterior.flow")
    posterior().save("saved.html")
    pf.save("other", {"a": 1})
    (folder / "foreign.html").write_text("mine")
    (folder / "taken.html" / "report.html").mkdir(parents=True)
    assert main(["report", *arguments]) == 2
    assert words in said(capsys)
    assert (folder / "foreign.html").read_text() == "mine"
