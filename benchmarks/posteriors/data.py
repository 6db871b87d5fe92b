"""The published data: where they are, and how to read their files."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = "PUSHFORWARD_DATA"
DEFAULT = Path(__file__).parents[3] / "shared" / "data"


def find_data(folder: str | Path | None = None) -> Path:
    """The folder of the data: the given one, or that of the environment variable, or ../shared/data.

    Raises:
        FileNotFoundError: if it does not contain the data.
    """
    found = Path(folder or os.environ.get(VARIABLE) or DEFAULT)
    if not (found / "posteriordb" / "index.json").is_file():
        raise FileNotFoundError(
            f"the reference posteriors are not in {found}; name the folder by --data or by the variable {VARIABLE}."
        )
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, its lists as arrays."""
    values = json.loads(path.read_text())
    return {k: np.asarray(v, float) if isinstance(v, list) else v for k, v in values.items()}


def read_draws(path: Path) -> dict[str, np.ndarray]:
    """Draws by variable, in float64; the columns x[1], x[2] ... are one array x."""
    file = np.load(path)
    columns: dict[str, list[np.ndarray]] = {}
    shapes = {}
    for name, column in zip(file["names"], file["draws"].T.astype(float), strict=True):
        base = re.sub(r"\[\d+\]$", "", str(name))
        columns.setdefault(base, []).append(column)
        shapes[base] = base != name
    return {name: np.stack(c, -1) if shapes[name] else c[0] for name, c in columns.items()}


def read_german_credit(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Features with a leading 1, each divided by its standard deviation, and whether credit was good; draws of beta."""
    table = np.loadtxt(folder / "german.data-numeric")
    features = table[:, :-1] / table[:, :-1].std(0)
    draws = np.load(folder / "german_credit10k.npz")["draws"].astype(float)
    return {"x": np.column_stack([np.ones(len(table)), features]), "y": 1.0 * (table[:, -1] == 1)}, {"beta": draws}
