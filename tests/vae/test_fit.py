"""Training a VAE."""

import functools
import json
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import pushforward as pf
from pushforward import vae as pv
from pushforward.bijections.arrays import trainable
from vae_cases import KEY, SHAPE, images, small


class OwnEncoder(pv.networks.Dense):
    """A class that `load` does not know."""


class SometimesNaN(pv.NegativeBound):
    """A loss that is NaN in every second step or so."""

    def loss(self, vae, batch, key, step):
        loss, parts = super().loss(vae, batch, key, step)
        return loss * jnp.where(jr.bernoulli(key), jnp.nan, 1.0), parts


def test_training_stops_goes_on_and_is_saved(tmp_path):
    """A training in two parts ends in the same bits as one in one part; its VAE is better, and can be saved."""
    x = images(60)
    encoder = OwnEncoder(SHAPE, (5,), (8,), key=KEY)
    vae = eqx.tree_at(lambda m: m.encoder, small("planar", "mixture"), encoder)
    options = {"key": KEY, "vae": vae, "batch_size": 20, "learning_rate": 1e-2, "warmup": 2}
    whole, history = pf.fit_vae(x, max_epochs=12, **options)
    assert history.series("beta")[1:].tolist() == [0.5] + [1.0] * 11
    file = tmp_path / "checkpoint"
    for epochs in (5, 12):
        parts, resumed = pf.fit_vae(x, max_epochs=epochs, checkpoint=file, **options)
    assert eqx.tree_equal(whole, parts)
    np.testing.assert_array_equal(resumed.losses, history.losses)
    np.testing.assert_array_equal(resumed.series("loss"), history.series("loss"))
    before, after = (pv.evaluate(m, x, key=KEY, num_samples=100, batch_size=25) for m in (vae, whole))
    assert after.nll < before.nll - 0.5
    assert after.elbo < -after.nll
    np.testing.assert_allclose(after.elbo, -after.reconstruction - after.kl, rtol=1e-6)
    assert after.bits_per_dim == pytest.approx(after.nll / (12 * np.log(2)))
    assert 0 <= after.active_units <= 2
    split = pv.kl_split(whole, x, key=KEY)
    assert -0.1 <= split.mutual_information <= np.log(60)
    assert sum(split) == pytest.approx(after.kl, abs=0.3)

    whole.save(tmp_path / "vae")
    loaded = pf.load(tmp_path / "vae", trusted=(__name__,))
    assert eqx.tree_equal(loaded, whole)
    np.testing.assert_array_equal(loaded.decode(jnp.ones(2)), whole.decode(jnp.ones(2)))
    changes = [
        ({"key": jr.key(1)}, "key"),
        ({"images": 1 - x}, "training images, validation images"),
        ({"warmup": 3, "batch_size": 10}, "batch_size, warmup"),
        ({"binarize": True}, "binarize"),
        ({"learning_rate": 1e-3}, "optimizer"),
        ({"objective": functools.partial(pv.NegativeBound, free_bits=1.0)}, "free_bits"),
        ({"objective": SometimesNaN}, "objective"),
        ({"vae": eqx.tree_at(lambda m: m.encoder, small(), encoder)}, "VAE"),
    ]
    for change, words in changes:
        with pytest.raises(ValueError, match=f"another fit, which differs in: .*{words}"):
            pf.fit_vae(**{"images": x, **options, **change}, checkpoint=file)


def test_a_schedule_is_part_of_a_checkpoint(tmp_path):
    options = {"key": KEY, "vae": small(), "checkpoint": tmp_path / "checkpoint"}
    rates = [optax.cosine_decay_schedule(rate, 1000) for rate in (1e-2, 1e-3)]
    pf.fit_vae(images(), max_epochs=1, learning_rate=rates[0], **options)
    _, history = pf.fit_vae(images(), max_epochs=2, learning_rate=rates[0], **options)
    assert len(history.evaluations) == 3
    with pytest.raises(ValueError, match="differs in: optimizer"):
        pf.fit_vae(images(), max_epochs=2, learning_rate=rates[1], **options)


