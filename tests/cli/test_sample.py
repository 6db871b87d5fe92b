"""`pushforward sample`."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import pushforward as pf
from cli_cases import said
from pushforward.cli import main
from pushforward.density.result import NO_HISTORY


def test_sample_from_flows_and_posteriors(folder, capsys):
    flow = pf.flows.realnvp(2, key=jr.key(0), num_layers=1, hidden=(4,), cond_dim=1)
    pf.save("plain.flow", flow)
    assert main(["sample", "plain.flow", "--num", "3", "--given", "c0=1", "--out", "draws.npz"]) == 0
    assert list(np.load("draws.npz")) == ["x0", "x1"]
    target = pf.Target(lambda x: -0.5 * jnp.sum(x["a"] ** 2), {"a": jnp.zeros(2)})
    flow = pf.flows.linear(2, key=jr.key(0))
    zeros = jnp.zeros(4)
    diagnostics = pf.Diagnostics(*[0.0] * (len(pf.Diagnostics.__dataclass_fields__) - 3), 4, "good", ())
    posterior = pf.Posterior(target, flow, diagnostics, NO_HISTORY, jnp.arange(8.0).reshape(4, 2), zeros + 0.25)
    posterior.save(folder / "posterior.flow")
    capsys.readouterr()
    for option in ([], ["--resample"]):
        assert main(["sample", "posterior.flow", "--num", "5", *option]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "a[0],a[1]" and len(lines) == 6
    pf.save("other", {"a": 1})
    for arguments, words in (
        (["posterior.flow", "--given", "a=1"], "takes no condition"),
        (["plain.flow", "--resample"], "only draws of a posterior"),
        (["plain.flow", "--given", "c0"], "names and numbers"),
        (["plain.flow", "--num", "0"], "--num"),
        (["plain.flow", "--out", "no/where.csv"], "no folder no"),
        (["nowhere.flow"], "no file nowhere.flow"),
        (["data.csv"], "not a file of pushforward.save"),
        (["other"], "holds a dict"),
    ):
        assert main(["sample", *arguments]) == 2
        assert words in said(capsys)
