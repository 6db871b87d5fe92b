"""Recipes: the field's flows by their names, each a few lines over shared parts.

All take `dim`, a `key`, `cond_dim` for a conditional flow, and `base` (by default a standard normal). They start as the
identity up to permutations and rotations. If the two directions differ in cost, the docstring says which is faster. If
either can be the faster one, `fast` chooses: "sampling", for training on a density, or "density", for training on
samples. Both directions always work.
"""

from pushforward.flows.autoregressive import (
    arnsf as arnsf,
    iaf as iaf,
    maf as maf,
    naf as naf,
    nice as nice,
    nsf as nsf,
    realnvp as realnvp,
    unaf as unaf,
)
from pushforward.flows.circular import circular as circular
from pushforward.flows.linear import gaussianization as gaussianization, linear as linear
from pushforward.flows.residual import (
    continuous as continuous,
    planar as planar,
    radial as radial,
    residual as residual,
    sylvester as sylvester,
)
