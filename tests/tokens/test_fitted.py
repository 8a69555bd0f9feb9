"""A fitted forecaster: what it reads, how it adds up, and that it reads nothing late."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    CrossAttentionForecaster,
    create_multi_asset_features,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.errors import DamagedFileError
from crossattn.evidence.maps import attention_maps
from crossattn.windows.prepare import windows_of_features

QUICK = {"n_models": 1, "epochs": 2, "progress": False}


def windows(scenario="static", seed=0, horizon=1, n_assets=4, n_steps=3000, **options):
    market = simulate_market(scenario, n_assets=n_assets, n_steps=n_steps, seed=seed, **options)
    data = prepare_cross_attention_data(market.frames, lookback=30, horizon=horizon)
    return market, data.split()


@pytest.fixture(scope="module")
def fitted():
    market, parts = windows(predictability=0.05)
    return market, parts, CrossAttentionForecaster(**QUICK).fit(*parts[:2])


@pytest.fixture(scope="module")
def moving():
    """Fitted where the leader changes from bar to bar, so that no part is idle."""
    market, parts = windows("switching", predictability=0.08, n_steps=4000)
    return market, parts, CrossAttentionForecaster(n_models=2, progress=False).fit(*parts[:2])


@pytest.fixture(scope="module")
def regime():
    """Fitted where all leads change their sign together."""
    market, parts = windows("regimes", predictability=0.08, n_steps=4000, change="sign", seed=1)
    forecaster = CrossAttentionForecaster(content=False, progress=False).fit(*parts[:2])
    assert forecaster._mixture.varying.regime is not None
    return market, parts, forecaster


@pytest.fixture(scope="module")
def drifting():
    """Fitted where each lead drifts on its own."""
    market, parts = windows("drift", predictability=0.08, n_steps=4000, seed=1)
    forecaster = CrossAttentionForecaster(content=False, progress=False).fit(*parts[:2])
    assert any(forecaster._mixture.varying.drifts)
    return market, parts, forecaster


EVERY_PART = pytest.mark.parametrize("case", ["fitted", "moving", "regime", "drifting"])


def fidelity(forecast, market, data):
    return np.corrcoef(forecast.ravel(), market.oracle[data.ends].ravel())[0, 1]


@EVERY_PART
def test_contributions_and_intercept_add_up_to_the_forecast(case, request):
    _, (_, _, test), forecaster = request.getfixturevalue(case)
    few = test[:80]
    by_channel = forecaster.contributions(few, by_channel=True)
    n, n_lags = len(test.symbols), forecaster.max_lag + 1
    assert by_channel.shape == (80, n, n, n_lags, len(forecaster.channels_))
    total = by_channel.sum((2, 3, 4)) + forecaster.intercept(few)
    assert np.allclose(total, forecaster.predict(few), atol=1e-9, rtol=0)
    assert np.allclose(by_channel.sum(-1), forecaster.contributions(few), atol=1e-12)
    some = forecaster.source_contributions(few, np.array([2, 0]))
    assert np.allclose(some, by_channel.sum((3, 4))[:, [2, 0]], atol=1e-12)


def test_content_carries_a_market_whose_leader_changes(moving):
    market, (_, _, test), forecaster = moving
    assert forecaster.weights_["content"] > 0.5
    assert fidelity(forecaster.predict(test), market, test) > 0.9
    truth = market.leaders[test.ends]
    assert (forecaster.leaders(test) == truth)[truth >= 0].mean() > 0.8


@pytest.mark.parametrize("case", ["regime", "drifting"])
def test_leads_that_change_in_time_are_followed(case, request):
    market, (_, _, test), forecaster = request.getfixturevalue(case)
    assert fidelity(forecaster.predict(test), market, test) > 0.7


def test_planted_leaders_get_the_attention(fitted):
    market, (_, _, test), forecaster = fitted
    assert fidelity(forecaster.predict(test), market, test) > 0.95
    attention = forecaster.attention(test[:5])
    assert np.allclose(attention.sum((2, 3)), 1)
    planted = np.zeros(attention.shape[1:3])
    for edge in market.edges.itertuples():
        place = [forecaster.symbols_.index(name) for name in (edge.follower, edge.leader)]
        planted[tuple(place)] = 1
    assert (attention[0].sum(-1) * planted).sum(1).mean() > 0.6


def test_the_answer_is_in_the_order_of_the_data(fitted):
    _, (_, _, test), forecaster = fitted
    turned = test.select(symbols=test.symbols[::-1], features=test.features[::-1])
    assert np.allclose(forecaster.predict(turned), forecaster.predict(test)[:, ::-1], atol=1e-12)
    assert np.allclose(forecaster.attention(turned), forecaster.attention(test), atol=1e-12)


@EVERY_PART
def test_no_later_bar_moves_a_forecast(case, request, rng):
    _, (_, _, test), forecaster = request.getfixturevalue(case)
    now = test[:60]
    row = int(now.ends[-1])
    later = {name: getattr(test, name).copy() for name in ("panel", "targets", "next_returns")}
    for name, values in later.items():
        unknown = values[row + (name == "panel") :]
        unknown[:] = rng.normal(size=unknown.shape)
    changed = dataclasses.replace(now, **later)
    assert np.array_equal(forecaster.predict(changed), forecaster.predict(now))


@pytest.mark.parametrize("case", ["fitted", "moving"])
def test_no_other_window_moves_a_bit_of_a_forecast(case, request):
    _, (_, _, test), forecaster = request.getfixturevalue(case)
    whole = forecaster.predict(test)
    for first, stop in ((0, 1), (5, 6), (10, 27), (100, 263), (3, len(test) - 1)):
        assert np.array_equal(forecaster.predict(test[first:stop]), whole[first:stop])


@EVERY_PART
def test_saved_and_loaded_it_forecasts_the_same(case, request, tmp_path):
    _, (_, _, test), forecaster = request.getfixturevalue(case)
    forecaster.save(tmp_path)
    again = CrossAttentionForecaster.load(tmp_path)
    assert np.array_equal(again.predict(test), forecaster.predict(test))
    assert again.weights_ == forecaster.weights_ and again.channels_ == forecaster.channels_
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"lookback": 30', '"lookback": 31'))
    with pytest.raises(DamagedFileError):
        CrossAttentionForecaster.load(tmp_path)


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
        _, (train, val, test) = windows("null", seed=seed)
        assert CrossAttentionForecaster(**QUICK).fit(train, val).score(test) > -0.004


def test_an_asset_without_a_bar_has_no_forecast(fitted):
    _, (_, _, test), forecaster = fitted
    panel = np.array(test.panel)
    panel[test.ends[5], 1] = np.nan
    forecast = forecaster.predict(dataclasses.replace(test, panel=panel))
    assert np.isnan(forecast[5, 1]) and np.isfinite(np.delete(forecast[5], 1)).all()


def test_wrong_use_is_refused_by_name(fitted, refuse_input):
    _, (_, _, test), forecaster = fitted
    new, two = CrossAttentionForecaster(), test.select(symbols=test.symbols[:2])
    refuse_input(lambda: new.fit(test.X, test.y), "train must be CrossAttentionData")
    refuse_input(lambda: forecaster.predict(two), "symbols must be .*; 'A02' differs")
    refuse_input(lambda: forecaster.intercept(two), "symbols must be .*; 'A02' differs")


def test_a_second_fit_forgets_the_first(refuse_input):
    """Other symbols, more of them, and another spacing: as if the object were new."""
    _, (train, val, test) = windows(n_assets=3, n_steps=900)
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
