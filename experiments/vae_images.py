"""The rows of the Sylvester paper's table, at a fraction of its budget. For docs/vae.md.

    make vae-images ARGS="--data FOLDER"              # hours on one core; continues where it was stopped
    make vae-images ARGS="--data FOLDER --protocol convolutions"     # for a GPU
    make vae-images ARGS="--table"                    # the table of what has been measured

FOLDER contains data sets that the project does not distribute, as they are published: caltech101silhouettes28.npz and
mnist_static.npz (bit-packed rows "train", "valid", "test" of 784 pixels), omniglot28.npz (gray), and freyfaces.npz
("data", 1965 rows of 560 8-bit pixels). Caltech: pixels inverted as in the paper. Omniglot: training images are drawn
black and white again for each batch, the others once. Frey faces: 256 levels, 1565/200/200 images after the shuffle
with seed 123.

There are two protocols, each the same for all rows, with one seed; the best epoch counts. "dense", for a CPU: dense
networks of 256 units, 32 latent dimensions, 4 layers, and the likelihood from 200 draws for each of the first 500 test
images. "convolutions", for a GPU: the paper's gated convolutions of 32 to 64 channels and 64 latent dimensions, path
gradients, a cosine decay of the learning rate over fewer epochs than in the paper, and all test images. The order of
the rows is the result, not their values.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np
from schedules import cosine

import pushforward as pf
from pushforward import vae as pv

RESULTS = Path(__file__).parent / "results" / "vae-images.json"
ROWS = [
    ("gaussian", "normal"), ("planar", "normal"), ("iaf", "normal"), ("sylvester-orthogonal", "normal"),
    ("sylvester-householder", "normal"), ("sylvester-triangular", "normal"), ("nsf", "normal"), ("gaussian", "nsf"),
    ("sylvester-householder", "nsf"),
]  # fmt: skip


class Protocol(NamedTuple):
    """How all rows are built, trained and evaluated; `cosine` says whether the learning rate decays."""

    model: dict[str, Any]
    training: dict[str, Any]
    rate: float
    cosine: bool
    path_gradient: bool
    epochs: dict[str, int]
    num_test: int | None
    num_importance: int = 200


PROTOCOLS = {
    "dense": Protocol(
        {"dim": 32, "widths": [256], "features": 256, "num_layers": 4, "prior_layers": 4},
        {"patience": 30, "batch_size": 100, "warmup": 20},
        rate=1e-3,
        cosine=False,
        path_gradient=False,
        epochs={"caltech": 150, "mnist": 40, "omniglot": 60, "frey": 150},
        num_test=500,
    ),
    "convolutions": Protocol(
        {"network": "conv", "dim": 64, "features": 256, "num_layers": 4, "prior_layers": 4},
        {"patience": 10_000, "batch_size": 100, "warmup": 10},
        rate=1e-3,
        cosine=True,
        path_gradient=True,
        epochs={"caltech": 150, "frey": 300, "mnist": 40, "omniglot": 60},
        num_test=None,
    ),
}


class Images(NamedTuple):
    """Three sets of images, their likelihood, and whether training images are drawn black and white."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    likelihood: pv.AbstractLikelihood = pv.Bernoulli()
    binarize: bool = False


def unpacked(path: Path) -> list[np.ndarray]:
    with np.load(path) as archive:
        bits = [np.unpackbits(archive[name], axis=1) for name in ("train", "valid", "test")]
    return [x.reshape(-1, 28, 28).astype(np.float32) for x in bits]


def caltech(folder: Path) -> Images:
    return Images(*(1 - x for x in unpacked(folder / "caltech101silhouettes28.npz")))


def mnist(folder: Path) -> Images:
    return Images(*unpacked(folder / "mnist_static.npz"))


def omniglot(folder: Path) -> Images:
    with np.load(folder / "omniglot28.npz") as archive:
        train, *others = (archive[name].reshape(-1, 28, 28) / np.float32(255) for name in ("train", "valid", "test"))
    random = np.random.RandomState(777)
    return Images(train, *((random.rand(*x.shape) < x).astype(np.float32) for x in others), binarize=True)


