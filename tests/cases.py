"""One case for each bijection: `CASES[name](dim, key)`. A new bijection adds one line."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from numpyro.distributions import constraints

import pushforward as pf
from pushforward import bijections as bj
from pushforward.bijections.autoregressive.networks import SkipMLP
from pushforward.testing import randomize

HIDDEN = (8,)
COND_DIM = 2


def amortized(bijection, key):
    network = bj.MLP(COND_DIM, bj.num_parameters(bijection), HIDDEN, key=key)
    return bj.Amortized(bijection, network, (COND_DIM,))


def chain_conditional(dim, key):
    """A chain of conditional and unconditional parts."""
    coupling = bj.Coupling(bj.Affine(), dim, hidden=HIDDEN, cond_dim=COND_DIM, key=key)
    return bj.Chain([amortized(bj.Elementwise(bj.Affine(), dim), key), reversal(dim), coupling])


def scan(dim, key):
    """Layers as recipes build them: a coupling, then a permutation."""
    keys = jr.split(key, 2)
    return bj.Scan([bj.Chain([bj.Coupling(bj.Affine(), dim, hidden=HIDDEN, key=k), reversal(dim)]) for k in keys])


def concatenate(dim, key):
    """An unconditional part, and a conditional one of one coordinate, side by side."""
    chain = bj.Chain([bj.Triangular(dim - 1), bj.Elementwise(bj.SinhArcsinh(), dim - 1)])
    return bj.Concatenate([chain, amortized(bj.Elementwise(bj.Affine(), 1), key)])


def reversal(dim):
    return bj.Permutation(np.arange(dim)[::-1])


# Transformers for the cases below; bijections/autoregressive/test_transformer.py tests all of them.
TRANSFORMERS = {
    "affine": lambda: bj.Affine(0.5, 2.0),
    "spline": lambda: bj.RationalQuadraticSpline(bins=4, bound=3.0),
}

# Every scalar bijection onto the line or an interval.
SCALARS = {
    "affine": lambda: bj.Affine(0.5, 2.0),
    "shift": lambda: bj.Shift(0.5),
    "exp": bj.Exp,
    "softplus": bj.Softplus,
    "sigmoid": bj.Sigmoid,
    "tanh": bj.Tanh,
    "arctan": bj.Arctan,
    "leaky_relu": bj.LeakyReLU,
    "power": lambda: bj.Power(1.5),
    "yeo_johnson": lambda: bj.YeoJohnson(0.7),
    "sinh_arcsinh": lambda: bj.SinhArcsinh(0.5, 1.2),
    "linear_spline": lambda: bj.LinearSpline(bins=4, bound=3.0),
    "quadratic_spline": lambda: bj.QuadraticSpline(bins=4, bound=3.0),
    "cubic_spline": lambda: bj.CubicSpline(bins=4, bound=3.0),
    "rational_quadratic_spline": lambda: bj.RationalQuadraticSpline(bins=4, bound=3.0),
    "linear_rational_spline": lambda: bj.LinearRationalSpline(bins=4, bound=3.0),
    "deep_sigmoidal": lambda: bj.DeepSigmoidal(num_units=4),
    "integral_network": lambda: bj.IntegralNetwork(num_units=4, nodes=16, bound=3.0),
    "monotone_network": lambda: bj.MonotoneNetwork(hidden=(4, 4)),
}

CONDITIONERS = {
    "coupling": bj.Coupling,
    "masked_autoregressive": bj.MaskedAutoregressive,
}


def from_parents(dim, key):
    """Each coordinate depends only on the next one, so the last comes first in the order."""
    return bj.MaskedAutoregressive(bj.Affine(), dim, hidden=(dim,), adjacency=np.eye(dim, k=1, dtype=bool), key=key)


def gaussian_mixture(dim, key):
    """Two components that are close to each other."""
    factors = np.stack([np.eye(dim) + 0.3 * np.tri(dim, k=-1), 0.5 * np.eye(dim)])
    return pf.GaussianMixtureRosenblatt(
        jnp.array([0.7, 0.3]), jnp.stack([jnp.zeros(dim), jnp.ones(dim)]), jnp.asarray(factors)
    )


CASES = {
    "coupling_transformed_head": lambda dim, key: bj.Coupling(
        bj.Affine(),
        dim,
        mask=np.arange(dim) % 2 == 1,
        transform_head=True,
        cond_dim=COND_DIM,
        conditioner=lambda inputs, outputs, key: SkipMLP(inputs, outputs, HIDDEN, key=key),
        key=key,
    ),
    "masked_autoregressive_ordered": lambda dim, key: bj.MaskedAutoregressive(
        bj.Affine(), dim, hidden=HIDDEN, ordering=jr.permutation(key, dim), key=key
    ),
    "masked_autoregressive_from_parents": from_parents,
    "identity": lambda dim, key: bj.Identity((dim,)),
    "invert": lambda dim, key: bj.Invert(bj.Triangular(dim)),
    "chain": lambda dim, key: bj.Chain([bj.Triangular(dim), reversal(dim), bj.Elementwise(bj.Affine(), dim)]),
    "chain_conditional": chain_conditional,
    "scan": scan,
    "concatenate": concatenate,
    "permutation": lambda dim, key: bj.Permutation(np.asarray(jr.permutation(key, dim))),
    "triangular": lambda dim, key: bj.Triangular(dim),
    "quadratic": lambda dim, key: bj.QuadraticAutoregressive(dim),
    "banded": lambda dim, key: bj.Banded(dim, bands=jnp.eye(min(dim, 3), 1) + jnp.zeros((min(dim, 3), dim))),
    "arrow": lambda dim, key: bj.Arrow(bj.Triangular(1), bj.Banded(dim - 1)),
    "amortized": lambda dim, key: amortized(bj.Triangular(dim), key),
    "at_condition": lambda dim, key: bj.AtCondition(amortized(bj.Triangular(dim), key), jnp.array([0.5, -1.0])),
    "invert_conditional": lambda dim, key: bj.Invert(
        bj.MaskedAutoregressive(bj.Affine(), dim, hidden=HIDDEN, cond_dim=COND_DIM, key=key)
    ),
}

CASES |= {
    f"elementwise_{name}": lambda dim, key, scalar=scalar: bj.Elementwise(scalar(), dim)
    for name, scalar in TRANSFORMERS.items()
}

CASES |= {
    f"{kind}_{name}{'_conditional' if cond_dim else ''}": (
        lambda dim, key, of=conditioner, scalar=scalar, cond_dim=cond_dim: of(
            scalar(), dim, hidden=HIDDEN, cond_dim=cond_dim, key=key
        )
    )
    for kind, conditioner in CONDITIONERS.items()
    for name, scalar in TRANSFORMERS.items()
    for cond_dim in (None, COND_DIM)
}

# One small instance of every bijection.
CATALOGUE = {
    **{f"elementwise {name}": lambda dim, key, s=scalar: bj.Elementwise(s(), dim) for name, scalar in SCALARS.items()},
    "permutation": CASES["permutation"],
    "triangular": lambda dim, key: bj.Triangular(dim),
    "plu": lambda dim, key: bj.PLU(dim, key=key),
    "qr": lambda dim, key: bj.QR(dim, key=key),
    "orthogonal": lambda dim, key: bj.Orthogonal(dim, key=key),
    "rotation": lambda dim, key: bj.Rotation(bj.Orthogonal(dim, key=key).matrix),
    "coupling affine": CASES["coupling_affine_conditional"],
    "coupling spline": CASES["coupling_spline_conditional"],
    "coupling with transformed head": CASES["coupling_transformed_head"],
    "masked affine": CASES["masked_autoregressive_affine_conditional"],
    "masked spline": CASES["masked_autoregressive_spline"],
    "masked with ordering": CASES["masked_autoregressive_ordered"],
    "masked with adjacency": CASES["masked_autoregressive_from_parents"],
    "recurrent affine": lambda dim, key: bj.RecurrentAutoregressive(
        bj.Affine(), dim, hidden=HIDDEN, cond_dim=COND_DIM, key=key
    ),
    "planar": lambda dim, key: bj.Planar(dim, key=key),
    "radial": lambda dim, key: bj.Radial(dim, key=key),
    "sylvester": lambda dim, key: bj.Sylvester(dim, min(dim, 3), key=key),
    "triangular sylvester": lambda dim, key: bj.TriangularSylvester(dim, min(dim, 3), key=key),
    "contractive": lambda dim, key: bj.Contractive(dim, HIDDEN, cond_dim=COND_DIM, key=key),
    "continuous": lambda dim, key: bj.Continuous(dim, HIDDEN, cond_dim=COND_DIM, key=key),
    "rosenblatt of a mixture": gaussian_mixture,
    "amortized": CASES["amortized"],
    "at condition": CASES["at_condition"],
    "chain": CASES["chain_conditional"],
    "scan": CASES["scan"],
    "invert": CASES["invert_conditional"],
}


def transformer_of(scalar: str):
    """The scalar bijection, after an affine map if it has no arrays that a conditioner can set."""
    bijection = SCALARS[scalar]()
    return bijection if bj.num_parameters(bijection) else bj.Chain([bj.Affine(), bijection])


# Every transformer of the whole line with every conditioner, with and without a condition.
PRODUCT = {
    f"{kind} of {scalar}{' with a condition' if cond_dim else ''}": (
        lambda dim, key, make=make, scalar=scalar, cond_dim=cond_dim: make(
            transformer_of(scalar), dim, hidden=HIDDEN, cond_dim=cond_dim, key=key
        )
    )
    for kind, make in {**CONDITIONERS, "recurrent_autoregressive": bj.RecurrentAutoregressive}.items()
    for scalar in SCALARS
    if SCALARS[scalar]().domain is SCALARS[scalar]().codomain is constraints.real
    for cond_dim in (None, COND_DIM)
}

# Relative errors allowed in float64 other than the default 1e-9: the tolerance of the ODE solver.
TOLERANCES = {"continuous": 1e-7}


def rescaled(loc, scale):
    coupling = bj.Coupling(bj.Affine(), 3, cond_dim=2, hidden=(4,), key=jr.key(0))
    return bj.RescaledCondition(randomize(coupling, jr.key(1), 1.0), loc, scale)


def strictly_before(dim):
    return np.tril(np.ones((dim, dim), bool), -1)


def random_adjacency(seed, outputs, inputs):
    return np.random.default_rng(seed).random((outputs, inputs)) < 0.5
