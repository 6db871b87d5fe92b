"""The rows of the Sylvester paper's table, at a fraction of its budget. For docs/vae.md.

    make vae-images ARGS="--data FOLDER"              # hours on one core; goes on where it was stopped
    make vae-images ARGS="--table"                    # what is there

FOLDER holds caltech101silhouettes28.npz (bit-packed rows "train", "valid", "test" of 784 pixels) or freyfaces.npz
("data", 1965 rows of 560 pixels of 8 bits), which are not ours to pass on. Here: dense networks of 256 units, 32 latent
dimensions and 4 layers, where the paper has gated convolutions, 64 and 16; fewer epochs, with the best one kept; one
seed; the likelihood from 200 draws for each of the first 500 test images. The order of the rows is the result, not
their values. Caltech: Bernoulli, pixels inverted as in the paper. Frey faces: 256 levels, 1565/200/200 after the
shuffle of seed 123, and bits per dimension.
"""

import argparse
import json
import time
from pathlib import Path

import jax.random as jr
import numpy as np

import pushforward as pf
from pushforward import vae as pv

RESULTS = Path(__file__).parent / "results" / "vae-images.json"
ROWS = [
    ("gaussian", "normal"), ("planar", "normal"), ("iaf", "normal"), ("sylvester-orthogonal", "normal"),
    ("sylvester-householder", "normal"), ("sylvester-triangular", "normal"), ("nsf", "normal"), ("gaussian", "nsf"),
    ("sylvester-householder", "nsf"),
]  # fmt: skip
CONFIG = {"dim": 32, "widths": [256], "features": 256, "num_layers": 4, "prior_layers": 4}
TRAINING = {"max_epochs": 150, "patience": 30, "batch_size": 100, "learning_rate": 1e-3, "warmup": 20}
NUM_IMPORTANCE, NUM_TEST = 200, 500


def caltech(folder: Path) -> tuple[dict[str, np.ndarray], pv.AbstractLikelihood]:
    with np.load(folder / "caltech101silhouettes28.npz") as archive:
        bits = {name: np.unpackbits(archive[name], axis=1) for name in ("train", "valid", "test")}
    return {name: 1 - x.reshape(-1, 28, 28).astype(np.float32) for name, x in bits.items()}, pv.Bernoulli()


def frey(folder: Path) -> tuple[dict[str, np.ndarray], pv.AbstractLikelihood]:
    with np.load(folder / "freyfaces.npz") as archive:
        data = archive["data"].reshape(-1, 28, 20) / np.float32(255)
    np.random.RandomState(123).shuffle(data)
    return dict(zip(("train", "valid", "test"), np.split(data, (1565, 1765)), strict=True)), pv.Categorical(256)


SETS = {"caltech": caltech, "frey": frey}


def measure(folder: Path, names: list[str]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results["config"] = {**CONFIG, **TRAINING, "importance samples": NUM_IMPORTANCE, "test images": NUM_TEST, "seed": 0}
    runs = results.setdefault("runs", {})
    for dataset in names:
        images, likelihood = SETS[dataset](folder)
        for posterior, prior in ROWS:
            name = f"{dataset}/{posterior}/{prior}"
            if name in runs:
                continue
            start = time.perf_counter()
            model = pv.build(
                images["train"].shape[1:],
                key=jr.key(0),
                posterior=posterior,
                prior=prior,
                likelihood=likelihood,
                **CONFIG,
            )
            model, history = pf.fit_vae(
                images["train"],
                key=jr.key(0),
                vae=model,
                validation=images["valid"][:NUM_TEST],
                progress=False,
                **TRAINING,
            )
            found = pv.evaluate(
                model, images["test"][:NUM_TEST], key=jr.key(1), num_samples=NUM_IMPORTANCE, chunk=20, batch_size=50
            )
            runs[name] = found._asdict() | {"epochs": len(history.loss), "seconds": time.perf_counter() - start}
            print(name, {k: round(v, 2) for k, v in runs[name].items() if v is not None}, flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def table() -> None:
    print("| images | posterior | prior | -ELBO | NLL | bits per dimension | epochs |\n|---|---|---|---|---|---|---|")
    for name, run in json.loads(RESULTS.read_text())["runs"].items():
        cells = [f"{-run['elbo']:.2f}", f"{run['nll']:.2f}", f"{run['bits_per_dim']:.3f}", str(run["epochs"])]
        print("|", " | ".join(name.split("/") + cells), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the images are")
    parser.add_argument("--only", nargs="+", choices=SETS, default=[*SETS])
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    if options.table:
        table()
    elif options.data is None or not options.data.is_dir():
        print("vae_images.py measures on images that are not part of the project: give their folder by --data.")
    else:
        measure(options.data, options.only)


if __name__ == "__main__":
    main()