def test_the_callback_and_ctrl_c_stop_training():
    """Both return the best VAE so far; only Ctrl-C warns."""
    seen = []

    def stop(progress):
        seen.append(progress)
        return len(seen) == 2

    vae, history = pf.fit_vae(images(), key=KEY, vae=small(), max_epochs=9, callback=stop)
    assert [progress.step for progress in seen] == [1, 2]
    assert set(seen[0].metrics) == {"reconstruction", "kl", "beta"}
    assert eqx.tree_equal(vae, seen[-1].model)
    assert seen[-1].best_loss == min(history.series("loss"))

    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted after .* steps"):
        _, history = pf.fit_vae(images(), key=KEY, vae=small(), max_epochs=9, callback=interrupt)
    assert len(history.evaluations) == 4


def test_patience_counts_after_the_warm_up():
    """With a learning rate of zero nothing improves, so training lasts for the warm-up and the patience."""
    _, history = pf.fit_vae(images(), key=KEY, vae=small(), learning_rate=0.0, warmup=3, patience=2, max_epochs=9)
    assert len(history.evaluations) == 1 + 3 + 2


def test_a_checkpoint_of_version_0_1_0_is_refused(tmp_path):
    """It names classes that no longer exist; the file stays as it was."""
    document = {
        "format": 1,
        "versions": {"pushforward": "0.1.0"},
        "tree": {"kind": "object", "class": "pushforward.vae.checkpoint:State", "fields": {}},
    }
    file = tmp_path / "checkpoint"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pushforward.json", json.dumps(document))
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"not a checkpoint that this version can resume.*pushforward 0\.1\.0"):
        pf.fit_vae(images(), key=KEY, vae=small(), checkpoint=file)
    assert file.read_bytes() == before


def test_what_cannot_be_saved_is_known_early(tmp_path):
    with pytest.raises(FileNotFoundError):
        pf.fit_vae(images(), key=KEY, vae=small(), checkpoint=tmp_path / "nowhere" / "file")


def test_steps_that_are_not_finite_are_skipped():
    """They change nothing, and a warning counts them; without any finite step there is no result."""
    x = images(40)
    options = {"key": KEY, "batch_size": 6, "max_epochs": 2}
    with pytest.warns(UserWarning, match="of 12 steps were skipped"):
        vae, history = pf.fit_vae(x, vae=small(), objective=SometimesNaN, **options)
    assert 0 < history.skipped < 12
    assert all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(eqx.filter(vae, trainable(vae))))
    broken = eqx.tree_at(lambda m: m.decoder.layers[0].bias, small(), replace_fn=lambda b: b * jnp.nan)
    with pytest.raises(FloatingPointError, match="no estimate of the loss was finite in 12 steps"):
        pf.fit_vae(x, vae=broken, **options)


def test_training_comes_back_from_where_no_step_is_finite():
    """After one step all losses are infinite; an epoch later training continues from the best parameters."""
    rates = optax.adam(lambda count: jnp.where(count == 9, 1e300, 1e-2))
    with pytest.warns(UserWarning, match="steps were skipped"):
        vae, history = pf.fit_vae(images(60), key=KEY, vae=small(), optimizer=rates, batch_size=9, max_epochs=6)
    _, *skipped = history.series("skipped")
    _, *losses = history.series("loss")
    assert skipped[0] == 0
    assert 6 in skipped
    assert skipped[-1] == 0
    assert min(losses[3:]) < losses[0]


class SometimesSteep(pv.NegativeBound):
    """A gradient that is a million times too long in one step."""

    def loss(self, vae, batch, key, step):
        loss, parts = super().loss(vae, batch, key, step)
        return loss * jnp.where(step == 5, 1e6, 1.0), parts


@pytest.mark.conformance
def test_a_gradient_that_is_far_too_long_does_not_stall_training():
    x, options = images(200), {"key": KEY, "learning_rate": 1e-2, "max_epochs": 60, "batch_size": 20}
    _, usual = pf.fit_vae(x, vae=small(), **options)
    _, clipped = pf.fit_vae(x, vae=small(), objective=SometimesSteep, **options)
    _, stalled = pf.fit_vae(x, vae=small(), objective=SometimesSteep, optimizer=optax.adam(1e-2), **options)
    best, best_clipped, best_stalled = (max(-history.series("loss")) for history in (usual, clipped, stalled))
    assert best_clipped > best - 0.1
    assert best_clipped > best_stalled + 0.5


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
        pf.fit_vae(x, key=KEY, vae=small())
