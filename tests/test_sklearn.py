"""The scikit-learn estimator: scikit-learn's checks, pipelines and searches."""

import pickle

import jax
import numpy as np
import pandas
import pytest
from numpyro.distributions import constraints
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import pushforward as pf
from pushforward.sklearn import FlowDensity

SMALL = FlowDensity(flow="linear", max_epochs=1, random_state=0)
X = np.random.default_rng(0).normal(3, 2, size=(200, 2))


# Some of scikit-learn's checks, each of which compiles; `benchmarks/sklearn_checks.py` runs all of them.
KEPT = {
    "check_all_zero_sample_weights_error",
    "check_estimators_nan_inf",
    "check_estimators_pickle",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_sample_weights_not_overwritten",
    "check_sample_weights_shape",
}
CHECKS = {c.func.__name__: (e, c) for e, c in estimator_checks_generator(SMALL) if c.func.__name__ in KEPT}


@pytest.mark.parametrize("name", sorted(KEPT & set(CHECKS)))
def test_scikit_learns_checks(name):
    estimator, check = CHECKS[name]
    check(clone(estimator))


def test_a_pipeline_and_a_search_in_single_precision():
    with jax.enable_x64(False):
        pipeline = make_pipeline(StandardScaler(), SMALL)
        search = GridSearchCV(pipeline, {"flowdensity__max_epochs": [1, 20]}, cv=2).fit(X)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        best = search.best_estimator_
        assert best.score_samples(X).dtype == np.float64
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).score_samples(X), best.score_samples(X))


def test_a_flow_with_networks_can_be_pickled_and_names_its_features():
    model = FlowDensity(max_epochs=1, random_state=0).fit(X)
    with jax.enable_x64(False):
        again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert again.flow_.shape == (2,) and again.density_.training is None and model.density_.training is not None
    assert list(model.get_feature_names_out()) == ["flowdensity0", "flowdensity1"]


def test_transform_and_its_inverse():
    model = clone(SMALL).set_params(max_epochs=100, support=constraints.greater_than(-20.0)).fit(X)
    z = model.transform(X)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.2)
    np.testing.assert_allclose(z.std(0), 1, atol=0.2)
    np.testing.assert_allclose(model.inverse_transform(z), X, rtol=1e-9)
    draws = model.sample(50)
    assert draws.shape == (50, 2)
    np.testing.assert_array_equal(model.sample(50), draws)
    assert model.score(X) == pytest.approx(model.score_samples(X).mean())


def test_errors_for_other_flows():
    for flow, match in (("nosuch", "but is 'nosuch'"), (pf.flows.linear(2, key=jax.random.key(0)), "but is Flow")):
        with pytest.raises(ValueError, match=f"must name a recipe in pushforward.flows, {match}"):
            FlowDensity(flow=flow).fit(X)


@pytest.mark.parametrize("name", ["autoregressive", "stack", "default", "__name__"])
def test_names_in_the_module_of_recipes_that_are_not_recipes(name):
    with pytest.raises(ValueError, match="the recipes are arnsf, .*maf, "):
        FlowDensity(flow=name).fit(X)


def test_transform_outside_the_support():
    model = clone(SMALL).set_params(support=constraints.positive).fit(np.abs(X))
    outside = np.array([[1.0, 1.0], [2.0, -3.0]])
    with pytest.raises(ValueError, match="1 values outside the support, .* in row 1, column 1: -3"):
        model.transform(outside)
    assert model.score_samples(outside)[1] == -np.inf


@pytest.mark.conformance
def test_transform_of_angles_beyond_a_turn():
    turned = np.column_stack([40 * X[:, 0] - 180, X[:, 1]])
    model = clone(SMALL).set_params(flow=None, support={0: pf.Circular(360.0)}).fit(turned)
    np.testing.assert_allclose(model.transform(turned + [720, 0]), model.transform(turned), atol=1e-6)


def test_options_without_a_recipe():
    with pytest.raises(ValueError, match=r"flow must name one.*flow_options=\{'num_layers': 2\}"):
        FlowDensity(flow_options={"num_layers": 2}).fit(X)


@pytest.mark.parametrize("number", [0, -1, 2.5, None])
def test_invalid_numbers_of_samples(number):
    with pytest.raises(ValueError, match="n_samples must be a whole number of 1 or more"):
        clone(SMALL).fit(X).sample(number)


def test_sample_weights():
    shifted = np.concatenate([X, X + 100])
    weights = np.repeat([2.0, 0.0], len(X))
    model = clone(SMALL).fit(shifted, sample_weight=weights)
    np.testing.assert_allclose(model.transform(X).mean(0), 0, atol=0.1)
    for wrong in (weights[1:], -weights):
        with pytest.raises(ValueError):
            clone(SMALL).fit(shifted, sample_weight=wrong)


def test_random_states():
    draws = [clone(SMALL).set_params(random_state=state).fit(X).sample(3) for state in (1, np.int64(1), 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    model = clone(SMALL).set_params(random_state=np.random.RandomState(1)).fit(X)
    assert (model.sample(3) != model.sample(3)).any()
    with pytest.raises(ValueError, match="cannot be used to seed"):
        clone(SMALL).set_params(random_state="seed").fit(X)


def test_columns_of_a_frame_by_name():
    counts = np.random.default_rng(0).poisson(3.0, 200)
    frame = pandas.DataFrame({"size": np.exp(X[:, 0]), "count": counts})
    model = clone(SMALL).set_params(support={"size": constraints.positive}, discrete=["count"]).fit(frame)
    draws = model.sample(100)
    assert (draws[:, 0] > 0).all() and (draws[:, 1] % 1 == 0).all()
    assert model.density_.columns == ("size", "count")
    assert np.isfinite(model.score(frame))
