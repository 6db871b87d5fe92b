# %% [markdown]
# # One training, many posteriors
#
# A laboratory runs the same small experiment hundreds of times: eight doses of a substance, twenty animals each, and the
# number that respond. From each experiment it wants two numbers with their uncertainty: the dose at which half of the
# animals respond, and how steep the curve is. Fitting each experiment by itself would work, but takes seconds each. Amortized
# inference trains *one* flow that maps any experiment to its posterior, and then needs milliseconds.
#
# How do you know that it is right for *all* experiments? By simulation-based calibration (SBC): simulate experiments with
# known parameters, and look where the truth lies among the draws of the posterior. It must be anywhere equally often.

# %%
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer import Predictive

import pushforward as pf
from pushforward.reports import plot_calibration

DOSES = jnp.linspace(-2.0, 2.0, 8)  # logarithms
ANIMALS = 20


def experiment(responses):
    threshold = numpyro.sample("threshold", dist.Normal(0.0, 1.0))
    slope = numpyro.sample("slope", dist.LogNormal(0.7, 0.5))
    logits = slope * (DOSES - threshold)
    numpyro.sample("responses", dist.Binomial(ANIMALS, logits=logits).to_event(1), obs=responses)


# %% [markdown]
# ## Train on simulated experiments
#
# The prior and the model are the simulator. Experiments of the training should come from the distribution of those that
# you will meet; far from them, the flow extrapolates.

# %%
simulator = Predictive(experiment, num_samples=4000)
training = simulator(jax.random.key(0), None)
target = pf.ConditionalTarget.from_numpyro(experiment, training["responses"][0])
amortized = pf.fit_amortized(target, training["responses"], key=jax.random.key(1), steps=3000)
print(amortized.summary())

# %% [markdown]
# ## One experiment
#
# Each posterior has its own evidence and its own verdict, computed from the model, not from the flow:

# %%
responses = jnp.array([0.0, 1, 3, 8, 15, 18, 20, 20])
found = amortized.diagnose(jax.random.key(2), responses)
draws = amortized.sample(jax.random.key(3), responses, 4000)
print(found.verdict, f"with an effective sample size of {found.ess_fraction:.1%}")
print({name: f"{x.mean():.2f} ± {x.std():.2f}" for name, x in draws.items()})

# %% [markdown]
# ## All experiments: calibration
#
# 1,000 new experiments, which the training has not seen. For each one, the rank of the true parameter among 255 draws.
# The ranks must be uniform: the p-values should not be small, and the curves should stay inside of the gray band.

# %% Calibration curves of both parameters inside of the band
fresh = Predictive(experiment, num_samples=1000)(jax.random.key(4), None)
truths = {name: fresh[name] for name in ("threshold", "slope")}
ranks = amortized.ranks(jax.random.key(5), truths, fresh["responses"])
print({name: f"p = {p:.2f}" for name, p in ranks.p_values().items()})
plot_calibration(ranks.pit(), "experiments")

# %% [markdown]
# Calibration looks at averages over experiments. The verdicts look at each of them:

# %%
verdicts = [amortized.diagnose(jax.random.key(6), data, 2000).verdict for data in fresh["responses"][:100]]
print({name: verdicts.count(name) for name in ("good", "reweight", "unreliable")})

# %% [markdown]
# ## What would be wrong
#
# Stop the training far too early, and calibration shows it. A curve that starts above the band and ends below it means
# posteriors that are too narrow: the truth lies outside of the draws too often.

# %% Calibration curves of a training that ended too early leave the band
hasty = pf.fit_amortized(target, training["responses"], key=jax.random.key(1), steps=60)
wrong = hasty.ranks(jax.random.key(5), truths, fresh["responses"])
print({name: f"p = {p:.1e}" for name, p in wrong.p_values().items()})
plot_calibration(wrong.pit(), "experiments")

# %% [markdown]
# If ranks are not uniform: train longer (`steps=`), give a larger `flow=`, or more informative `statistics=`. If only some
# experiments are bad, use `amortized.posterior(key, data).resample(key)` for those with the verdict "reweight", and
# `pf.fit_posterior(target.at(data), key=key)` for the others.
