"""The recommended forecaster: it recovers what was planted, explains itself, can be saved."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from crossattn.baselines.linear import VAR
from crossattn.errors import InvalidInputError, NotFittedError
from crossattn.forecaster import CrossAttentionForecaster, hold_out
from crossattn.model.network import CrossAttentionMultiAsset
from crossattn.simulate.market import simulate_market
from crossattn.windows.dataset import prepare_cross_attention_data


def fidelity(forecast, market, data):
    return np.corrcoef(forecast.ravel(), market.oracle[data.ends].ravel())[0, 1]


@pytest.fixture(scope="module")
def planted():
    market = simulate_market("static", n_assets=5, n_steps=6_000, predictability=0.05, seed=11)
    data = prepare_cross_attention_data(
        market.frames, lookback=16, horizon=1, features=("log_return", "relative_volume", "range")
    )
    train, val, test = data.split(train=0.7, val=0.1)
    forecaster = CrossAttentionForecaster(n_models=2, progress=False).fit(train, val)
    return market, train, val, test, forecaster


def test_it_recovers_the_planted_market(planted):
    market, _, _, test, forecaster = planted
    assert fidelity(forecaster.predict(test), market, test) > 0.97
    size = np.abs(forecaster.coefficients(test)).mean(0)
    symbols = list(forecaster.symbols_)
    true = [
        (symbols.index(e.follower), symbols.index(e.leader), e.lag)
        for e in market.edges.itertuples()
    ]
    weakest = min(size[i, j].sum() for i, j, _ in true)
    others = [
        size[i, j].sum()
        for i in range(5)
        for j in range(5)
        if i != j and (i, j) not in {(i, j) for i, j, _ in true}
    ]
    assert weakest > max(others), "every planted edge stands above every other pair"
    assert all(size[i, j].argmax() + 1 == lag for i, j, lag in true)


def test_contributions_add_up_and_attention_to_one(planted):
    *_, test, forecaster = planted
    forecast, parts = forecaster.predict(test), forecaster.contributions(test)
    intercept = np.mean([m.head.intercept.numpy() for m in forecaster.models_], axis=0)
    np.testing.assert_allclose(parts.sum((2, 3)) + intercept, forecast, atol=1e-8)
    attention = forecaster.attention(test)
    assert attention.shape == (len(test), 5, 5, 8)
    np.testing.assert_allclose(attention.sum((2, 3)), 1.0, atol=1e-5)


def test_leaders_are_the_largest_pull_and_minus_one_where_none_is_known(planted):
    *_, test, forecaster = planted
    pull = np.abs(forecaster.coefficients(test)).sum(-1)
    leaders = forecaster.leaders(test)
    np.testing.assert_array_equal(leaders, pull.argmax(-1))
    assert (leaders != np.arange(5)).all(), "no asset leads itself"
    panel = test.panel.copy()
    panel[test.ends[0] - 7 : test.ends[0] + 1] = np.nan
    dark = dataclasses.replace(test, panel=panel)
    found = forecaster.leaders(dark)
    assert (found[0] == -1).all() and (found[100] >= 0).all()
    assert np.isfinite(forecaster.predict(dark)).all()


def test_members_are_the_one_model_class(planted):
    *_, forecaster = planted
    assert all(type(model) is CrossAttentionMultiAsset for model in forecaster.models_)
    assert set(forecaster.history_["member"]) == {0, 1}


def test_it_comes_back_from_disk(planted, tmp_path):
    *_, test, forecaster = planted
    forecaster.save(tmp_path / "saved")
    back = CrossAttentionForecaster.load(tmp_path / "saved")
    np.testing.assert_array_equal(back.predict(test), forecaster.predict(test))
    assert (back.symbols_, back.lookback_, back.horizon_) == (test.symbols, 16, 1)
    assert back.get_params() == {**forecaster.get_params(), "device": "auto"}
    assert back.history_.equals(forecaster.history_)
    content = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert content["symbols"] == list(test.symbols)


def test_only_returns_are_needed(planted):
    _, train, val, test, _ = planted
    alone = [part.select(features=("log_return",)) for part in (train, val, test)]
    forecaster = CrossAttentionForecaster(n_models=1, epochs=2, progress=False).fit(*alone[:2])
    assert np.isfinite(forecaster.predict(alone[2])).all()
    without = [part.select(features=("range",)) for part in (train, val, test)]
    with pytest.raises(InvalidInputError, match="log_return"):
        CrossAttentionForecaster(n_models=1, epochs=1, progress=False).fit(*without[:2])


def test_validation_is_held_out_where_none_is_given(planted):
    _, train, _, test, _ = planted
    first, second = hold_out(train)
    assert first.ends[-1] + train.horizon < second.ends[0] + 1
    assert second.ends[-1] == train.ends[-1]
    forecaster = CrossAttentionForecaster(n_models=1, epochs=2, progress=False).fit(train)
    assert np.isfinite(forecaster.predict(test)).all()


def test_the_same_seed_gives_the_same_forecast(planted):
    _, train, val, test, _ = planted
    small = {"n_models": 1, "epochs": 1, "progress": False}
    first, second = (
        CrossAttentionForecaster(seed=3, **small).fit(train, val).predict(test) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("output_type", ["classification", "portfolio", "distribution"])
def test_every_output_has_its_forecaster(planted, output_type):
    _, train, val, test, _ = planted
    forecaster = CrossAttentionForecaster(
        n_models=2, epochs=1, progress=False, output_type=output_type
    ).fit(train, val)
    forecast = forecaster.predict(test)
    assert forecast.shape[:2] == test.y.shape and np.isfinite(forecast).all()


def test_wrong_parameters_are_named_by_fit(planted):
    _, train, val, *_ = planted
    for options, word in [
        ({"n_models": 0}, "n_models"),
        ({"seed": "one"}, "seed"),
        ({"max_lag": 16}, "max_lag"),
        ({"d_model": 30}, "d_model"),
        ({"lr": -1.0}, "lr"),
    ]:
        with pytest.raises(InvalidInputError, match=word):
            CrossAttentionForecaster(**options).fit(train, val)
    with pytest.raises(TypeError, match="colour"):
        CrossAttentionForecaster(colour="red")
    with pytest.raises(InvalidInputError, match=r"prepare_cross_attention_data.*got ndarray"):
        CrossAttentionForecaster().fit(train.X, train.y)


def test_it_follows_scikit_learn(planted, tmp_path):
    *_, test, fitted = planted
    forecaster = CrossAttentionForecaster(n_models=2, lr=0.2, sectors=("a", "b"))
    assert repr(forecaster) == "CrossAttentionForecaster(lr=0.2, n_models=2, sectors=('a', 'b'))"
    assert clone(forecaster).get_params() == forecaster.get_params()
    assert forecaster.set_params(max_lag=3).max_lag == 3
    with pytest.raises(NotFittedError, match="CrossAttentionForecaster is not fitted") as caught:
        forecaster.predict(test)
    assert isinstance(caught.value, InvalidInputError | sklearn.exceptions.NotFittedError)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        pickle.loads(pickle.dumps(VAR())).predict(test)
    check_is_fitted(fitted)
    known = np.isfinite(test.y)
    expected = r2_score(test.y[known], fitted.predict(test)[known])
    assert fitted.score(test) == pytest.approx(expected)
    assert 0 < fitted.score(test) < 0.1


def test_a_longer_horizon_adds_up_what_each_bar_still_has_to_answer(planted):
    """Learned from next bars, read over six: near the true mean, where the horizon's own is not."""
    market = planted[0]
    data = prepare_cross_attention_data(market.frames, lookback=16, horizon=6)
    train, val, test = data.split(train=0.7, val=0.1)
    symbols, truth = list(data.symbols), np.zeros_like(market.returns)
    for edge in market.edges.itertuples():
        to_come = np.convolve(market.returns[:, symbols.index(edge.leader)], np.ones(edge.lag))
        truth[:, symbols.index(edge.follower)] += edge.strength * to_come[: len(truth)]
    truth = truth[test.ends].ravel()
    grades = {}
    for next_bar in (True, False):
        forecaster = CrossAttentionForecaster(n_models=1, progress=False, next_bar=next_bar)
        forecast = forecaster.fit(train, val).predict(test)
        grades[next_bar] = np.corrcoef(forecast.ravel(), truth)[0, 1]
        parts = forecaster.contributions(test)
        intercept = forecaster.models_[0].head.intercept.numpy()
        np.testing.assert_allclose(parts.sum((2, 3)) + intercept, forecast, atol=1e-7)
    assert grades[True] > 0.95
    assert grades[True] > grades[False] + 0.05


def test_a_saved_forecaster_keeps_its_horizon(planted, tmp_path):
    data = prepare_cross_attention_data(planted[0].frames, lookback=16, horizon=6)
    train, val, test = data.split(train=0.7, val=0.1)
    forecaster = CrossAttentionForecaster(n_models=1, epochs=1, progress=False).fit(train, val)
    forecaster.save(tmp_path)
    back = CrossAttentionForecaster.load(tmp_path)
    np.testing.assert_array_equal(back.predict(test), forecaster.predict(test))
