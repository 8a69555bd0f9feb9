"""Volatility baselines against loops, least squares and the arch package's own forecasts."""

import dataclasses

import numpy as np
import pytest
from arch import arch_model
from standin.windows import coin_and_stock, flat_bars

from crossattn import prepare_cross_attention_data, simulate_market
from crossattn.baselines import (
    DCC,
    GARCH,
    HAR,
    CovarianceForecaster,
    EWMACovariance,
    ExponentialVolatility,
    SpilloverVAR,
    WindowCovariance,
)
from crossattn.evidence import qlike

MAKERS = {
    "exponential": ExponentialVolatility,
    "har": HAR,
    "log": lambda: HAR("log"),
    "qlike": lambda: HAR("qlike", market=True),
    "var": SpilloverVAR,
    "garch": GARCH,
    "gjr": lambda: GARCH("gjr"),
}

COVARIANCES = [CovarianceForecaster, EWMACovariance, lambda: WindowCovariance(window=500), DCC]


def windows(horizon=1, **options):
    frames = simulate_market("null", n_assets=3, n_steps=1500, seed=2, **options).frames
    return prepare_cross_attention_data(frames, 24, horizon, ["log_return"])


@pytest.fixture(scope="module")
def parts():
    return windows(horizon=4).split()


@pytest.fixture(scope="module", params=MAKERS)
def fitted(request, parts):
    return MAKERS[request.param]().fit(*parts[:2])


def test_forecasts_are_volatilities_and_beat_a_constant(fitted, parts):
    train, _, test = parts
    forecast, realised = fitted.predict(test), test.realised_volatility
    flat = np.full_like(realised, np.sqrt((train.realised_volatility**2).mean()))
    assert (forecast > 0).all() and forecast.shape == realised.shape
    assert qlike(forecast, realised).mean() < qlike(flat, realised).mean()
    r_squared = 1 - ((forecast - realised) ** 2).sum() / ((realised - realised.mean()) ** 2).sum()
    assert fitted.score(test) == pytest.approx(r_squared)


def test_forecasts_follow_the_data_and_read_no_later_row(fitted, parts, check_forecast):
    check_forecast(fitted, parts[2])


def test_har_is_least_squares_on_day_week_and_month(parts):
    train = parts[0]
    model, i = HAR(market=True).fit(train), 1
    squares = train.panel[:, :, 0].astype(float) ** 2
    rows = []
    for t in train.ends:
        least = 0.02 * np.nanmean(squares[: t + 1], axis=0)
        spans = [squares[max(0, t - span + 1) : t + 1] for span in (1, 5, 22)]
        means = [np.fmax(np.nanmean(span, axis=0), least) for span in spans]
        rows.append([1.0, *(m[i] for m in means), *(m.mean() for m in means)])
    wanted = np.linalg.lstsq(rows, train.realised_volatility[:, i] ** 2, rcond=None)[0]
    fitted = np.array(rows) @ wanted
    np.testing.assert_allclose(model.predict(train)[:, i] ** 2, np.clip(fitted, *model.range_[i]))


