"""Spline flows of FlowJAX and Zuko on the same samples as `fit_density`, trained for the same time.

Both are masked autoregressive flows of rational-quadratic splines, which `fit_density` uses for two columns: 3 layers,
32 bins (FlowJAX's on [-4, 4], Zuko's on [-5, 5], its only choice) and networks of 64, 64 units. The samples are
standardized, because neither library does it. FlowJAX is trained by its `fit_to_data` with Adam at two learning rates,
each for the whole time; the better one counts. Zuko leaves training to the caller: it is trained by the loop of its
documentation with early stopping on a tenth of the rows, at the same rates.
"""

import time
from collections.abc import Callable

import equinox as eqx
import flowjax.bijections
import flowjax.distributions
import flowjax.flows
import flowjax.train
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import paramax
import torch
import zuko

RATES = (1e-3, 5e-3)
LAYERS, HIDDEN, BINS, BOUND, BATCH = 3, (64, 64), 32, 4.0, 512
VALIDATION = 0.1
LogProb = Callable[[np.ndarray], np.ndarray]


def standardised(fit: Callable) -> Callable:
    """Fit to standardized samples; the density returned is that of the samples themselves."""

    def of(x: np.ndarray, seed: int, allowance: float) -> LogProb:
        loc, scale = x.mean(0), x.std(0)
        log_prob = fit(((x - loc) / scale).astype(np.float32), seed, allowance)
        return lambda x: log_prob(((x - loc) / scale).astype(np.float32)) - np.log(scale).sum()

    return of


@standardised
def with_flowjax(x: np.ndarray, seed: int, allowance: float) -> LogProb:
    return flowjax_spline(x, seed, allowance)


def flowjax_spline(
    x: np.ndarray,
    seed: int,
    allowance: float,
    layers: int = LAYERS,
    hidden: tuple[int, int] = HIDDEN,
    bins: int = BINS,
    rates: tuple[float, ...] = RATES,
) -> LogProb:
    """FlowJAX's flow on standardized samples, at each learning rate for the given number of seconds."""
    flow_key, train_key = jr.split(jr.key(seed))
    first = flowjax.flows.masked_autoregressive_flow(
        flow_key,
        base_dist=paramax.non_trainable(flowjax.distributions.Normal(jnp.zeros(x.shape[1]))),
        transformer=flowjax.bijections.RationalQuadraticSpline(knots=bins, interval=BOUND),
        flow_layers=layers,
        nn_width=hidden[0],
        nn_depth=len(hidden),
    )

    def train(rate: float, epochs: int, rows: int = len(x)):
        options = {"batch_size": BATCH, "val_prop": VALIDATION, "max_patience": 20, "show_progress": False}
        flow, losses = flowjax.train.fit_to_data(
            train_key, first, x[:rows], optimizer=optax.adam(rate), max_epochs=epochs, **options
        )
        return flow, min(losses["val"])

    # The time of an epoch, without compilation and without the fixed cost of a call.
    some, times = min(len(x), 40 * BATCH), [time.perf_counter()]
    for epochs in (1, 1, 5):
        train(rates[0], epochs, some)
        times.append(time.perf_counter())
    _, one, five = np.diff(times)
    epochs = max(1, round(allowance / ((five - one) / 4) * some / len(x)))
    flow = min((train(rate, epochs) for rate in rates), key=lambda found: found[1])[0]
    log_prob = eqx.filter_jit(flow.log_prob)
    return lambda x: np.asarray(log_prob(x))


@standardised
def with_zuko(x: np.ndarray, seed: int, allowance: float) -> LogProb:
    torch.manual_seed(seed)
    rows = torch.from_numpy(x)[torch.randperm(len(x))]
    validation, kept = rows.split([round(VALIDATION * len(x)), len(x) - round(VALIDATION * len(x))])

    def train(rate: float):
        flow = zuko.flows.NSF(x.shape[1], transforms=LAYERS, bins=BINS, slope=1e-3, hidden_features=HIDDEN)
        optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
        best, best_loss, waited, start = flow.state_dict(), np.inf, 0, time.perf_counter()
        while time.perf_counter() - start < allowance and waited < 20:
            for index in torch.randperm(len(kept)).split(BATCH):
                optimizer.zero_grad()
                (-flow().log_prob(kept[index]).mean()).backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
                optimizer.step()
            with torch.no_grad():
                loss = float(-flow().log_prob(validation).mean())
            waited = 0 if loss < best_loss else waited + 1
            if loss < best_loss:
                best, best_loss = {k: v.clone() for k, v in flow.state_dict().items()}, loss
        flow.load_state_dict(best)
        return flow, best_loss

    flow = min((train(rate) for rate in RATES), key=lambda found: found[1])[0]

    def log_prob(x):
        with torch.no_grad():
            return torch.cat([flow().log_prob(part) for part in torch.from_numpy(x).split(20_000)]).numpy()

    return log_prob


PEERS = {"FlowJAX": with_flowjax, "Zuko": with_zuko}
