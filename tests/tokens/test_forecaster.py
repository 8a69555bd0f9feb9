"""The forecaster as an estimator: scikit-learn's conventions, leaders, parameters."""

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.exceptions
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted
from standin.windows import simulated_windows

from crossattn.baselines.linear import VAR
from crossattn.errors import CrossAttentionWarning, InvalidInputError, NotFittedError
from crossattn.forecaster import CrossAttentionForecaster
from crossattn.windows.prepare import prepare_cross_attention_data
from crossattn.windows.splits import hold_out

SMALL = {"max_lag": 7, "n_models": 1, "epochs": 2, "progress": False}


@pytest.fixture(scope="module")
def planted():
    sizes = {"n_assets": 5, "n_steps": 6_000, "predictability": 0.05, "seed": 11}
    features = ("log_return", "relative_volume", "range")
    market, data = simulated_windows(lookback=16, features=features, **sizes)
    train, val, test = data.split(train=0.7, val=0.1)
    return market, train, val, test, CrossAttentionForecaster(**SMALL).fit(train, val)


def test_every_planted_edge_stands_above_every_other_pair(planted):
    market, *_, test, forecaster = planted
    forecast, truth = forecaster.predict(test), market.oracle[test.ends]
    assert np.corrcoef(forecast.ravel(), truth.ravel())[0, 1] > 0.97
    size = np.abs(forecaster.coefficients(test)).mean(0)
    symbols = list(forecaster.symbols_)
    lags = {
        (symbols.index(e.follower), symbols.index(e.leader)): e.lag
        for e in market.edges.itertuples()
    }
    others = [size[i, j].sum() for i in range(5) for j in range(5) if (i, j) not in lags and i != j]
    assert min(size[pair].sum() for pair in lags) > max(others)
    assert all(size[pair].argmax() + 1 == lag for pair, lag in lags.items())


def test_leaders_are_other_assets_and_minus_one_where_none_is_known(planted, refuse_input):
    *_, test, forecaster = planted
    leaders = forecaster.leaders(test)
    assert (leaders >= 0).all() and (leaders != np.arange(5)).all(), "no asset leads itself"
    panel = test.panel.copy()
    panel[test.ends[0] - 7 : test.ends[0] + 1] = np.nan
    dark = dataclasses.replace(test, panel=panel)
    found, forecast = forecaster.leaders(dark), forecaster.predict(dark)
    assert (found[0] == -1).all() and (found[100] >= 0).all()
    assert np.isnan(forecast[0]).all() and np.isfinite(forecast[1:]).all()
    expected = r2_score(dark.y[1:].ravel(), forecast[1:].ravel())
    assert forecaster.score(dark) == pytest.approx(expected), "what has no forecast is not scored"
    refuse_input(lambda: forecaster.score(dark[:1]), "two known targets or more, got 0")


def test_returns_are_needed_and_enough(planted, refuse_input):
    _, train, val, test, _ = planted
    alone = [part.select(features=("log_return",)) for part in (train, val, test)]
    forecaster = CrossAttentionForecaster(**SMALL).fit(*alone[:2])
    assert forecaster.score(alone[2]) > 0.02
    without = [part.select(features=("range",)) for part in (train, val)]
    refuse_input(lambda: CrossAttentionForecaster(**SMALL).fit(*without), "log_return")


@pytest.mark.parametrize("name", ["exogenous", "size", "return", "distance"])
def test_a_feature_named_as_a_channel_of_the_forecaster_is_refused(planted, refuse_input, name):
    names = ("log_return", name, "range")
    taken = [dataclasses.replace(part, features=names) for part in planted[1:3]]
    refuse_input(lambda: CrossAttentionForecaster(**SMALL).fit(*taken), f"named '{name}'")


def test_validation_is_held_out_where_none_is_given(planted):
    _, train, _, test, _ = planted
    first, second = hold_out(train, 0.1)
    assert first.ends[-1] + train.horizon < second.ends[0] + 1
    assert second.ends[-1] == train.ends[-1]
    explicit = CrossAttentionForecaster(**SMALL).fit(first, second)
    implicit = CrossAttentionForecaster(**SMALL).fit(train)
    np.testing.assert_allclose(implicit.predict(test), explicit.predict(test), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"n_models": 0}, "n_models"),
        ({"seed": "one"}, "seed"),
        ({"max_lag": 16}, "lookback must be above max_lag=16"),
        ({"max_lag": -1}, "max_lag"),
        ({"epochs": 0}, "epochs"),
        ({"tokens_per_follower": 1.5}, "tokens_per_follower"),
        ({"target": "sign"}, "target must be one of return"),
        ({"progress": "x"}, "progress must be True or False, got 'x'"),
        ({"content": "no"}, "content must be True or False, got 'no'"),
    ],
)
def test_wrong_parameters_are_named_by_fit(planted, options, word, refuse_input):
    refuse_input(lambda: CrossAttentionForecaster(**options).fit(*planted[1:3]), word)


@pytest.mark.parametrize("part", [1, 2], ids=["train", "val"])
def test_a_lead_lag_test_on_windows_that_were_fitted_on_warns(planted, part, tmp_path):
    planted[-1].save(tmp_path)
    for forecaster in (planted[-1], CrossAttentionForecaster.load(tmp_path)):
        assert forecaster.fitted_until_ == planted[2].timestamps[-1]
        with pytest.warns(CrossAttentionWarning, match="later than what the model was fitted on"):
            forecaster.lead_lag(planted[part])


def test_it_follows_scikit_learn(planted):
    *_, test, fitted = planted
    forecaster = CrossAttentionForecaster(n_models=2, epochs=4)
    assert repr(forecaster) == "CrossAttentionForecaster(epochs=4, n_models=2)"
    assert clone(forecaster).get_params() == forecaster.get_params()
    assert forecaster.set_params(max_lag=5).max_lag == 5
    with pytest.raises(TypeError, match="colour"):
        CrossAttentionForecaster(colour="red")
    with pytest.raises(NotFittedError, match="CrossAttentionForecaster is not fitted") as caught:
        forecaster.predict(test)
    with pytest.raises(NotFittedError):
        forecaster.lead_lag(test)
    assert isinstance(caught.value, InvalidInputError | sklearn.exceptions.NotFittedError)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        pickle.loads(pickle.dumps(VAR())).predict(test)
    check_is_fitted(fitted)
    assert 0 < fitted.score(test) < 0.1
    assert set(fitted.history_) == {"member", "epoch", "val_loss"} and len(fitted.history_) == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_strong_lead_is_forecast_on_a_short_panel(seed):
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.standard_t(5, size=(700, 3))
    returns[2:, 1] += 0.3 * returns[:-2, 0]
    times = pd.date_range("2021-01-01", periods=700, freq="D", tz="UTC")
    prices = np.exp(np.cumsum(returns, axis=0))
    columns = ["open", "high", "low", "close", "volume"]
    frames = {
        s: pd.DataFrame(dict.fromkeys(columns, x), times)
        for s, x in zip("ABC", prices.T, strict=True)
    }
    data = prepare_cross_attention_data(frames, lookback=24, horizon=1)
    train, val, test = data.split(train=0.6, val=0.1)
    forecaster = CrossAttentionForecaster(5, content=False, progress=False).fit(train, val)
    forecast, known = forecaster.predict(test)[:, 1], 0.3 * np.roll(returns[:, 0], 1)[test.ends]
    assert np.corrcoef(forecast, known)[0, 1] > 0.7
