"""VAEs: the plain one by hand, exact marginals, every family of posteriors and priors, and what is refused."""

import functools
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
import scipy.stats

import pushforward as pf
from pushforward import bijections as bj, vae as pv
from pushforward.cli import main
from pushforward.vae import evaluation
from pushforward.vae.data import load_images

interpolations, sheet, traversals = pv.pictures.interpolations, pv.pictures.sheet, pv.pictures.traversals

KEY = jr.key(0)
SHAPE = (3, 4)


def images(n=20, seed=0):
    """Bars: two kinds of pictures, with noise."""
    rng = np.random.default_rng(seed)
    bars = np.zeros((2, *SHAPE))
    bars[0, 1], bars[1, :, 2] = 1, 1
    return (rng.random((n, *SHAPE)) < 0.1 + 0.8 * bars[rng.integers(0, 2, n)]).astype(float)


@pytest.fixture(autouse=True, scope="module")
def _compile_fast():
    """These programs run for moments, and take long to compile."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@functools.cache
def small(posterior="gaussian", prior="normal", *, dim=2, likelihood=None):
    sizes = {"num_layers": 2, "prior_layers": 1, "widths": (8,), "features": 5}
    return pv.build(SHAPE, key=KEY, dim=dim, posterior=posterior, prior=prior, likelihood=likelihood, **sizes)


def far(tree, scale=0.3):
    """Parameters away from where they begin."""
    rng = np.random.default_rng(7)
    arrays, rest = eqx.partition(tree, pf.flow.trainable(tree))
    return eqx.combine(jax.tree.map(lambda a: jnp.asarray(a + scale * rng.normal(size=a.shape)), arrays), rest)


def test_without_a_flow_it_is_the_plain_vae():
    """Loss and gradient are those of a Gaussian VAE written down, at the same draws."""
    vae, x = far(small()), jnp.asarray(images())
    gaussian = vae.posterior.bijection.bijections[0]

    def plain(encoder, decoder, x, key):
        h = jax.vmap(encoder)(x)
        out = h @ gaussian.network.weights[0].T + gaussian.network.biases[0]
        affine = gaussian.bijection.scalars
        loc, raw = affine.loc + out[:, :2], affine.raw_scale + out[:, 2:]
        scale = (raw + jnp.sqrt(raw**2 + 4)) / 2
        noise = jr.normal(key, (1, len(x), 2))[0]
        u = loc + scale * noise
        logits = jax.vmap(decoder)(u)[:, 0]
        log_likelihood = jnp.sum(x * logits - jnp.logaddexp(0, logits), axis=(1, 2))
        log_prior = jnp.sum(-0.5 * u**2 - 0.5 * jnp.log(2 * jnp.pi), axis=1)
        log_q = jnp.sum(-0.5 * noise**2 - 0.5 * jnp.log(2 * jnp.pi) - jnp.log(scale), axis=1)
        return -jnp.mean(log_likelihood + log_prior - log_q)

    def ours(encoder, decoder, x, key):
        model = eqx.tree_at(lambda m: (m.encoder, m.decoder), vae, (encoder, decoder))
        return pv.NegativeBound()(model, x, key).loss

    def both(fn):
        return eqx.filter_jit(eqx.filter_value_and_grad(lambda parts: fn(*parts, x, KEY)))((vae.encoder, vae.decoder))

    (value, gradient), (expected, expected_gradient) = both(ours), both(plain)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


FAMILIES = [(name, "normal") for name in pv.POSTERIORS] + [("gaussian", name) for name in pv.PRIORS if name != "normal"]


@pytest.mark.parametrize(("posterior", "prior"), FAMILIES)
def test_every_family(posterior, prior):
    """A finite bound, and a gradient for every array of every part; the flow begins as the identity."""
    vae, x = small(posterior, prior), jnp.asarray(images(4))
    moved = far(vae)

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def loss(vae):
        value = pv.NegativeBound()(vae, x, KEY)
        return value.loss, value.kl

    (value, _), gradient = loss(moved)
    assert jnp.isfinite(value)
    arrays = jax.tree.leaves(eqx.filter(moved, pf.flow.trainable(moved)))
    gradients = jax.tree.leaves(eqx.filter(gradient, pf.flow.trainable(moved)))
    assert len(arrays) == len(gradients)
    # Householder vectors of length one stand for their sign alone; unused entries of arrays have none.
    still = [a.shape for a, g in zip(arrays, gradients, strict=True) if a.size > 1 and not jnp.any(g != 0)]
    assert not still
    assert all(bool(jnp.isfinite(g).all()) for g in gradients)
    (value, kl), _ = loss(vae)
    assert jnp.isfinite(value)
    if prior != "mixture":
        np.testing.assert_allclose(kl, 0, atol=1e-6)


def linear_gaussian(sigma=0.7):
    """x = A u + b + sigma noise with u ~ N(0, I): the marginal is known. The encoder passes the pixels on."""
    vae = small(likelihood=pv.Gaussian(sigma))
    decoder = pv.networks.Dense((2,), (1, *SHAPE), (), key=jr.key(3))
    encoder = pv.networks.Dense(SHAPE, (5,), (), key=jr.key(4))
    vae = pv.VAE(encoder, decoder, far(vae.posterior), vae.prior, vae.likelihood)
    a, b = np.asarray(decoder.layers[0].weight), np.asarray(decoder.layers[0].bias)
    return vae, scipy.stats.multivariate_normal(b, a @ a.T + sigma**2 * np.eye(len(b)))


def test_likelihood_of_a_linear_gaussian_model():
    """Importance sampling finds the exact marginal, from below, and the better the more draws."""
    vae, exact = linear_gaussian()
    rng = np.random.default_rng(0)
    x = 0.5 * rng.normal(size=(6, *SHAPE))
    truth = exact.logpdf(x.reshape(6, -1))
    bounds = []
    for count in (1, 10, 20_000):
        estimate = jax.jit(jax.vmap(lambda key, n=count: vae.log_likelihood_estimate(x, key, n, chunk=1000)))
        bounds.append(estimate(jr.split(KEY, 200 if count < 100 else 1)).mean(0))
    assert np.all(bounds[0] < bounds[1])
    assert np.all(bounds[1] < truth)
    np.testing.assert_allclose(bounds[2], truth, atol=0.05)


def test_chunks_make_no_difference_to_the_estimate():
    vae, x = far(small()), jnp.asarray(images(3))
    estimate = eqx.filter_jit(lambda x, count, chunk: vae.log_likelihood_estimate(x, KEY, count, chunk=chunk))
    np.testing.assert_allclose(estimate(x, 4000, 300), estimate(x, 4000, 4000), atol=0.1)
    assert jax.eval_shape(lambda: vae.log_likelihood_estimate(x[0], KEY, 3)).shape == ()


def test_path_gradient_has_the_same_mean():
    vae, x = far(small("planar"), 0.2), jnp.asarray(images(4))

    def gradient(path_gradient):
        @jax.jit
        @jax.vmap
        def of(key):
            arrays, rest = eqx.partition(vae.posterior, pf.flow.trainable(vae.posterior))

            def loss(arrays):
                model = eqx.tree_at(lambda m: m.posterior, vae, eqx.combine(arrays, rest))
                return pv.NegativeBound(path_gradient=path_gradient)(model, x, key).loss

            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(jax.grad(loss)(arrays))])

        draws = of(jr.split(KEY, 2000))
        return draws.mean(0), draws.std(0) / 2000**0.5

    (one, one_se), (two, two_se) = gradient(False), gradient(True)
    z = (one - two) / jnp.sqrt(one_se**2 + two_se**2 + 1e-16)
    assert jnp.abs(z).max() < 5


def test_bounds():
    """Free bits, the weight of the KL term and the importance-weighted bound do what they say."""
    vae, x = far(small()), jnp.asarray(images())

    @eqx.filter_jit
    def bound(beta=1.0, **options):
        return pv.NegativeBound(**options)(vae, x, KEY, beta)

    value = bound()
    np.testing.assert_allclose(value.loss, value.reconstruction + value.kl)
    half = bound(0.5)
    np.testing.assert_allclose(half.loss, value.reconstruction + 0.5 * value.kl)
    many = float(value.kl) + 3
    np.testing.assert_allclose(bound(free_bits=many).loss, value.reconstruction + many)
    weighted = bound(num_samples=7).loss
    terms = eqx.filter_jit(vae.terms)(x, KEY, 7)
    np.testing.assert_allclose(weighted, -np.mean(scipy.special.logsumexp(terms.log_weight, 0) - np.log(7)))
    with pytest.raises(ValueError, match="num_samples=7"):
        pv.NegativeBound(num_samples=7, path_gradient=True)


def test_likelihoods_by_hand():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, SHAPE) / 3
    logits = rng.normal(size=(4, *SHAPE))
    log_p = logits - scipy.special.logsumexp(logits, axis=0)
    expected = sum(log_p[round(3 * x[i, j]), i, j] for i in range(3) for j in range(4))
    four = pv.Categorical(4)
    np.testing.assert_allclose(four.log_prob(logits, x), expected)
    np.testing.assert_allclose(four.image(logits), sum(np.exp(log_p[k]) * k / 3 for k in range(4)))
    four.check(np.asarray(four.draw(KEY, logits)))

    binary, p = np.round(x), 1 / (1 + np.exp(-logits[0]))
    expected = np.log(np.where(binary == 1, p, 1 - p)).sum()
    np.testing.assert_allclose(pv.Bernoulli().log_prob(logits[:1], binary), expected)
    np.testing.assert_allclose(pv.Bernoulli().image(logits[:1]), p)

    scale = 0.02 + (logits[1] + np.sqrt(logits[1] ** 2 + 4)) / 2
    expected = scipy.stats.norm.logpdf(x, logits[0], scale).sum()
    np.testing.assert_allclose(pv.Gaussian(smallest=0.02).log_prob(logits[:2], x), expected)
    expected = scipy.stats.norm.logpdf(x, logits[0], 0.3).sum()
    np.testing.assert_allclose(pv.Gaussian(0.3).log_prob(logits[:1], x), expected)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (2, 5, 6)])
def test_convolutions_mirror_each_other(shape):
    encoder, decoder = pv.conv_pair(shape, 3, 2, key=KEY, channels=(4, 4, 6, 6), features=5)
    assert encoder(jnp.zeros(shape)).shape == (5,)
    assert decoder(jnp.zeros(3)).shape == (2, *shape)


class OwnEncoder(pv.networks.Dense):
    """A class that `load` does not know."""


def test_training_stops_goes_on_and_is_saved(tmp_path):
    """A training that was stopped ends as one that was not; what it gives is better, and can be saved."""
    x = images(60)
    encoder = OwnEncoder(SHAPE, (5,), (8,), key=KEY)
    vae = eqx.tree_at(lambda m: m.encoder, small("planar", "mixture"), encoder)
    options = {"key": KEY, "vae": vae, "progress": False, "batch_size": 20, "learning_rate": 1e-2, "warmup": 2}
    whole, history = pf.fit_vae(x, max_epochs=12, **options)
    assert history.beta == [0.5] + [1.0] * 11
    file = tmp_path / "checkpoint"
    for epochs in (5, 12):
        parts, resumed = pf.fit_vae(x, max_epochs=epochs, checkpoint=file, **options)
    assert eqx.tree_equal(whole, parts)
    assert resumed.loss == history.loss
    before, after = (pv.evaluate(m, x, key=KEY, num_samples=100, batch_size=25) for m in (vae, whole))
    assert after.nll < before.nll - 0.5
    assert after.elbo < -after.nll
    np.testing.assert_allclose(after.elbo, -after.reconstruction - after.kl, rtol=1e-6)
    assert after.bits_per_dim == pytest.approx(after.nll / (12 * np.log(2)))
    assert 0 <= after.active_units <= 2
    split = pv.kl_split(whole, x, key=KEY)
    assert -0.1 <= split.mutual_information <= np.log(60)
    assert sum(split) == pytest.approx(after.kl, abs=0.3)

    pf.save(tmp_path / "vae", whole)
    loaded = pf.load(tmp_path / "vae", trusted=(__name__,))
    assert eqx.tree_equal(loaded, whole)
    np.testing.assert_array_equal(loaded.decode(jnp.ones(2)), whole.decode(jnp.ones(2)))
    changes = [
        ({"key": jr.key(1)}, "key"),
        ({"x": 1 - x}, "training images, held-out images"),
        ({"warmup": 3, "batch_size": 10}, "warmup, batch_size"),
        ({"binarize": True}, "binarize"),
        ({"learning_rate": 1e-3}, "optimiser"),
        ({"objective": pv.NegativeBound(free_bits=1.0)}, "objective"),
        ({"vae": eqx.tree_at(lambda m: m.encoder, small(), encoder)}, "VAE"),
    ]
    for change, words in changes:
        with pytest.raises(ValueError, match=f"another training, which differs in: .*{words}"):
            pf.fit_vae(**{"x": x, **options, **change}, checkpoint=file)


def test_a_schedule_is_part_of_a_checkpoint(tmp_path):
    options = {"key": KEY, "vae": small(), "progress": False, "checkpoint": tmp_path / "checkpoint"}
    rates = [optax.cosine_decay_schedule(rate, 1000) for rate in (1e-2, 1e-3)]
    pf.fit_vae(images(), max_epochs=1, learning_rate=rates[0], **options)
    _, history = pf.fit_vae(images(), max_epochs=2, learning_rate=rates[0], **options)
    assert len(history.loss) == 2
    with pytest.raises(ValueError, match="differs in: optimiser"):
        pf.fit_vae(images(), max_epochs=2, learning_rate=rates[1], **options)


def test_what_cannot_be_saved_is_known_early(tmp_path):
    with pytest.raises(FileNotFoundError):
        pf.fit_vae(images(), key=KEY, vae=small(), progress=False, checkpoint=tmp_path / "nowhere" / "file")


def test_evaluation_of_a_collapsed_model_and_of_other_images():
    """No unit is active where the posterior is the prior; images that training refuses are refused."""
    assert pv.evaluate(small(), images(200), key=KEY, num_samples=2, elbo_samples=2).active_units == 0
    for judge in (pv.evaluate, pv.kl_split):
        with pytest.raises(ValueError, match=r"Bernoulli.*between"):
            judge(small(), 0.5 * images(), key=KEY)
        with pytest.raises(ValueError, match="Divide"):
            judge(small(), 255 * images(), key=KEY)


def test_memory_is_bounded(monkeypatch):
    assert evaluation.bounded(500, 4, small()) == 500
    monkeypatch.setattr(evaluation, "LARGEST", 7 * 4 * 12 + 1)
    assert [evaluation.bounded(500, others, small()) for others in (4, 1000)] == [7, 1]


def test_eight_bits_are_divided_and_masks_are_not(tmp_path):
    mask = images().astype(np.uint8)
    np.savez(tmp_path / "mask.npz", train=mask, test=mask, labels=np.full(3, 9, np.uint8))
    np.savez(tmp_path / "grey.npz", train=255 * mask, test=mask)
    np.testing.assert_array_equal(load_images(tmp_path / "mask.npz")["train"], mask)
    grey = load_images(tmp_path / "grey.npz")
    assert (grey["train"].max(), grey["test"].max()) == (1, np.float32(1 / 255))


def test_pictures():
    vae, x = small(), images(5)
    draws = vae.sample(KEY, (2, 3))
    assert draws.shape == (2, 3, *SHAPE)
    assert set(np.unique(draws)) <= {0.0, 1.0}

    @jax.eval_shape
    def shapes():
        return {
            "sample": vae.sample(KEY, (4,), expected=True),
            "reconstruct": vae.reconstruct(x, KEY),
            "infer": vae.infer(x, KEY, (3,)),
            "traversals": traversals(vae, x[0], KEY, steps=6),
            "interpolations": interpolations(vae, x[:2], x[2:4], KEY, steps=4),
        }

    assert {name: a.shape for name, a in shapes.items()} == {
        "sample": (4, *SHAPE),
        "reconstruct": x.shape,
        "infer": (3, 5, 2),
        "traversals": (2, 6, *SHAPE),
        "interpolations": (2, 4, *SHAPE),
    }
    grid = sheet(np.ones((2, 3, *SHAPE)))
    assert grid.shape == (2 * 4 + 1, 3 * 5 + 1)
    assert grid.sum() == 6 * 12


class SometimesNaN(pv.NegativeBound):
    def __call__(self, vae, x, key, beta=1.0):
        value = super().__call__(vae, x, key, beta)
        return value._replace(loss=value.loss * jnp.where(jr.bernoulli(key), jnp.nan, 1.0))


def test_steps_that_are_not_finite_are_skipped():
    """They do not spoil what was learned, and are told; where none was finite, there is nothing to return."""
    x = images(40)
    options = {"key": KEY, "batch_size": 6, "max_epochs": 2, "progress": False}
    with pytest.warns(UserWarning, match="of 12 steps were skipped"):
        vae, history = pf.fit_vae(x, vae=small(), objective=SometimesNaN(), **options)
    assert 0 < sum(history.skipped) < 12
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(eqx.filter(vae, pf.flow.trainable(vae))))
    broken = eqx.tree_at(lambda m: m.decoder.layers[0].bias, small(), replace_fn=lambda b: b * jnp.nan)
    with pytest.raises(FloatingPointError, match="not finite in any of 2 epochs"):
        pf.fit_vae(x, vae=broken, **options)


def test_training_comes_back_from_where_no_step_is_finite():
    """One step throws the parameters to where all losses are infinite; the next epoch but one trains on."""
    rates = optax.adam(lambda count: jnp.where(count == 9, 1e300, 1e-2))
    with pytest.warns(UserWarning, match="steps were skipped"):
        vae, history = pf.fit_vae(
            images(60), key=KEY, vae=small(), optimizer=rates, batch_size=9, max_epochs=6, progress=False
        )
    assert history.skipped[0] == 0
    assert 6 in history.skipped
    assert history.skipped[-1] == 0
    assert max(history.validation_elbo[3:]) > history.validation_elbo[0]


class SometimesSteep(pv.NegativeBound):
    """A gradient a million times too long, of one batch in a hundred."""

    def __call__(self, vae, x, key, beta=1.0):
        value = super().__call__(vae, x, key, beta)
        steep = jnp.where(jr.bernoulli(key, 0.01), 1e6, 1.0)
        return value._replace(loss=value.loss * steep)


def test_a_gradient_that_is_far_too_long_does_not_stall_training():
    x, options = images(200), {"key": KEY, "learning_rate": 1e-2, "max_epochs": 60, "batch_size": 20, "progress": False}
    _, usual = pf.fit_vae(x, vae=small(), **options)
    _, clipped = pf.fit_vae(x, vae=small(), objective=SometimesSteep(), **options)
    _, stalled = pf.fit_vae(x, vae=small(), objective=SometimesSteep(), optimizer=optax.adam(1e-2), **options)
    best, best_clipped, best_stalled = (max(history.validation_elbo) for history in (usual, clipped, stalled))
    assert best_clipped > best - 0.1
    assert best_clipped > best_stalled + 0.5


def test_what_does_not_fit_is_refused():
    good = small()
    narrow = pv.networks.Dense(SHAPE, (4,), (), key=KEY)
    with pytest.raises(ValueError, match=r"encoder emits 4 numbers.*Amortized Elementwise, takes 5"):
        pv.VAE(narrow, good.decoder, good.posterior, good.prior)
    with pytest.raises(ValueError, match=r"5 scalars in the arrays of Planar.* returns shape \(4,\)"):
        bj.Amortized(bj.Planar(2, key=KEY), narrow, SHAPE)
    with pytest.raises(ValueError, match=r"4 arrays .* Categorical .*returns shape \(1, 3, 4\)"):
        pv.VAE(good.encoder, good.decoder, good.posterior, good.prior, pv.Categorical(4))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        pv.VAE(good.encoder, good.decoder, good.posterior, pv.prior("normal", 3, key=KEY))
    with pytest.raises(ValueError, match="takes no condition"):
        pv.VAE(good.encoder, good.decoder, good.prior, good.prior)
    with pytest.raises(ValueError, match="must take no condition"):
        pv.VAE(good.encoder, good.decoder, good.posterior, good.posterior)
    wrong = pv.networks.Dense((4, 4), (5,), (), key=KEY)
    with pytest.raises(ValueError, match="encoder does not take the images"):
        pv.VAE(wrong, good.decoder, good.posterior, good.prior)
    positive = pf.Flow(dist.Gamma(2.0, jnp.ones(2)).to_event(1), bj.Identity((2,)))
    with pytest.raises(ValueError, match="posterior's support"):
        pv.VAE(good.encoder, good.decoder, good.posterior, positive)
    ends = bj.Chain([good.posterior.bijection, bj.Elementwise(bj.Exp(), 2)])
    both = pv.VAE(good.encoder, good.decoder, pf.Flow(good.posterior.base, ends), positive)
    assert jnp.all(jnp.isfinite(eqx.filter_jit(both.elbo)(images(3), KEY)))
    with pytest.raises(ValueError, match=r"shape \(..., 3, 4\), but have \(5, 4\)"):
        good.elbo(np.zeros((5, 4)), KEY)
    with pytest.raises(ValueError, match="one of gaussian, planar"):
        small("plane")
    with pytest.raises(ValueError, match="one of normal, mixture"):
        small(prior="plane")


def interrupt(*_):
    raise KeyboardInterrupt


def test_command_line(tmp_path, capsys, monkeypatch):
    """It trains on a file, goes on from its checkpoint, and says what it found; pictures come last."""
    file, out = tmp_path / "images.npz", tmp_path / "out"
    np.savez(file, train=(255 * images(50)).astype(np.uint8))
    command = ["vae", "--data", str(file), "--out", str(out), "--posterior", "planar", "--prior", "normal", "--quiet"]
    command += ["--latent", "2", "--layers", "1", "--importance", "20", "--warmup", "1"]
    with jax.enable_x64(False):
        with monkeypatch.context() as patch:
            patch.setattr("pushforward.cli.vae._draw", interrupt)
            assert main([*command, "--epochs", "2"]) == 130
        assert "same command goes on from" in capsys.readouterr().err
        assert {path.name for path in out.iterdir()} == {"model.vae", "checkpoint.vae", "summary.json"}
        assert main([*command, "--epochs", "3"]) == 0
    assert "3 epochs" in capsys.readouterr().out
    names = {"model.vae", "checkpoint.vae", "summary.json", "reconstructions.png", "samples.png"}
    assert {path.name for path in out.iterdir()} == names | {"traversals.png", "interpolations.png"}
    assert json.loads((out / "summary.json").read_text())["test images"] == 5
    assert pf.load(out / "model.vae").shape == SHAPE


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latent", "0"], "--latent must be 1 or more"),
        (["--data", "nowhere.npz"], "no file nowhere.npz"),
        (["--data", "two.npz"], 'an array "train"'),
        (["--data", "large.npz"], "pixels must lie in [0, 1]"),
        (["--data", "flat.npz"], '"train" must have shape (n, height, width)'),
        (["--data", "other.npz"], 'images of "test" have shape (4, 3)'),
        (["--data", "nan.npz"], 'the array "test": the images hold 240 pixels'),
        (["--data", "grey.npz", "--likelihood", "categorical", "--levels", "3"], "Categorical likelihood of 3 levels"),
    ],
)
def test_command_line_mistakes(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", a=images(), b=images())
    np.savez("large.npz", a=3 * images())
    np.savez("flat.npz", train=images().reshape(-1, 12))
    np.savez("other.npz", train=images(), test=images().swapaxes(1, 2))
    np.savez("nan.npz", train=images(), test=np.nan * images())
    np.savez("grey.npz", train=images(), test=0.3 * images())
    assert main(["vae", "--out", "out", "--quiet", *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (255 * images(), r"\[0, 255\].*Divide"),
        (images() - 0.5, r"\[-0.5, 0.5\]"),
        (np.where(images() > 0, np.nan, 0), "NaN"),
        (0.5 * images(), "Bernoulli.*between"),
        (np.zeros((10, 5, 5)), r"\(3, 4\).*\(9, 5, 5\)"),
        (np.zeros(10), r"shape \(10,\)"),
    ],
)
def test_bad_images_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        pf.fit_vae(x, key=KEY, vae=small(), progress=False)
