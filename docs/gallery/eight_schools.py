# %% [markdown]
# # Eight schools
#
# Eight schools measured what coaching does to test scores: eight effects, each with its standard error (Rubin 1981).
# How much do the schools really differ? A hierarchical model says: the true effects $\theta_i$ scatter around a common
# mean $\mu$ with a spread $\tau$, which the data must determine. The model is tiny, but its posterior is a famous trap: a
# funnel, in which many methods go wrong without a warning. Look at the verdict before you look at any number.

# %% [markdown]
# ## Two ways to write one model
#
# The *centered* form says what we mean: each effect comes from $N(\mu, \tau)$. The *non-centered* form draws standard
# normal numbers $t_i$ and computes $\theta_i = \mu + \tau t_i$. Both define the same posterior of the effects.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpyro
import numpyro.distributions as dist

import pushforward as pf

jax.config.update("jax_enable_x64", True)

y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
sigma = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def centered(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def noncentered(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        t = numpyro.sample("t", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * t)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


# %% [markdown]
# ## What the verdict says
#
# The verdict comes from fresh draws, which no training has used. It answers one question: may I use these draws as draws
# of the posterior?

# %%
fits = {}
for model in (centered, noncentered):
    target = pf.Target.from_numpyro(model, y, sigma)
    fits[model.__name__] = pf.fit_posterior(target, key=jax.random.key(0))
    found = fits[model.__name__].diagnostics
    print(f"{model.__name__}: {found.verdict}")
    print(
        f"  KL {found.log_evidence - found.elbo:.4f} nats, effective sample size {found.ess_fraction:.1%} of the draws"
    )

# %% [markdown]
# The second form is nearly Gaussian to begin with. For the first, the flow had to bend a Gaussian into a funnel: its
# divergence is larger and its effective sample size lower. `resample` corrects its draws by their weights, which does
# no harm to good draws. Compare both fits, since it is one posterior:

# %%
draws = {name: fit.resample(jax.random.key(1), 20_000) for name, fit in fits.items()}
for quantity in ("mu", "tau"):
    means = [f"{name} {x[quantity].mean():.2f} ± {x[quantity].std():.2f}" for name, x in draws.items()]
    print(f"{quantity}: ", ", ".join(means))
a, b = (x["theta"] for x in draws.values())
print(
    f"largest difference of a mean of theta: {(jnp.abs(a.mean(0) - b.mean(0)) / a.std(0)).max():.3f} standard deviations"
)

# %% [markdown]
# ## The funnel
#
# If $\tau$ is small, the effects cannot differ from $\mu$: the draws narrow towards the bottom. The neck is where a
# method that stops early, or a Gaussian, loses mass. On the right, the coordinates of the non-centered form. Compare the
# lower ends: on the left the draws stop earlier. That tip is what the first fit misses; there is hardly any mass in it.

# %% Draws of log tau: against theta minus mu a funnel, against t a round cloud
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
x, z = draws["centered"], draws["noncentered"]
left.scatter(x["theta"][:4000, 0] - x["mu"][:4000], jnp.log(x["tau"][:4000]), s=2, alpha=0.4)
right.scatter(z["t"][:4000, 0], jnp.log(z["tau"][:4000]), s=2, alpha=0.4, color="tab:orange")
left.set(xlabel=r"$\theta_1 - \mu$", ylabel=r"$\log\tau$", xlim=(-30, 40), ylim=(-5, 4), title="centered")
right.set(xlabel="$t_1$", title="non-centered")

# %% [markdown]
# ## When it goes wrong
#
# Give the fit of the centered form far too little work, so that it ends with a Gaussian. A mean-field or full-rank
# Gaussian is what most programs call "variational inference", and they return it without comment.

# %%
hasty = pf.fit_posterior(pf.Target.from_numpyro(centered, y, sigma), key=jax.random.key(0), budget=20_000)
print(hasty.diagnostics.verdict)
print(*hasty.diagnostics.reasons, sep="\n")

# %% [markdown]
# Now the draws must not be used as they are. Three ways out: more work (no `budget=`), the non-centered form, or
# `hasty.refine(key)`, which runs NUTS in the coordinates of the flow. And what do the fits say about coaching? That the
# effects of the schools are probably alike, near 4 points, and that the 28 of the first school is mostly luck:

# %%
print(fits["noncentered"].summary())
