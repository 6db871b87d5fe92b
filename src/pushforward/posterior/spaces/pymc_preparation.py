"""PyMC models as targets take them: which are refused by name, and angles in an interval."""

from typing import Any

import numpy as np

from pushforward.posterior.spaces.minibatch import ancestors


def prepared(model: Any) -> Any:
    """The model that a target is made of: a copy with angles in an interval if it has any, otherwise the model itself.

    Args:
        model: a PyMC model.

    Raises:
        ImportError: if PyMC is not installed.
        TypeError: if `model` is not a `pymc.Model`.
        ValueError: if the model has discrete free variables, no free variable, a random density, or a prior that has no
            transform to its support.
    """
    try:
        import pymc
    except ImportError as error:
        raise ImportError("Target.from_pymc needs PyMC: pip install 'pushforward[pymc]'.") from error
    if not isinstance(model, pymc.Model):
        raise TypeError(f"model must be a pymc.Model, but is of type {type(model).__name__}, in Target.from_pymc.")
    if not model.free_RVs:
        raise ValueError("the model has no free random variable, so there is nothing to infer.")
    discrete = [v.name for v in model.discrete_value_vars]
    if discrete:
        raise ValueError(
            f"the variables {', '.join(discrete)} are discrete, but a flow draws real numbers: marginalize them "
            "(pymc_extras.marginalize), or observe them."
        )
    _check_density(model)
    return _with_bounded_angles(model)


def _check_density(model: Any) -> None:
    """Refuse by name models whose likelihood is a simulation, and priors that have no transform to their support."""
    from pymc.distributions.multivariate import WishartRV
    from pymc.distributions.simulator import SimulatorRV

    matrices = [rv.name for rv in model.free_RVs if isinstance(rv.owner.op, WishartRV)]
    if matrices:
        raise ValueError(
            f"the variables {', '.join(matrices)} are a pm.Wishart, which has no transform to positive definite "
            "matrices: use pm.LKJCholeskyCov or pm.WishartBartlett."
        )

    simulated = [rv.name for rv in model.basic_RVs if isinstance(rv.owner.op, SimulatorRV)]
    if simulated:
        raise ValueError(
            f"the variables {', '.join(simulated)} are a pm.Simulator, whose likelihood is a simulation, no density; "
            "use pymc.sample_smc, or fit_amortized on simulated data sets."
        )


def check_not_random(model: Any, variables: list[Any]) -> None:
    """Check that variables are functions of the free ones.

    Args:
        model: a PyMC model.
        variables: its potentials, and the variables of its draws.

    Raises:
        ValueError: if a variable draws random numbers itself.
    """
    from pytensor.tensor.random.type import RandomType

    graphs = model.replace_rvs_by_values(variables)
    random = [
        variable.name
        for variable, graph in zip(variables, graphs, strict=True)
        if any(isinstance(ancestor.type, RandomType) for ancestor in ancestors([graph]))
    ]
    if random:
        raise ValueError(
            f"the variables {', '.join(random)} draw random numbers themselves, by the .dist() of a distribution or a "
            "random generator: make what they draw a variable of the model, with a name."
        )


def _with_bounded_angles(model: Any) -> Any:
    """With PyMC's transform angles run over all real numbers, so that the density is periodic and has no integral."""
    from pymc.distributions.transforms import Interval
    from pymc.logprob.transforms import CircularTransform

    angles = [rv for rv, transform in model.rvs_to_transforms.items() if isinstance(transform, CircularTransform)]
    if not angles:
        return model
    interval = Interval(-np.pi, np.pi)
    interval.name = CircularTransform.name  # which is a part of the names of unconstrained values
    # PyMC's own copies refuse models with initial values.
    copied = object.__new__(type(model))
    transforms = {**model.rvs_to_transforms, **dict.fromkeys(angles, interval)}
    vars(copied).update(vars(model), rvs_to_transforms=transforms)
    return copied
