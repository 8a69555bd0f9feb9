"""Value at risk and expected shortfall against known laws, a slow loop and the arrow of time."""

import functools

import numpy as np
import pytest
from scipy import stats

from crossattn.portfolio import forecast_tail

PLAIN = {"half_life": None, "memory": 10_000, "step": 0.0}


def draw(n=3000, n_assets=4):
    """Volatilities that move, and returns of a Student t of 4 degrees of freedom with those."""
    rng = np.random.default_rng(0)
    waves, noise = np.sin(np.arange(n) / 90)[:, None], rng.normal(size=(n, n_assets))
    volatility = 0.01 * np.exp(waves + noise / 4)
    return volatility, volatility * rng.standard_t(4, (n, n_assets))


def test_the_law_is_found():
    volatility, returns = draw()
    forecast = forecast_tail(7 * volatility, returns, (0.01, 0.05), **PLAIN)
    for level in forecast.levels:
        var, shortfall = forecast.at(level)
        quantile = stats.t.ppf(level, 4)
        beyond = stats.t(4).expect(lambda x: x, ub=quantile) / level
        ratios = var[-1] / volatility[-1], shortfall[-1] / volatility[-1]
        np.testing.assert_allclose(ratios[0], quantile, rtol=0.05)
        np.testing.assert_allclose(ratios[1], beyond, rtol=0.12)


def test_it_is_the_slow_loop():
    volatility, returns = draw(420, 2)
    returns[50:60, 1] = np.nan
    horizon, half_life, memory, step, level = 3, 30.0, 200, 0.05, 0.05
    options = {"horizon": horizon, "half_life": half_life, "memory": memory, "step": step}
    forecast = forecast_tail(volatility, returns, (level,), warm_up=298, **options)
    ratio = returns / volatility
    width = np.ones_like(ratio)
    for t in range(horizon, len(ratio)):
        for i in range(2):
            total = count = half_life / 2 * 0.5 ** ((t - horizon + 1) / half_life)
            for s in range(t - horizon + 1):
                if np.isfinite(ratio[s, i]):
                    weight = 0.5 ** ((t - horizon - s) / half_life)
                    total += weight * abs(ratio[s, i]) / np.nanmean(np.abs(ratio[: s + 1]))
                    count += weight
            width[t, i] = total / count
    start, log_factor = 298 + horizon - 1, np.zeros(2)
    var, shortfall = np.full((2, *ratio.shape), np.nan)
    for t in range(start, len(ratio)):
        newest = start + (t - start) // 21 * 21 - horizon + 1  # known when the tail was fitted
        past = (ratio / width)[newest - memory : newest]
        past = past[np.isfinite(past)]
        quantile = np.quantile(past, level)
        if t - horizon >= start:
            hit = returns[t - horizon] < var[t - horizon]
            log_factor += np.where(hit, step, -step * level / (1 - level))
        unit = width[t] * volatility[t] * np.exp(log_factor)
        var[t], shortfall[t] = quantile * unit, past[past <= quantile].mean() * unit
    np.testing.assert_allclose(forecast.at(level), (var, shortfall))


@pytest.mark.parametrize("horizon", [1, 5])
def test_nothing_is_read_before_it_is_known(horizon):
    volatility, returns = draw(700)
    cut, changed = 500, returns.copy()
    changed[cut:] *= -9
    before, after = (
        forecast_tail(volatility, given, horizon=horizon, refit=1).value_at_risk
        for given in (returns, changed)
    )
    same = (before == after) | np.isnan(before)
    assert same[: cut + horizon].all() and not same[cut + horizon].any()


@pytest.mark.parametrize("cure", [{"half_life": 125.0}, {"step": 0.02}, {"memory": 1000}])
def test_each_correction_cures_its_illness(cure):
    volatility, returns = draw(4000, 6)
    wrong = volatility.copy()
    if "memory" in cure:
        returns[1500:] = np.where(returns < 0, 1.5, 1.0)[1500:] * returns[1500:]  # all falls grow
    else:
        wrong[1500:, 2] /= 1.5  # one asset's forecasts become too low
    ill, cured = (
        returns < forecast_tail(wrong, returns, **PLAIN | more).at(0.05)[0] for more in ({}, cure)
    )
    miss, kept = (np.abs(hits[2600:].mean(axis=0) - 0.05).max() for hits in (ill, cured))
    assert miss > 0.02 > 0.015 > kept


def test_a_rarer_loss_is_no_smaller():
    volatility, returns = draw(800, 2)
    forecast = forecast_tail(volatility, returns, (0.04, 0.05), step=0.5)
    var, shortfall = (x[250:] for x in (forecast.value_at_risk, forecast.expected_shortfall))
    assert (var[..., 0] <= var[..., 1]).all() and (shortfall < var).all()


def test_unknown_cells_stay_unknown_and_harm_no_other():
    volatility, returns = draw(600, 3)
    volatility[400, 0] = np.nan
    returns[:, 2] = np.nan
    var, shortfall = forecast_tail(volatility, returns).at(0.01)
    assert np.isnan(var[400, 0]) and np.isfinite(var[401:]).all()
    assert (shortfall[401:] < var[401:]).all()


def test_wrong_settings_and_tables_are_named(refuse_input):
    volatility, returns = tables = draw(300)
    refuse_input(lambda: forecast_tail(*tables, levels=(0.5,)), "levels")
    refuse_input(lambda: forecast_tail(*tables, levels=(0.05, 0.01)), "levels")
    refuse_input(lambda: forecast_tail(*tables, levels=0.05), "levels")
    refuse_input(lambda: forecast_tail(*tables, step=-0.1), "step")
    for name in ("memory", "half_life", "horizon", "refit", "warm_up"):
        refuse_input(functools.partial(forecast_tail, *tables, **{name: 0}), name)
    refuse_input(lambda: forecast_tail(-volatility, returns), "above 0")
    refuse_input(lambda: forecast_tail(volatility[:, :2], returns), "one shape")
    refuse_input(lambda: forecast_tail(volatility, returns).at(0.2), "level")