@pytest.mark.parametrize("kind", ["garch", "gjr"])
@pytest.mark.parametrize("horizon", [1, 5])
def test_garch_forecasts_are_those_of_arch(kind, horizon):
    data = windows(horizon, volatility="garch")
    model = GARCH(kind).fit(data[:900])
    constant, rise, fall, keep = model.coefficient_[0]
    returns = data.panel[1:, 0, 0].astype(float) * 100
    params = [1e4 * constant, rise, *([fall] if kind == "gjr" else []), keep]
    spec = arch_model(returns, mean="Zero", p=1, o=int(kind == "gjr"), q=1, rescale=False)
    found = spec.fix(params).forecast(horizon=horizon, start=data.ends[800] - 1, reindex=False)
    wanted = np.sqrt(found.variance.sum(axis=1))[: len(data) - 800] / 100
    np.testing.assert_allclose(model.predict(data)[800:, 0], wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", ["garch", "gjr"])
@pytest.mark.parametrize("calmer", [1.0, 0.4])
def test_garch_without_arch_effect_forecasts_the_variance_of_the_sample(kind, calmer):
    """Alpha 0 with any beta would be a path to some level: calmer for ever, if training was."""
    moves = np.random.default_rng(0).normal(0, 0.01, (1500, 1))
    moves *= calmer ** (np.arange(1500) / 900)[:, None]
    data = prepare_cross_attention_data(flat_bars(np.exp(moves.cumsum(axis=0)), ["A"]), 24, 1)
    train, _, test = data.split()
    model = GARCH(kind).fit(train)
    wanted = np.mean(moves[train.ends[0] : train.ends[-1] + 1] ** 2)
    np.testing.assert_allclose(model.coefficient_, [[wanted, 0, 0, 0]], rtol=1e-5)
    np.testing.assert_allclose(model.predict(test) ** 2, wanted, rtol=1e-5)


def test_a_missing_bar_is_no_news_to_garch(parts):
    model, data = GARCH().fit(parts[0]), parts[0]
    panel = data.panel.copy()
    panel[300:320, 1] = np.nan
    following = model.next_variances(dataclasses.replace(data, panel=panel))
    assert (following[300:320, 1] == following[299, 1]).all() and following[299, 1] > 0


def moving_nights():
    """Bars of a coin, and of a stock that opens every day with a jump of 2.5 %."""
    frames = coin_and_stock(2400)
    stock = frames["STOCK"]
    jumps = np.random.default_rng(0).choice([-0.025, 0.025], len(stock)) * (stock.index.hour == 14)
    stock[["open", "high", "low", "close"]] *= np.exp(jumps.cumsum())[:, None]
    return frames


def with_missing_bars():
    """Moves of 1 % an hour of two assets, the second with 60 % of its bars."""
    rng = np.random.default_rng(0)
    closes = np.exp(rng.uniform(-0.017, 0.017, (2400, 2)).cumsum(axis=0))
    closes[rng.random(2400) < 0.4, 1] = np.nan
    return flat_bars(closes, ["WHOLE", "HOLED"])


GAPS = {
    "still nights": (lambda: coin_and_stock(2400), "24h"),
    "nights": (moving_nights, "24h"),
    "missing bars": (with_missing_bars, 1),
    "missing bars in the horizon": (with_missing_bars, 5),
    "missing bars in a duration": (with_missing_bars, "5h"),
}


@pytest.fixture(scope="module", params=GAPS)
def gaps(request):
    make, horizon = GAPS[request.param]
    return prepare_cross_attention_data(make(), 24, horizon, ["log_return"]).split()


@pytest.mark.parametrize("maker", [*MAKERS.values(), *COVARIANCES])
def test_the_level_is_that_of_the_target_also_across_closed_hours_and_missing_bars(maker, gaps):
    train, val, test = gaps
    forecast = maker().fit(train, val).predict(test)
    variance = forecast**2 if forecast.ndim == 2 else np.einsum("nii->ni", forecast)
    known = np.isfinite(test.y)
    for i in range(2):
        realised = test.realised_volatility[known[:, i], i] ** 2
        assert realised.mean() / variance[known[:, i], i].mean() == pytest.approx(1, abs=0.25)


def test_exponential_half_life_is_the_best_on_training_windows(parts):
    train = parts[0]

    def loss(model):
        return qlike(model.fit(train).predict(train), train.realised_volatility).mean()

    given = [loss(ExponentialVolatility(half_life)) for half_life in (5.0, 8.0, 16.0, 38.0, 70.0)]
    assert loss(ExponentialVolatility()) <= min(given)


def test_unknown_settings_are_refused(parts, refuse_input):
    refuse_input(lambda: ExponentialVolatility(0.0).fit(parts[0]), "half_life")
    refuse_input(lambda: HAR("ols").fit(parts[0]), "fit_to")
    refuse_input(lambda: GARCH("egarch").fit(parts[0]), "kind")


@pytest.mark.parametrize("name", ["har", "var", "garch"])
def test_too_few_known_targets_are_named(name, parts, refuse_input):
    refuse_input(lambda: MAKERS[name]().fit(parts[0][:30], parts[1]), "A00 has")


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_baselines_read_and_forecast_variances_by_ranges(maker, refuse):
    """Ranges twice as wide double the forecasts, although the returns stay as they are."""
    frames = simulate_market("null", n_assets=2, n_steps=700, seed=4).frames
    wide, forecasts = {}, []
    for symbol, frame in frames.items():
        stretch = np.sqrt(frame["high"] / frame["low"])
        wide[symbol] = frame.assign(high=frame["high"] * stretch, low=frame["low"] / stretch)
    for bars in (frames, wide):
        ranges = {"volatility_estimator": "parkinson"}
        train, _, test = prepare_cross_attention_data(bars, 24, 1, ["log_return"], **ranges).split()
        model = maker().fit(train)
        forecasts.append(model.predict(test))
    np.testing.assert_allclose(forecasts[1], 2 * forecasts[0], rtol=0.02)
    words = "data must have the model's volatility_estimator='parkinson', got 'close'"
    refuse(lambda: model.predict(prepare_cross_attention_data(bars, 24, 1, ["log_return"])), words)
