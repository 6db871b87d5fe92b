"""Variational inference with normalizing flows.

The public names are listed in `__init__.pyi`. Each is imported when it is first used, which makes `import pushforward`
fast.
"""

import ast
import functools
import importlib
import sys
import types
from importlib.metadata import version as _version
from pathlib import Path
from typing import Any

__version__ = _version("pushforward")


@functools.cache
def _modules() -> dict[str, str]:
    """The module that defines each public name; for a public module, its own name."""
    modules = {}
    for node in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                modules[alias.name] = f"{__name__}.{alias.name}" if node.module == __name__ else node.module
    return modules


class _Package(types.ModuleType):
    """The package. Importing a submodule does not replace a public function of the same name, as `rosenblatt`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, types.ModuleType) or value.__name__ == _modules().get(name, value.__name__):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _modules():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_modules()[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_modules(), "__version__"])


sys.modules[__name__].__class__ = _Package
