# %% [markdown]
# # A Gaussian process with two explanations
#
# Ten measurements of an unknown curve. Is it a wiggly curve, measured precisely, or a nearly straight one with much
# noise? A Gaussian process is a prior of curves, and its parameters ask exactly this: the *length scale* says how fast the
# curve varies, the *amplitude* how far it swings, and the *noise* how precise the measurements are. With few data both
# explanations are plausible. An optimizer of the marginal likelihood picks one of them in silence; a Gaussian
# approximation is centered at one. The posterior has both, each with its probability.
#
# The data are simulated, so we know the truth: the curve is wiggly, and the noise is 0.3.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import pushforward as pf

jax.config.update("jax_enable_x64", True)

rng = np.random.default_rng(19)
x = np.sort(rng.uniform(-3, 3, 10))
y = 0.7 * x + 0.8 * np.sin(4 * x) + 0.3 * rng.normal(size=10)

# %% [markdown]
# ## The model
#
# With normal noise the curve itself can be integrated out by hand: the measurements are jointly normal, with the kernel
# as covariance. Three parameters remain. (With counts, say, the values of the curve become parameters too.)


# %%
def kernel(a, b, length, amplitude):
    return amplitude**2 * jnp.exp(-0.5 * ((a[:, None] - b) / length) ** 2)


def process(x, y):
    length = numpyro.sample("length", dist.LogNormal(0.0, 1.0))
    amplitude = numpyro.sample("amplitude", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.LogNormal(-1.0, 1.0))
    covariance = kernel(x, x, length, amplitude) + noise**2 * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=y)


target = pf.Target.from_numpyro(process, x, y)
posterior = pf.fit_posterior(target, key=jax.random.key(0))
print(posterior.diagnostics.verdict)
print(*posterior.diagnostics.reasons, sep="\n")
print(posterior.summary())

# %% [markdown]
# ## Two explanations
#
# The table of means hides what matters here. Look at length scale and noise together, and at the curves that belong to
# each of the two clouds. Given parameters, the curve is normal, and its mean is one line of linear algebra.

# %% Two clouds of draws, and the curves that they stand for: wiggly ones and straight ones
draws = {name: np.asarray(value) for name, value in posterior.sample(jax.random.key(1), 50_000).items()}
wiggly = draws["length"] < 1.0
print(f"probability of the wiggly explanation: {wiggly.mean():.2f}")

grid = np.linspace(-3.3, 3.3, 200)


@jax.vmap
def curve(length, amplitude, noise):
    covariance = kernel(x, x, length, amplitude) + noise**2 * jnp.eye(len(x))
    return kernel(grid, x, length, amplitude) @ jnp.linalg.solve(covariance, y)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
right.plot(grid, 0.7 * grid + 0.8 * np.sin(4 * grid), color="black", linestyle="--", label="truth")
for chosen, color, label in ((wiggly, "tab:blue", "wiggly"), (~wiggly, "tab:orange", "straight")):
    some = {name: value[:3000][chosen[:3000]] for name, value in draws.items()}
    left.loglog(some["length"], some["noise"], ".", markersize=2, color=color, label=label)
    curves = curve(**{name: value[:12] for name, value in some.items()})
    right.plot(grid, curves.T, color=color, alpha=0.4, linewidth=1)
right.plot(x, y, "o", color="black", markersize=4, label="measurements")
left.set(xlabel="length scale", ylabel="noise", xlim=(0.1, 30), ylim=(0.01, 3))
left.legend(markerscale=4, fontsize="small")
right.set(xlabel="x", ylabel="y", ylim=(-3.2, 3.2))
right.legend(fontsize="small", loc="upper left")
figure.tight_layout()

# %% [markdown]
# ## Is it right?
#
# Three parameters are few enough for brute force: the density on a grid, summed. No training is involved, so this is
# an independent check of the evidence and of the probability of each explanation.

# %%
axes = [np.linspace(-5, 5, 80), np.linspace(-4, 5, 61), np.linspace(-6, 3, 73)]  # logarithms
places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def log_joint(place):
    length, amplitude, noise = jnp.exp(place)
    covariance = kernel(x, x, length, amplitude) + noise**2 * jnp.eye(len(x))
    prior = dist.Normal(jnp.array([0.0, 0.0, -1.0]), 1.0).log_prob(place).sum()
    return prior + dist.MultivariateNormal(jnp.zeros(len(x)), covariance).log_prob(y)


values = np.asarray(jax.lax.map(log_joint, places, batch_size=5000))
cell = np.prod([axis[1] - axis[0] for axis in axes])
mass = np.exp(values) * cell
print(f"log evidence: grid {np.log(mass.sum()):.3f}, fit {posterior.diagnostics.log_evidence:.3f}")
print(f"probability of the wiggly explanation: grid {mass[places[:, 0] < 0].sum() / mass.sum():.3f}, "
      f"fit {wiggly.mean():.3f}")  # fmt: skip
for number, name in enumerate(("length", "amplitude", "noise")):
    exact = (mass * places[:, number]).sum() / mass.sum()
    print(f"mean of log {name}: grid {exact:.3f}, fit {np.log(draws[name]).mean():.3f}")

# %% [markdown]
# ## What would be wrong
#
# Stop at a Gaussian, as the usual variational inference does, and one explanation is gone or both are smeared. The
# verdict says that something is missing, before anyone has looked at a picture:

# %%
gaussian = pf.fit_posterior(target, key=jax.random.key(0), budget=20_000)
print(gaussian.diagnostics.verdict)
print(*gaussian.diagnostics.reasons, sep="\n")

# %% [markdown]
# Ten measurements do not decide between the explanations, and no method can. What decides is an eleventh one at the right
# place: where the curves of the two explanations differ most. The picture shows where that is.
