"""The names of classes, functions and constraints in files: which there are, and which of them a file may use."""

import importlib
import sys
import types
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.constraints import Constraint

from pushforward.serialization.classes import is_data_class

# The names that a file may use without being trusted. Instances of some classes call a function with arguments, and a
# file can choose both. So functions must be JAX-compiled or ufuncs, or come from a module of functions without effects
# (`pushforward.save`, for example, writes a file). Equinox itself is left out because its wrappers call functions.
PACKAGES = ("pushforward", "numpyro", "jax", "equinox.nn", "diffrax", "optax", "numpy", "builtins")
# What loading may import for such a name. Anything else must have been imported before, because an import runs code.
OWN_PACKAGES = ("bijections", "rosenblatt", "flow", "training", "density", "posterior", "vae", "numpyro")
IMPORTED_WHOLE = tuple(f"pushforward.{name}" for name in OWN_PACKAGES)
IMPORTED_ALONE = (
    "pushforward",
    "numpyro.distributions",
    "equinox.nn",
    "diffrax",
    "optax",
    "jax.nn",
    "jax.scipy.special",
)
COMPILED = (jax.stages.Wrapped, jax.custom_jvp, jax.custom_vjp, jnp.ufunc, np.ufunc)
FUNCTIONS = ("pushforward.bijections", "pushforward.rosenblatt", "equinox.nn", "jax.nn", "jax.lax", "jax.scipy")
SCALARS = (int, float, complex, str, np.generic)
# The current names of classes and functions that files of earlier versions use under old names.
RENAMED: dict[str, str] = {
    "pushforward.bijections.conditionals:_Always": "pushforward.rosenblatt.conditionals:_Always",
    "pushforward.bijections.conditionals:NumPyroLaw": "pushforward.rosenblatt.conditionals:UnivariateNumPyro",
    "pushforward.bijections.panels:Grid": "pushforward.rosenblatt.panels:Grid",
    "pushforward.bijections.quadrature:PanelLaw": "pushforward.rosenblatt.quadrature:PanelDistribution",
    "pushforward.bijections.quadrature:_Slice": "pushforward.rosenblatt.quadrature:_Slice",
    "pushforward.bijections.rosenblatt:GaussianMixtureLaw": "pushforward.rosenblatt.mixture:UnivariateGaussianMixture",
    "pushforward.bijections:ConditionalRosenblatt": "pushforward.rosenblatt.conditionals:ConditionalRosenblatt",
    "pushforward.bijections:GaussianMixtureRosenblatt": "pushforward.rosenblatt.mixture:GaussianMixtureRosenblatt",
    "pushforward.bijections:QuadratureRosenblatt": "pushforward.rosenblatt.quadrature:QuadratureRosenblatt",
    "pushforward:NamedFlow": "pushforward.density.result:Density",
    "pushforward.universality:Rosenblatt": "pushforward.rosenblatt.transport:Rosenblatt",
    "pushforward.universality:_Coordinate": "pushforward.rosenblatt.transport:_Coordinate",
    # These two were functions that found the data in a target.
    "pushforward.posterior.amortized:_density_data": "pushforward.posterior.spaces.base:SupportSpace",
    "pushforward.posterior.amortized:_model_data": "pushforward.posterior.spaces.numpyro:NumpyroSpace",
    "pushforward.posterior.amortized:_Given": "pushforward.posterior.conditional:JointAtData",
    "pushforward.posterior.amortized:_all_numbers": "pushforward.posterior.amortized:AllNumbers",
    "pushforward.posterior.amortized:AtCondition": "pushforward.bijections.amortized:AtCondition",
    "pushforward.posterior.amortized:Ranks": "pushforward.posterior.ranks:Ranks",
    "pushforward.posterior.candidates:Candidate": "pushforward.posterior.search.candidates:Candidate",
    "pushforward.posterior.numpyro_model:NumpyroSpace": "pushforward.posterior.spaces.numpyro:NumpyroSpace",
    "pushforward.posterior.posterior:TracePoint": "pushforward.training.history:Evaluation",
    "pushforward.posterior.precondition:Candidate": "pushforward.posterior.search.candidates:Candidate",
    "pushforward.posterior.target:Labels": "pushforward.posterior.spaces.base:Labels",
    "pushforward.posterior.target:SupportSpace": "pushforward.posterior.spaces.base:SupportSpace",
}
# The `__module__` of JAX's functions is private; these public names are more stable.
PUBLIC = ("jax.nn", "jax.numpy", "jax.lax", "jax.scipy.special")


