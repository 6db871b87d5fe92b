"""The tree of a bijection and of a flow."""

import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import pushforward as pf
from pushforward import bijections as bj
from pushforward.bijections.outline import outline


def test_chains_conditioners_and_constants():
    spline = bj.RationalQuadraticSpline(bins=4)
    layer = bj.Coupling(spline, dim=4, hidden=(8,), cond_dim=2, key=jr.key(0))
    tree = outline(bj.Chain([bj.Frozen(bj.Triangular(4)), layer]))
    assert tree.name == "Chain" and tree.shape == "(4,) given (2,)" and tree.parameters == bj.num_parameters(layer)
    assert [part.name for part in tree.parts] == ["Frozen", "Coupling"] and tree.parts[0].parameters == 0
    assert {part.name for part in tree.parts[1].parts} >= {"RationalQuadraticSpline"}
    lines = str(tree).splitlines()
    assert lines[0] == f"Chain (4,) given (2,), {tree.parameters:,} parameters" and lines[1].startswith("  Frozen (4,)")


def test_flows_in_notebooks():
    flow = pf.Flow(pf.Learnable(dist.Normal(jnp.zeros(2), 1.0).to_event(1)), bj.Triangular(2))
    page = flow._repr_html_()
    assert "Learnable Independent (2,), 4 parameters" in page or "Learnable Independent (2,), 3 parameters" in page
    assert "Triangular (2,), 5 parameters" in page and page.count("<li>") == page.count("</li>")
    flow = pf.flows.nsf(dim=3, key=jr.key(0))
    assert f"{bj.num_parameters(flow):,} parameters" in flow._repr_html_()
