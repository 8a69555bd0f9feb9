"""Value at risk and expected shortfall against known laws, a slow loop and the arrow of time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossattn.errors import InvalidInputError
from crossattn.portfolio import forecast_tail


def draw(n=3000, n_assets=4, freedom=4, seed=0):
    """Volatilities that move, and returns of a Student t with those."""
    rng = np.random.default_rng(seed)
    volatility = 0.01 * np.exp(np.sin(np.arange(n) / 90)[:, None] + rng.normal(size=(n, n_assets)) / 4)
    return volatility, volatility * rng.standard_t(freedom, (n, n_assets))


@pytest.mark.parametrize("tail", ["empirical", "t"])
def test_the_law_is_found(tail):
    volatility, returns = draw()
    forecast = forecast_tail(7 * volatility, returns, (0.01, 0.05), tail=tail, half_life=None)
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
    horizon, half_life, start, row = 3, 30.0, 300, 310
    forecast = forecast_tail(
        volatility, returns, (0.05,), horizon=horizon, half_life=half_life, warm_up=298, refit=21
    )
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
    past = (ratio / width)[: start - horizon + 1]
    past = past[np.isfinite(past)]
    quantile = np.quantile(past, 0.05)
    var, shortfall = forecast.at(0.05)
    np.testing.assert_allclose(var[row], quantile * width[row] * volatility[row])
    beyond = past[past <= quantile].mean()
    np.testing.assert_allclose(shortfall[row], beyond * width[row] * volatility[row])
    assert np.isnan(var[: start]).all() and np.isfinite(var[start:]).all()


@pytest.mark.parametrize("horizon", [1, 5])
def test_nothing_is_read_before_it_is_known(horizon):
    volatility, returns = draw(700)
    cut = 500
    before = forecast_tail(volatility, returns, horizon=horizon, refit=1).value_at_risk
    changed = returns.copy()
    changed[cut:] *= -9
    after = forecast_tail(volatility, changed, horizon=horizon, refit=1).value_at_risk
    same = (before == after) | np.isnan(before)
    assert same[: cut + horizon].all() and not same[cut + horizon].any()


def test_an_asset_whose_forecasts_are_too_low_is_put_right():
    volatility, returns = draw(4000, 6)
    wrong = volatility.copy()
    wrong[1500:, 2] /= 1.5  # only from then on
    judged = slice(2000, None)
    shares = {}
    for half_life in (None, 125.0):
        var, _ = forecast_tail(wrong, returns, half_life=half_life).at(0.05)
        shares[half_life] = (returns < var)[judged].mean(axis=0)
    assert shares[None][2] > 0.08 and abs(shares[125.0][2] - 0.05) < 0.012
    assert np.abs(np.delete(shares[125.0], 2) - 0.05).max() < 0.012


def test_unknown_cells_stay_unknown_and_harm_no_other():
    volatility, returns = draw(600, 3)
    volatility[400, 0] = np.nan
    returns[:, 2] = np.nan
    var, shortfall = forecast_tail(volatility, returns).at(0.01)
    assert np.isnan(var[400, 0]) and np.isfinite(var[401:]).all()
    assert (shortfall[401:] < var[401:]).all()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"levels": (0.5,)}, "levels"),
        ({"tail": "normal"}, "tail"),
        ({"half_life": 0.0}, "half_life"),
        ({"horizon": 0}, "horizon"),
        ({"refit": 0}, "refit"),
        ({"warm_up": 0}, "warm_up"),
    ],
)
def test_wrong_settings_are_named(options, word):
    volatility, returns = draw(300)
    with pytest.raises(InvalidInputError, match=word):
        forecast_tail(volatility, returns, **options)
    with pytest.raises(InvalidInputError, match="above 0"):
        forecast_tail(-volatility, returns)
    with pytest.raises(InvalidInputError, match="one shape"):
        forecast_tail(volatility[:, :2], returns)
    with pytest.raises(InvalidInputError, match="level"):
        forecast_tail(volatility, returns).at(0.2)
