# %% [markdown]
# # A differential equation: an outbreak
#
# A boarding school of 763 pupils counts how many are in bed with the flu, each day for two weeks. The SIR model says how
# an outbreak goes: susceptible pupils $S$ meet infected ones $I$, and get infected at the rate $\beta S I / N$; infected
# pupils recover at the rate $\gamma$:
#
# $$\dot S = -\beta S I / N, \qquad \dot I = \beta S I / N - \gamma I.$$
#
# We want $R_0 = \beta / \gamma$, the number of pupils that the first one infects, with its uncertainty. The model contains
# the solution of a differential equation. That is no obstacle: Diffrax solves it inside of the model, and the fit
# differentiates through the solver. The counts here are simulated, with $\beta = 1.7$ and $\gamma = 0.5$.

# %%
import diffrax
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import pushforward as pf

jax.config.update("jax_enable_x64", True)

SIZE, DAYS = 763, jnp.arange(1.0, 15.0)


def infected(beta, gamma, start):
    """The number of infected pupils on each day."""

    def field(t, state, args):
        susceptible, infected = state
        new = beta * susceptible * infected / SIZE
        return jnp.stack([-new, new - gamma * infected])

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Tsit5(), t0=0.0, t1=14.0, dt0=0.1, y0=jnp.stack([SIZE - start, start]),
        saveat=diffrax.SaveAt(ts=DAYS), stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-6),
    )  # fmt: skip
    return solution.ys[:, 1]


def outbreak(counts=None):
    beta = numpyro.sample("beta", dist.LogNormal(0.5, 0.7))
    gamma = numpyro.sample("gamma", dist.LogNormal(-0.7, 0.7))
    start = numpyro.sample("start", dist.LogNormal(0.7, 0.7))
    dispersion = numpyro.sample("dispersion", dist.HalfNormal(20))
    numpyro.deterministic("R0", beta / gamma)
    mean = numpyro.deterministic("mean", infected(beta, gamma, start))
    with numpyro.plate("days", len(DAYS)):
        numpyro.sample("counts", dist.NegativeBinomial2(jnp.maximum(mean, 1e-6), dispersion), obs=counts)


truth = infected(1.7, 0.5, 2.0)
counts = dist.NegativeBinomial2(truth, 15.0).sample(jax.random.key(5))
posterior = pf.fit_posterior(pf.Target.from_numpyro(outbreak, counts=counts), key=jax.random.key(0))
print(posterior.diagnostics.verdict)
print(*posterior.diagnostics.reasons)

# %% [markdown]
# ## What to look at
#
# First the parameters. The truth is $R_0 = 3.4$, well inside of the interval.

# %%
summary = posterior.summary()
for name in ("beta", "gamma", "start", "dispersion", "R0"):
    row = summary[name]
    print(f"{name:10} {row.mean:6.2f} ± {row.sd:.2f}   (90 %: {row.q05:.2f} to {row.q95:.2f})")

# %% [markdown]
# Then the predictions: do the counts look like draws of the model?

# %% Counts of fourteen days within the predictive band, and the posterior of R0 around the true 3.4
draws = posterior.sample(jax.random.key(1), 4000)
predicted = dist.NegativeBinomial2(draws["mean"], draws["dispersion"][:, None]).sample(jax.random.key(2))
low, high = np.quantile(predicted, [0.05, 0.95], axis=0)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[2, 1])
left.fill_between(DAYS, low, high, alpha=0.3, label="90 % of predictions")
left.plot(DAYS, draws["mean"].mean(0), label="mean of the solutions")
left.plot(DAYS, counts, "o", color="black", markersize=4, label="counts")
left.set(xlabel="day", ylabel="pupils in bed")
left.legend(fontsize="small")
right.hist(np.asarray(draws["R0"]), bins=50, density=True)
right.axvline(3.4, color="black", linestyle="--")
right.set(xlabel="$R_0$", yticks=[])

# %% [markdown]
# ## What would be wrong
#
# The parameters are correlated: a faster infection from fewer first cases gives a similar curve. A fit with independent
# parameters (mean-field) reports intervals that are too narrow. This one knows the correlations:

# %%
print(f"correlation of beta and gamma: {np.corrcoef(draws['beta'], draws['gamma'])[0, 1]:.2f}")
print(f"correlation of beta and start: {np.corrcoef(draws['beta'], draws['start'])[0, 1]:.2f}")

# %% [markdown]
# Another trap is a solver that gives up: at wild parameters the equation may need more steps than it may take. Such points
# count as impossible, and the reasons of the verdict state how many draws were affected; above, none. If there were many,
# a stiff solver such as `diffrax.Kvaerno5()` or a tighter prior would be the remedy.
