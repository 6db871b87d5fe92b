# %% [markdown]
# # A hierarchical regression with partial pooling
#
# A drug is tested in twelve hospitals. Some treated forty patients, some only three. What is the effect of the dose in
# each hospital? There are two bad answers. Fit each hospital alone (*no pooling*): with three patients that is mostly
# noise. Fit all patients together (*complete pooling*): then hospitals cannot differ. *Partial pooling* is between the
# two, and the data decide how far.
#
# The data are simulated, so that we know the true slopes, and can see who is closest to them.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import pushforward as pf

jax.config.update("jax_enable_x64", True)

rng = np.random.default_rng(4)
patients = np.array([3, 3, 4, 4, 5, 6, 8, 10, 15, 20, 30, 40])
hospital = np.repeat(np.arange(12), patients)
true_slope = rng.normal(1.0, 0.4, 12)
dose = rng.uniform(-1, 1, len(hospital))
response = rng.normal(0, 0.5, 12)[hospital] + true_slope[hospital] * dose + rng.normal(0, 0.8, len(hospital))

# %% [markdown]
# ## The model
#
# Slopes and intercepts of the hospitals scatter around common means. We write them in the non-centered form, from
# standard normal numbers: where groups are small, this is the easier one.


# %%
def regression(hospital, dose, response=None):
    mean = numpyro.sample("mean", dist.Normal(0, 2).expand([2]).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(1).expand([2]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("hospitals", 12):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        intercept = numpyro.deterministic("intercept", mean[0] + spread[0] * z[:, 0])
        slope = numpyro.deterministic("slope", mean[1] + spread[1] * z[:, 1])
    with numpyro.plate("patients", len(dose)):
        center = intercept[hospital] + slope[hospital] * dose
        numpyro.sample("response", dist.Normal(center, noise), obs=response)


target = pf.Target.from_numpyro(regression, hospital, dose, response=response)
posterior = pf.fit_posterior(target, key=jax.random.key(0))
print(posterior.diagnostics.verdict)
print(*posterior.diagnostics.reasons)

# %% [markdown]
# ## What to look at
#
# Compare the three answers with the truth. Small hospitals, on the left, gain most.

# %% Slopes of twelve hospitals: alone they scatter widely, partly pooled they are close to the truth
draws = posterior.sample(jax.random.key(1), 4000)
pooled, (low, high) = np.mean(draws["slope"], 0), np.quantile(draws["slope"], [0.05, 0.95], axis=0)
alone = np.array([np.polyfit(dose[hospital == h], response[hospital == h], 1)[0] for h in range(12)])
together = np.polyfit(dose, response, 1)[0]

figure, axes = plt.subplots(figsize=(8, 3.6))
place = np.arange(12)
axes.errorbar(place, pooled, [pooled - low, high - pooled], fmt="o", label="partial pooling, with 90 % intervals")
axes.plot(place + 0.15, alone, "x", color="tab:red", label="each hospital alone")
axes.plot(place - 0.15, true_slope, "_", color="black", markersize=12, label="truth")
axes.axhline(together, color="gray", linestyle="--", linewidth=1, label="all together")
axes.set(xticks=place, xticklabels=patients, xlabel="patients in the hospital", ylabel="effect of the dose")
axes.legend(fontsize="small")

for name, estimate in {"alone": alone, "together": together, "partial pooling": pooled}.items():
    print(f"{name:16} root-mean-square error {np.sqrt(np.mean((estimate - true_slope) ** 2)):.2f}")

# %% [markdown]
# ## What would be wrong
#
# A good verdict says that the computation is right, not that the model is. Ask the model for new data and compare:
# `posterior.to_arviz(key, predictive=True)` has them, for `arviz.plot_ppc`. If the spread of the responses in many
# hospitals is outside of what the model predicts, it lacks something, such as a noise of each hospital.
#
# And read the spread of the slopes. If `spread[1]` were surely near zero, the hospitals would be alike, and the simpler
# model enough. Here it is not, but with hospitals of this size complete pooling is nearly as good on average; it gives every
# hospital one answer, though, and no way to see which ones differ.

# %%
names = posterior.summary()
print({name: f"{names[name].mean:.2f} ± {names[name].sd:.2f}" for name in ("mean[1]", "spread[1]", "noise")})
