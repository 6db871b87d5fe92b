"""Training steps of VAEs in comparison with PyTorch: the same networks, posteriors and batches, in one process.

    make vae-speed                         # writes benchmarks/results/vae-speed.json
    make vae-speed ARGS="--quick"          # small and rough, to check that it runs; writes nothing

28 x 28 black and white images, batches of 100, 16 latent dimensions, standard normal prior, Adam. Networks: dense, with
256 units and 64 features; and gated convolutions of 16, 16, 32, 32 channels. Posteriors: Gaussian, and four amortized
planar layers. Ours is the program of `fit_vae`, which evaluates one validation image; PyTorch's is the usual loop
on data in memory. After a first call that compiles, the two take turns. The result is the median over turns of the
ratio of times, PyTorch's over ours: above 1 ours is faster.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import torch
from torch import nn

import pushforward as pf
from machine import load, machine
from pushforward import vae as pv
from pushforward.bijections.arrays import trainable
from pushforward.training.trainer import Trainer
from speed import take_turns

RESULTS = Path(__file__).parent / "results" / "vae-speed.json"
SHAPE, DIM, BATCH, LAYERS = (28, 28), 16, 100, 4
WIDTHS = {"dense": (256,), "conv": (16, 16, 32, 32)}
FEATURES = {"dense": 64, "conv": 256}


class Gated(nn.Module):
    def __init__(self, convolution: nn.Module):
        super().__init__()
        self.convolution = convolution

    def forward(self, x):
        a, b = self.convolution(x).chunk(2, 1)
        return a * torch.sigmoid(b)


def torch_networks(kind: str) -> tuple[nn.Module, nn.Module]:
    size, features = SHAPE[0] * SHAPE[1], FEATURES[kind]
    if kind == "dense":
        (width,) = WIDTHS["dense"]
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.SiLU(), nn.Linear(width, features), nn.SiLU())
        decoder = nn.Sequential(
            nn.Linear(DIM, features), nn.SiLU(), nn.Linear(features, width), nn.SiLU(), nn.Linear(width, size)
        )
        return encoder, decoder
    counts, layers = (1, *WIDTHS["conv"]), []
    for n, (i, o) in enumerate(zip(counts[:-1], counts[1:], strict=True)):
        layers.append(Gated(nn.Conv2d(i, 2 * o, 5, 1 + n % 2, padding=2)))
    inner = (counts[-1], 7, 7)
    encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(counts[-1] * 49, features), nn.SiLU())
    back = []
    for n in reversed(range(4)):
        out, stride = counts[n] if n else counts[1], 1 + n % 2
        back.append(Gated(nn.ConvTranspose2d(counts[n + 1], 2 * out, 5, stride, padding=2, output_padding=stride - 1)))
    decoder = nn.Sequential(
        nn.Linear(DIM, counts[-1] * 49), nn.SiLU(), nn.Unflatten(1, inner), *back, nn.Conv2d(counts[1], 1, 1)
    )
    return encoder, decoder


class TorchVAE(nn.Module):
    """Planar layers of Rezende and Mohamed (2015) with the usual constraint and parameters from the features."""

    def __init__(self, kind: str, posterior: str):
        super().__init__()
        self.encoder, self.decoder = torch_networks(kind)
        self.gaussian = nn.Linear(FEATURES[kind], 2 * DIM)
        self.layers = LAYERS if posterior == "planar" else 0
        self.arrays = nn.Linear(FEATURES[kind], self.layers * (2 * DIM + 1)) if self.layers else None

    def forward(self, x):
        h = self.encoder(x[:, None])
        mean, raw = self.gaussian(h).chunk(2, 1)
        scale = nn.functional.softplus(raw)
        u = noise = torch.randn_like(mean)
        u = mean + scale * noise
        log_q = -(noise**2 / 2 + scale.log() + 0.5 * np.log(2 * np.pi)).sum(1)
        if self.layers:
            for array in self.arrays(h).chunk(self.layers, 1):
                v, w, b = array.split([DIM, DIM, 1], 1)
                product = (v * w).sum(1, keepdim=True)
                v = v + (nn.functional.softplus(product) - 1 - product) * w / (w**2).sum(1, keepdim=True)
                activation = torch.tanh((u * w).sum(1, keepdim=True) + b)
                log_q = log_q - torch.log1p((1 - activation**2) * (v * w).sum(1, keepdim=True))[:, 0]
                u = u + v * activation
        log_p = -(u**2 / 2 + 0.5 * np.log(2 * np.pi)).sum(1)
        logits = self.decoder(u).reshape(x.shape)
        log_x = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2))
        return -(log_x + log_p - log_q).mean()


def measure(kind: str, posterior: str, steps: int, repetitions: int) -> dict:
    images = (np.random.default_rng(0).random((10_000, *SHAPE)) < 0.2).astype(np.float32)
    model = pv.build(
        SHAPE, key=jr.key(0), dim=DIM, posterior=posterior, prior="normal", num_layers=LAYERS, network=kind,
        widths=WIDTHS[kind], features=FEATURES[kind],
    )  # fmt: skip
    parameters, static = eqx.partition(model, trainable(model))
    bound = pv.NegativeBound(images, images[:1], batch_size=BATCH, num_evaluation_samples=1)
    trainer = Trainer(bound, optax.adam(1e-3), static)
    state = trainer.init(parameters, jr.key(1))
    other = TorchVAE(kind, posterior)
    optimizer, rows = torch.optim.Adam(other.parameters(), lr=1e-3), torch.from_numpy(images)

    def ours():
        return Trainer.advance(trainer, state, bound.batches, jnp.array(steps))[1].losses

    def theirs():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = other(rows[torch.randint(len(rows), (BATCH,))])
            loss.backward()
            optimizer.step()
        return jnp.zeros(())

    _, (mine, peer) = take_turns(ours, theirs, repetitions)
    ratios = peer[:, 0] / mine[:, 0]
    sizes = [pf.bijections.num_parameters(model), sum(p.numel() for p in other.parameters())]
    return {
        "ours, ms a step": float(1e3 * np.median(mine[:, 0]) / steps),
        "PyTorch, ms a step": float(1e3 * np.median(peer[:, 0]) / steps),
        "ratio": float(np.median(ratios)),
        "ratio range": [float(ratios.min()), float(ratios.max())],
        "parameters": sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    results, before = {}, load()
    for kind in WIDTHS:
        for posterior in ("gaussian", "planar"):
            steps, repetitions = (5, 1) if options.quick else (200 if kind == "dense" else 30, 5)
            found = results[f"{kind}, {posterior}"] = measure(kind, posterior, steps, repetitions)
            print(f"{kind}, {posterior}: {found}", flush=True)
    if not options.quick:
        facts = machine() | {"load before and after": [before, load()], "torch": torch.__version__}
        RESULTS.write_text(json.dumps({"machine": facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