class Refused(Exception):
    """Something in a file that is not read; the message says what, without the name of the file at its beginning."""


def import_name(x: Any) -> str | None:
    """The most public name by which an object can be imported, as "module:name"; None if there is none.

    Args:
        x: a class, a function or a constraint.
    """
    parts = (getattr(x, "__module__", None) or "").split(".")
    for module in (*PUBLIC, *(".".join(parts[: n + 1]) for n in range(len(parts)))):
        members = dict(vars(sys.modules[module])) if module in sys.modules else {}
        own = getattr(x, "__name__", "")  # constraints have none
        if module == "pushforward" and own:
            members[own] = getattr(sys.modules[module], own, None)  # public names may not be imported yet
        for name in (own, *members):
            if members.get(name) is x:
                return f"{module}:{name}"
    return None


def resolve(name: str, trusted: Sequence[str] | None) -> Any:
    """The class, function or constraint with a name, if the file may use it.

    Args:
        name: the name, as "module:name".
        trusted: the modules and packages that are imported and used without a check; None for all.

    Raises:
        Refused: if the file may not use it, or it does not exist.
    """
    module, _, attribute = RENAMED.get(name, name).partition(":")
    if trusted is None or _within(module, trusted):
        return _found(name, module, attribute, trust=True)
    if _within(module, PACKAGES) and "__main__" not in module:
        found = _found(name, module, attribute, trust=False)
        if _is_harmless(found, module):
            return found
    raise Refused(
        f"uses {shown(name)}, which files may not use by default. If you trust this file and that code, load it with "
        f"trusted=({shown(module)!r},)."
    )


def _found(name: str, module: str, attribute: str, trust: bool) -> Any:
    """What a name stands for; nothing is imported that may not be."""
    importable = trust or module in IMPORTED_ALONE or _within(module, IMPORTED_WHOLE)
    try:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ImportError(f"{module} is not a name of a module")
        loaded = importlib.import_module(module) if importable else sys.modules[module]
        # Modules of other packages may import something when they are asked for an unknown attribute.
        return getattr(loaded, attribute) if importable else vars(loaded)[attribute]
    except (ImportError, AttributeError) as error:
        raise Refused(f"needs {shown(name)}, which does not exist: {shown(str(error))}.") from error
    except KeyError:
        raise Refused(
            f"needs {shown(name)}, which does not exist, or is in a module that files may not import. If you trust "
            f"this file and that code, load it with trusted=({shown(module)!r},)."
        ) from None
    except Exception as error:
        problem = f"{type(error).__name__}: {shown(str(error))}"
        raise Refused(f"needs {shown(name)}, which cannot be imported: {problem}.") from error


def shown(text: str) -> str:
    """Text from a file for a message: not too long, and without control characters.

    Args:
        text: the text.
    """
    text = text if len(text) <= 300 else f"{text[:300]} ..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _is_harmless(found: Any, module: str) -> bool:
    """Whether a file may use an attribute of a module in PACKAGES, which may have imported it from elsewhere."""
    return _within(getattr(found, "__module__", None) or module, PACKAGES) and (
        isinstance(found, (Constraint, *COMPILED))
        or is_data_class(found)
        or (isinstance(found, type) and issubclass(found, SCALARS))
        or isinstance(getattr(found, "dtype", None), np.dtype)  # such as jnp.float32
        or (isinstance(found, types.FunctionType) and _within(module, FUNCTIONS))
    )


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