def frey(folder: Path) -> Images:
    with np.load(folder / "freyfaces.npz") as archive:
        data = archive["data"].reshape(-1, 28, 20) / np.float32(255)
    np.random.RandomState(123).shuffle(data)
    return Images(*np.split(data, (1565, 1765)), pv.Categorical(256))


SETS = {"caltech": caltech, "frey": frey, "mnist": mnist, "omniglot": omniglot}


def measure(images: Images, posterior: str, prior: str, protocol: Protocol, epochs: int) -> dict[str, Any]:
    """One row: train, and evaluate on test images."""
    start = time.perf_counter()
    model = pv.build(
        images.train.shape[1:],
        key=jr.key(0),
        posterior=posterior,
        prior=prior,
        likelihood=images.likelihood,
        **protocol.model,
    )
    decaying = cosine(protocol.rate, epochs, len(images.train), protocol.training["batch_size"])
    model, history = pf.fit_vae(
        images.train,
        key=jr.key(0),
        vae=model,
        validation=images.valid[: protocol.num_test],
        binarize=images.binarize,
        objective=functools.partial(pv.NegativeBound, path_gradient=protocol.path_gradient),
        learning_rate=decaying if protocol.cosine else protocol.rate,
        max_epochs=epochs,
        **protocol.training,
    )
    trained = time.perf_counter() - start
    found = pv.evaluate(
        model,
        images.test[: protocol.num_test],
        key=jr.key(1),
        num_samples=protocol.num_importance,
        chunk=20,
        batch_size=50,
    )
    seconds = {"seconds": time.perf_counter() - start, "seconds of training": trained}
    return (
        found._asdict()
        | {
            "epochs": len(history.evaluations) - 1,
            "seconds of an epoch": float(np.median(np.diff(history.series("seconds")))),
        }
        | seconds
    )


def table(results: dict[str, Any]) -> None:
    print("| protocol | images | posterior | prior | -ELBO | NLL | -ELBO, bits | NLL, bits | epochs |")
    print("|---" * 9 + "|")
    for name, run in results["runs"].items():
        # `bits_per_dim` is the NLL; the same factor converts the ELBO.
        bits = run["bits_per_dim"] / run["nll"]
        numbers = [f"{-run['elbo']:.2f}", f"{run['nll']:.2f}", f"{-run['elbo'] * bits:.3f}", f"{run['nll'] * bits:.3f}"]
        print("|", " | ".join([*name.split("/"), *numbers, str(run["epochs"])]), "|")


def share(text: str) -> tuple[int, int]:
    """The rows that this process measures: every n-th from the k-th."""
    first, every = map(int, text.split("/"))
    return first, every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the folder of the images")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="dense")
    parser.add_argument("--only", nargs="+", choices=SETS, help="some of the data sets")
    parser.add_argument("--epochs", type=int, help="of all data sets, instead of the protocol's")
    parser.add_argument("--share", type=share, default=(0, 1), metavar="K/N", help="every N-th row, from the K-th")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of the results (one for each process)")
    parser.add_argument("--table", action="store_true", help="print the table of what has been measured")
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.table:
        table(results)
    elif options.data is None or not options.data.is_dir():
        print("vae_images.py needs images that are not part of the project: give their folder with --data.")
    else:
        protocol = PROTOCOLS[options.protocol]
        runs, (first, every) = results.setdefault("runs", {}), options.share
        for dataset in options.only or protocol.epochs:
            images = SETS[dataset](options.data)
            for posterior, prior in ROWS[first::every]:
                name = f"{options.protocol}/{dataset}/{posterior}/{prior}"
                if name not in runs:
                    epochs = options.epochs or protocol.epochs[dataset]
                    found = measure(images, posterior, prior, protocol, epochs)
                    print(name, {k: round(v, 3) for k, v in found.items() if v is not None}, flush=True)
                    device = jax.devices()[0].device_kind
                    facts = {"seed": 0, "gradients": "clipped", "device": device, "jax": jax.__version__}
                    runs[name] = found | {"protocol": protocol._asdict() | {"epochs": epochs} | facts}
                    options.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
