"""The machine that figures were measured on, and its load."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("pushforward", "flowjax", "jax", "jaxlib", "equinox", "optax", "numpyro")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def version(package: str) -> str | None:
    """The version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": f"{device} ({device.device_kind})",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    } | {name: version(name) for name in PACKAGES}


def load() -> float:
    """The machine's load over the last minute, 0 where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
