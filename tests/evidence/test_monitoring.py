"""Drift of inputs and the live information coefficient of a model in use."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from crossattn import prepare_cross_attention_data, simulate_market
from crossattn.evidence.monitoring import input_drift, live_coefficient, summarise_inputs
from crossattn.evidence.volatility import diebold_mariano


def parts(scenario="static", seed=21, late_volume=None):
    frames = simulate_market(scenario, n_assets=3, n_steps=4000, seed=seed).frames
    if late_volume is not None:
        frames["A01"]["volume"] = [*frames["A01"]["volume"][:2550], *late_volume]
    data = prepare_cross_attention_data(frames, 12, 1)
    return data[:2400], data[2600:]


def drifted(train, new):
    drift = input_drift(summarise_inputs(train), new)
    return drift.loc[drift["drifted"], ["symbol", "feature"]].to_numpy().tolist()


@pytest.mark.parametrize(("scenario", "seed"), [("static", 21), ("null", 22), ("crisis", 23)])
def test_nothing_has_drifted_on_one_market(scenario, seed):
    train, new = parts(scenario, seed)
    reference = json.loads(json.dumps(summarise_inputs(train)))
    drift = input_drift(reference, new)
    assert len(drift) == 3 * 7 and not drift["drifted"].any()
    assert (drift["psi"].diff().dropna() <= 0).all()
    volumes = drift[drift["feature"] == "relative_volume"]
    assert volumes["tested"].all() and (volumes["psi"] < 0.2).all()


@pytest.mark.parametrize(
    "late_volume",
    [np.random.default_rng(0).lognormal(0, 5, 1450), np.full(1450, np.nan)],
    ids=["in another unit", "lost"],
)
def test_other_volumes_are_drift(late_volume):
    assert drifted(*parts(late_volume=late_volume)) == [["A01", "relative_volume"]]


def test_an_exogenous_series_drifts_too():
    market = simulate_market(n_assets=3, n_steps=1500, seed=24)
    survey = np.random.default_rng(1).normal(size=1500)
    survey[1000:] += 2
    table = pd.DataFrame({"survey": survey}, index=market.panel.index)
    data = prepare_cross_attention_data(market.frames, 12, 1, exogenous=table)
    assert drifted(data[:900], data[1000:]) == [["survey", "exogenous"]]


def test_the_index_is_that_of_its_definition():
    train, new = parts()
    drift = input_drift(summarise_inputs(train), new).set_index(["symbol", "feature"])
    old, now = (data.panel[data.ends, 0, 0].astype(float) for data in (train, new))
    inside = np.append(np.quantile(old, np.arange(1, 10) / 10), np.inf)
    p, q = (np.diff([(x < e).sum() for e in inside], prepend=0) / len(x) for x in (old, now))
    expected = ((q - p) * np.log(q / p)).sum()
    assert drift["psi"]["A00", "log_return"] == pytest.approx(expected, rel=1e-3)


def test_few_bars_are_not_tested_and_other_assets_are_refused(refuse_input):
    train, new = parts()
    few = input_drift(summarise_inputs(train), new[:10])
    assert not few["tested"].any() and not few["drifted"].any()
    two, words = new.select(symbols=["A01", "A02"]), "data lacks log_return of A00"
    refuse_input(lambda: input_drift(summarise_inputs(train), two), words)
    refuse_input(lambda: input_drift(summarise_inputs(train), new[:0]), "no window")
    refuse_input(lambda: input_drift(None, new), "reference must be a mapping")
    refuse_input(lambda: summarise_inputs(new.X), "data must be CrossAttentionData")


def test_the_coefficient_is_the_mean_rank_correlation_of_each_window(rng):
    y = rng.normal(size=(80, 6))
    forecast = y + 2 * rng.normal(size=y.shape)
    y[5, 2] = forecast[9, 0] = np.nan
    y[70:] = np.nan  # not known yet
    live = live_coefficient(forecast, y)
    expected = [spearmanr(f, r, nan_policy="omit")[0] for f, r in zip(forecast, y, strict=True)]
    assert live.value == pytest.approx(np.nanmean(expected[:70])) and live.n_windows == 70
    assert live.error == pytest.approx(np.nanstd(expected[:70]) / np.sqrt(70), rel=0.5)
    assert not live.is_pooled and "70 windows" in str(live)


def test_the_error_is_that_of_a_mean_over_overlapping_rows(rng):
    forecast, y = rng.normal(size=(2, 250, 6)).cumsum(axis=1)
    each = [spearmanr(f, r)[0] for f, r in zip(forecast, y, strict=True)]
    low, high = diebold_mariano(each, np.zeros(250), 24).interval  # with Student's quantile
    live = live_coefficient(forecast, y, horizon=24)
    assert 2 * 1.959964 * live.error == pytest.approx(high - low)
    assert np.isnan(live_coefficient(forecast, y, horizon=250).error)


def test_with_few_assets_each_is_ranked_over_time(rng):
    y = rng.normal(size=(500, 2))
    forecast = y + 3 * rng.normal(size=y.shape)
    live = live_coefficient(forecast, y)
    expected = np.mean([spearmanr(forecast[:, i], y[:, i])[0] for i in range(2)])
    assert live.is_pooled and live.value == pytest.approx(expected)
    assert "do not vary (500 windows)" in str(live_coefficient(0 * y, y))


def test_the_error_covers_nothing_in_nineteen_of_twenty(rng):
    hits = 0
    for _ in range(200):
        y = np.cumsum(rng.normal(size=(412, 5)), axis=0)
        overlapping = y[12:] - y[:-12]  # targets of 12 bars
        slow = np.cumsum(rng.normal(size=(400, 5)), axis=0)
        slow = slow[10:] - slow[:-10]
        live = live_coefficient(slow, overlapping[10:], horizon=12)
        hits += abs(live.value) < 1.96 * live.error
    assert 170 <= hits <= 198


@pytest.mark.parametrize("n", [0, 1, 29])
def test_few_windows_have_no_coefficient(n, refuse_input):
    live = live_coefficient(np.ones((n, 5)), np.ones((n, 5)))
    assert np.isnan(live.value) and "too few" in str(live)
    refuse_input(lambda: live_coefficient(np.ones((n, 5)), np.ones((n, 4))), "must have one shape")
