"""A fitted forecaster: what it reads, how it adds up, and that it reads nothing late."""

import dataclasses
from functools import cache

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    CrossAttentionForecaster,
    create_multi_asset_features,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.baselines import ExponentialVolatility
from crossattn.errors import DamagedFileError
from crossattn.evidence import diebold_mariano, qlike
from crossattn.evidence.maps import attention_maps
from crossattn.windows.prepare import windows_of_features

QUICK = {"n_models": 1, "epochs": 2, "progress": False}
TRACKED = {"content": False, "progress": False}
CHANGING = {"predictability": 0.08, "n_steps": 4000}
FEW = ("log_return", "range", "relative_volume")
CASES = {  # market, windows, forecaster
    "static": ({"predictability": 0.05}, {}, QUICK),
    # the leader changes from bar to bar, so that no part is idle
    "switching": (CHANGING | {"scenario": "switching"}, {}, {"n_models": 2, "progress": False}),
    # all leads change their sign together; each drifts on its own
    "regimes": (CHANGING | {"scenario": "regimes", "change": "sign", "seed": 1}, {}, TRACKED),
    "drift": (CHANGING | {"scenario": "drift", "seed": 1}, {}, TRACKED),
    "six bars": (
        {"n_assets": 5, "n_steps": 6000, "predictability": 0.05, "seed": 30},
        {"horizon": 6, "features": FEW},
        QUICK | {"max_lag": 7},
    ),
    "volatility": (
        {"scenario": "null", "seed": 3},
        {"horizon": 6, "features": FEW, "outside": True},
        {"target": "volatility", "max_lag": 7, "progress": False},
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def windows(market_options, *, horizon=1, outside=False, **options):
    """Return a market, and its training, validation and test windows."""
    market = simulate_market(**{"n_assets": 4, "n_steps": 3000} | market_options)
    if outside:
        options["exogenous"] = market.panel["volume"]["A00"].to_frame("VIX")
    return market, prepare_cross_attention_data(market.frames, 30, horizon, **options).split()


@cache
def fitted(case):
    """Return the market and the test windows of a case, and its forecaster."""
    market_options, options, forecaster_options = CASES[case]
    market, (train, val, test) = windows(market_options, **options)
    return market, test, CrossAttentionForecaster(**forecaster_options).fit(train, val)


def correlation(forecast, truth):
    return np.corrcoef(forecast.ravel(), truth.ravel())[0, 1]


@every_case
def test_contributions_and_intercept_add_up_to_the_forecast(case):
    """A forecast of volatility is the exponential of the sum."""
    _, test, forecaster = fitted(case)
    few, n, n_lags = test[:80], len(test.symbols), forecaster.max_lag + 1
    by_channel = forecaster.contributions(few, by_channel=True)
    assert by_channel.shape == (80, n, len(test.sources), n_lags, len(forecaster.channels_))
    assert by_channel.any()
    total = by_channel.sum((2, 3, 4)) + forecaster.intercept(few)
    forecast = forecaster.predict(few)
    expected = np.log(forecast) if case == "volatility" else forecast
    assert np.allclose(total, expected, atol=1e-9, rtol=0)
    assert np.allclose(by_channel.sum(-1), forecaster.contributions(few), atol=1e-12)
    some = forecaster.source_contributions(few, np.array([2, 0]))
    assert np.allclose(some, by_channel.sum((3, 4))[:, [2, 0]], atol=1e-12)


@pytest.mark.parametrize("case", ["regimes", "drift", "six bars"])
def test_contributions_add_up_at_any_volatility(case):
    market, test, forecaster = fitted(case)
    assert forecaster.weights_["varying"] > 0.1
    prices = ["open", "high", "low", "close"]
    wild = {s: b.assign(**(b[prices] / b["open"].iloc[0]) ** 10) for s, b in market.frames.items()}
    few = prepare_cross_attention_data(wild, 30, test.horizon, features=test.features)[-200:]
    total = forecaster.contributions(few).sum((2, 3)) + forecaster.intercept(few)
    np.testing.assert_allclose(total, forecaster.predict(few), atol=1e-9, rtol=0)


@every_case
def test_attention_sums_to_one_and_no_asset_leads_itself(case):
    _, test, forecaster = fitted(case)
    few, n = test[:20], len(test.symbols)
    attention, leaders = forecaster.attention(few), forecaster.leaders(few)
    assert attention.shape == (20, n, len(test.sources), forecaster.max_lag + 1)
    assert np.allclose(attention.sum((2, 3)), 1)
    assert (leaders != np.arange(n)).all() and (leaders >= 0).all()


@every_case
def test_the_answer_is_in_the_order_of_the_data(case):
    _, test, forecaster = fitted(case)
    turned = test.select(symbols=test.symbols[::-1], features=test.features[::-1])
    for found, expected in (
        (forecaster.predict(turned), forecaster.predict(test)[:, ::-1]),
        (forecaster.attention(turned[:99]), forecaster.attention(test[:99])),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@every_case
def test_no_later_bar_moves_a_forecast(case, rng):
    _, test, forecaster = fitted(case)
    now = test[:60]
    row = int(now.ends[-1])
    names = ["panel", "targets", "next_returns", *["exogenous"] * (now.exogenous is not None)]
    later = {name: getattr(test, name).copy() for name in names}
    for name, values in later.items():
        unknown = values[row + (name in ("panel", "exogenous")) :]
        unknown[:] = rng.normal(size=unknown.shape)
    forecast, changed = forecaster.predict(now), dataclasses.replace(now, **later)
    assert np.array_equal(forecaster.predict(changed), forecast)
    np.testing.assert_allclose(forecaster.predict(now.until(row)), forecast, rtol=1e-9)


@every_case
def test_no_other_window_moves_a_bit_of_a_forecast(case):
    _, test, forecaster = fitted(case)
    whole = forecaster.predict(test)
    for first, stop in ((0, 1), (5, 6), (10, 27), (100, 263), (3, len(test) - 1)):
        assert np.array_equal(forecaster.predict(test[first:stop]), whole[first:stop])


@every_case
def test_saved_and_loaded_it_forecasts_the_same(case, tmp_path):
    _, test, forecaster = fitted(case)
    forecaster.save(tmp_path)
    again = CrossAttentionForecaster.load(tmp_path)
    assert np.array_equal(again.predict(test), forecaster.predict(test))
    assert again.weights_ == forecaster.weights_ and again.channels_ == forecaster.channels_
    assert again.get_params() == {**forecaster.get_params(), "device": "auto"}
    pd.testing.assert_frame_equal(again.history_, forecaster.history_)
    lookback = f'"lookback": {test.lookback}'
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace(lookback, f"{lookback}0"))
    with pytest.raises(DamagedFileError):
        CrossAttentionForecaster.load(tmp_path)


def test_planted_leaders_get_the_attention():
    market, test, forecaster = fitted("static")
    assert correlation(forecaster.predict(test), market.oracle[test.ends]) > 0.95
    attention = forecaster.attention(test[:5])
    planted = np.zeros(attention.shape[1:3])
    for edge in market.edges.itertuples():
        place = [forecaster.symbols_.index(name) for name in (edge.follower, edge.leader)]
        planted[tuple(place)] = 1
    assert (attention[0].sum(-1) * planted).sum(1).mean() > 0.6


def test_content_carries_a_market_whose_leader_changes():
    market, test, forecaster = fitted("switching")
    assert forecaster.weights_["content"] > 0.5
    assert correlation(forecaster.predict(test), market.oracle[test.ends]) > 0.9
    truth = market.leaders[test.ends]
    assert (forecaster.leaders(test) == truth)[truth >= 0].mean() > 0.8


@pytest.mark.parametrize("case", ["regimes", "drift"])
def test_leads_that_change_in_time_are_followed(case):
    market, test, forecaster = fitted(case)
    varying = forecaster._mixture.varying
    assert varying.regime is not None if case == "regimes" else any(varying.drifts)
    assert correlation(forecaster.predict(test), market.oracle[test.ends]) > 0.7


def test_a_longer_horizon_adds_up_what_each_bar_still_has_to_answer():
    """Learned from next bars and read over six: near the true conditional mean."""
    market, test, forecaster = fitted("six bars")
    symbols, truth = list(test.symbols), np.zeros_like(market.returns)
    for edge in market.edges.itertuples():
        to_come = np.convolve(market.returns[:, symbols.index(edge.leader)], np.ones(edge.lag))
        truth[:, symbols.index(edge.follower)] += edge.strength * to_come[: len(truth)]
    assert correlation(forecaster.predict(test), truth[test.ends]) > 0.9
    assert forecaster.weights_["varying"] > 0.1  # its coefficients are summed over the horizon


def test_forecasts_of_volatility_are_better_than_an_exponential_mean():
    _, test, forecaster = fitted("volatility")
    market_options, options, _ = CASES["volatility"]
    train = windows(market_options, **options)[1][0]
    forecast, realised = forecaster.predict(test), test.realised_volatility
    assert (forecast > 0).all() and forecast.shape == realised.shape
    alone = [part.with_series(()) for part in (train, test)]  # which reads no other series
    mean = ExponentialVolatility().fit(alone[0]).predict(alone[1])
    gain = diebold_mariano(qlike(forecast, realised), qlike(mean, realised), test.horizon)
    assert gain.difference < 0 and gain.t < -2
    assert 0.9 < (realised**2 / forecast**2).mean() < 1.1
    target, missed = realised.ravel(), (realised - forecast).ravel()
    assert forecaster.score(test) == pytest.approx(1 - (missed**2).mean() / target.var())


def test_an_added_column_that_leads_is_read(rng):
    market = simulate_market("null", n_assets=4, n_steps=3000, seed=3)
    features = create_multi_asset_features(market.frames)
    closes = market.panel["close"]
    following = np.log(closes).diff().shift(-1)
    for symbol in closes:
        noise = rng.normal(size=len(closes)) * following[symbol].std() * 3
        features[("hint", symbol)] = following[symbol].fillna(0.0) + noise
    data = windows_of_features(features, closes, 30, 1, warm_up=60)
    train, val, test = data.split()
    forecaster = CrossAttentionForecaster(**QUICK).fit(train, val)
    assert "hint" in forecaster.channels_
    assert np.corrcoef(forecaster.predict(test).ravel(), test.y.ravel())[0, 1] > 0.25
    share = np.abs(forecaster.contributions(test[:50], by_channel=True)).sum((0, 1, 2, 3))
    assert forecaster.channels_[share.argmax()] == "hint"


def test_an_exogenous_series_leads_and_is_never_forecast(refuse_input):
    market = simulate_market("null", n_assets=3, n_steps=3000, seed=5)
    following = np.log(market.panel["close"]).diff().mean(axis=1).shift(-1).fillna(0.0)
    noise = np.random.default_rng(6).normal(size=len(following)) * following.std()
    outside = pd.DataFrame({"survey": 40 + 1000 * (following.to_numpy() + noise)}, following.index)
    outside["noise"] = np.random.default_rng(7).normal(size=len(following))
    data = prepare_cross_attention_data(market.frames, 30, 1, exogenous=outside)
    assert data.sources == (*data.symbols, "survey", "noise")
    train, val, test = data.split()
    forecaster = CrossAttentionForecaster(**QUICK).fit(train, val)
    assert forecaster.sources_ == data.sources
    contributions = np.abs(forecaster.contributions(test[:50])).sum((0, 1, 3))
    assert contributions.shape == (5,) and contributions.argmax() == 3
    assert np.corrcoef(forecaster.predict(test).ravel(), test.y.ravel())[0, 1] > 0.2
    turned = test.with_series(("noise", "survey"))
    np.testing.assert_array_equal(forecaster.predict(turned), forecaster.predict(test))
    assert forecaster.lead_lag(turned).edges.equals(forecaster.lead_lag(test).edges)
    assert attention_maps(forecaster, turned[:9]).sources == data.sources
    bare = dataclasses.replace(test, exogenous=None, exogenous_names=())
    refuse_input(
        lambda: forecaster.predict(bare), "exogenous series must be survey, noise; 'noise' differs"
    )


def test_where_nothing_leads_the_forecast_is_almost_nothing():
    for seed in (8, 9):
        _, (train, val, test) = windows({"scenario": "null", "seed": seed})
        assert CrossAttentionForecaster(**QUICK).fit(train, val).score(test) > -0.004


def test_wrong_use_is_refused_by_name(refuse_input):
    _, test, forecaster = fitted("static")
    new, two = CrossAttentionForecaster(), test.select(symbols=test.symbols[:2])
    refuse_input(lambda: new.fit(test.X, test.y), "train must be CrossAttentionData")
    refuse_input(lambda: forecaster.predict(two), "symbols must be .*; 'A02' differs")
    refuse_input(lambda: forecaster.intercept(two), "symbols must be .*; 'A02' differs")


def test_a_second_fit_forgets_the_first(refuse_input):
    """Other symbols, more of them, and another spacing: as if the object were new."""
    _, (train, val, test) = windows({"n_assets": 3, "n_steps": 900})
    forecaster = CrossAttentionForecaster(**QUICK).fit(train, val)
    daily = simulate_market(n_assets=4, n_steps=900, seed=5, bar="1D").frames
    other = prepare_cross_attention_data(daily, lookback=30, horizon=1).split()
    new = CrossAttentionForecaster(**QUICK).fit(*other[:2])
    again = forecaster.fit(*other[:2])
    np.testing.assert_array_equal(again.predict(other[2]), new.predict(other[2]))
    refuse_input(lambda: forecaster.predict(test), "symbols")


def test_a_duration_is_forecast_where_hours_differ(tmp_path):
    """24 hours hold another number of bars for each window; leads are found all the same."""
    found = []
    for seed in (2, 3, 4):
        frames = simulate_market(n_assets=4, n_steps=6000, predictability=0.15, seed=seed).frames
        hours = ((7, 15), (13, 20))
        for k, (symbol, frame) in enumerate(frames.items()):
            first, stop = hours[k % 2]
            open_ = (frame.index.hour >= first) & (frame.index.hour < stop)
            frames[symbol] = frame[open_ & (frame.index.day_of_week < 5)]
        data = prepare_cross_attention_data(frames, 24, "24h")
        assert not data.is_steady and 1 < data.usual_horizon <= data.horizon
        train, val, test = data.split(0.6, 0.2)
        model = CrossAttentionForecaster(varying=False, content=False, progress=False)
        forecast = model.fit(train, val).predict(test)
        known = np.isfinite(forecast) & np.isfinite(test.y)
        found.append(np.corrcoef(forecast[known], test.y[known])[0, 1])
    assert np.mean(found) > 0.06, found
    model.save(tmp_path)
    again = CrossAttentionForecaster.load(tmp_path).predict(test)
    np.testing.assert_array_equal(again, forecast)
