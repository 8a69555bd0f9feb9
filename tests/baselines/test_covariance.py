"""Covariance forecasts against loops, scikit-learn and planted correlations."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.covariance import OAS, LedoitWolf
from standin.windows import flat_bars

from crossattn import prepare_cross_attention_data, simulate_market
from crossattn.baselines import (
    DCC,
    HAR,
    CovarianceForecaster,
    EWMACovariance,
    ExponentialVolatility,
    WindowCovariance,
)
from crossattn.errors import CrossAttentionWarning
from crossattn.windows.covariance import covariance_loss, positive_definite, realised_covariance

MAKERS = {
    "forecaster": CovarianceForecaster,
    "risk metrics": EWMACovariance,
    "exponential": lambda: EWMACovariance(None),
    "ledoit-wolf": lambda: WindowCovariance(window=100),
    "dcc": DCC,
}


def windows(returns: np.ndarray, horizon: int = 1):
    """Windows of daily bars from log returns (T, N); NaN is a missing bar."""
    closes = np.where(np.isnan(returns), np.nan, 50 * np.exp(np.nancumsum(returns, axis=0)))
    symbols = [f"S{i}" for i in range(returns.shape[1])]
    frames = flat_bars(closes, symbols, start="2001-01-01", freq="D")
    return prepare_cross_attention_data(frames, 24, horizon, ["log_return"])


@pytest.fixture(scope="module")
def parts():
    frames = simulate_market("factor", n_assets=3, n_steps=900, seed=2).frames
    return prepare_cross_attention_data(frames, 24, 4, ["log_return"]).split()


@pytest.fixture(scope="module", params=MAKERS)
def fitted(request, parts):
    return MAKERS[request.param]().fit(*parts[:2])


def test_realised_covariance_is_a_sum_of_products_over_the_horizon():
    returns = np.random.default_rng(0).normal(size=(60, 3)) / 100
    returns[40, 1] = np.nan
    data = windows(returns, horizon=5)
    realised, closes = realised_covariance(data), pd.DataFrame(data.closes).ffill().to_numpy()
    for k, end in enumerate(data.ends[:-5]):
        moves = np.diff(np.log(closes[end : end + 6]), axis=0)
        wanted = sum(np.outer(move, move) for move in moves)
        wanted = np.where(np.isnan(data.y[k])[:, None] | np.isnan(data.y[k]), np.nan, wanted)
        np.testing.assert_allclose(realised[k], wanted, atol=1e-15)
    deviation = np.sqrt(np.einsum("nii->ni", realised))
    np.testing.assert_allclose(deviation, data.realised_volatility, rtol=1e-9)
    assert np.isnan(realised).any()


def test_gaussian_loss_is_that_of_scipy_and_leaves_unknown_assets_out(refuse_input, rng):
    from scipy.stats import multivariate_normal

    root = rng.normal(size=(3, 3))
    forecast, move = root @ root.T, rng.normal(size=3)
    density = multivariate_normal(np.zeros(3), forecast).logpdf(move)
    wanted = (-2 * density - 3 * np.log(2 * np.pi)) / 3
    realised = np.outer(move, move)
    assert covariance_loss([forecast], [realised])[0] == pytest.approx(wanted)
    realised[1] = realised[:, 1] = np.nan
    kept = np.ix_([0, 2], [0, 2])
    alone = covariance_loss([forecast[kept]], [realised[kept]])
    assert covariance_loss([forecast], [realised])[0] == pytest.approx(alone[0])
    refuse_input(lambda: covariance_loss([-forecast[kept]], [realised[kept]]), "positive definite")


def test_forecasts_are_positive_definite_and_beat_a_constant_diagonal(fitted, parts):
    train, _, test = parts
    forecast, realised = fitted.predict(test), realised_covariance(test)
    assert forecast.shape == (len(test), 3, 3)
    np.testing.assert_allclose(forecast, forecast.transpose(0, 2, 1), rtol=1e-12)
    assert np.linalg.eigvalsh(forecast).min() > 0
    flat = np.diag((train.realised_volatility**2).mean(axis=0)) + np.zeros_like(forecast)
    assert fitted.score(test) > -0.5 * covariance_loss(flat, realised).mean()
    assert fitted.get_params().keys() == type(fitted)().get_params().keys()


def test_forecasts_follow_the_data_and_read_no_later_row(fitted, parts, check_forecast):
    check_forecast(fitted, parts[2])


def test_the_parts_of_the_forecast_by_loops(parts):
    """Standardise, cut, weight, shrink to the mean over pairs, move that mean, multiply."""
    train, _, test = parts
    model = CovarianceForecaster(ExponentialVolatility(30.0), half_life=40.0, prior_bars=25.0)
    forecast, end = model.fit(train).predict(test)[7], test.ends[7]
    returns = test.panel[:, :, 0].astype(float)
    keep, total, weight = 0.5 ** (1 / 40), np.zeros((3, 3)), np.zeros((3, 3))
    fast = np.zeros(2)
    for t in range(2, end + 1):  # the first return is at row 1
        ages = np.arange(t - 1)[::-1]
        squares, slow = returns[1:t] ** 2, 0.5 ** (ages / 21)
        past = np.fmax((slow @ squares) / slow.sum(), 0.02 * squares.mean(axis=0))
        move = np.clip(returns[t] / np.sqrt(past), -4, 4)
        known = np.isfinite(move) * 1.0
        move = np.nan_to_num(move)
        total = keep * total + np.outer(move, move)
        weight = keep * weight + np.outer(known, known)
        if known.all():
            pairs = (np.outer(move, move).sum() - (move**2).sum()) / 6
            fast = 0.5**0.1 * fast + [pairs, (move**2).mean()]
    unit = np.sqrt(np.diag(total))
    r, n = total / np.outer(unit, unit), weight[0, 0]
    m = (r.sum() - 3) / 6
    r = (n * r + 25 * m) / (n + 25)
    wanted = (m + fast[0] / fast[1]) / 2
    r = r + (1 - r) * (wanted - m) / (1 - m) if wanted > m else r * wanted / m
    np.fill_diagonal(r, 1.0)
    volatility = ExponentialVolatility(30.0).fit(train).predict(test)[7]
    np.testing.assert_allclose(forecast, r * np.outer(volatility, volatility), rtol=1e-6)


def test_the_window_estimator_is_that_of_scikit_learn(parts):
    train, _, test = parts
    forecast = WindowCovariance(OAS(assume_centered=True), window=70).fit(train).predict(test)
    rows = slice(test.ends[3] - 69, test.ends[3] + 1)
    returns = np.nan_to_num(test.panel[rows, :, 0].astype(float))
    wanted = OAS(assume_centered=True).fit(returns).covariance_
    np.testing.assert_allclose(forecast[3], 4 * wanted, rtol=1e-6)
    default = WindowCovariance(window=70).fit(train).predict(test)
    wanted = LedoitWolf(assume_centered=True).fit(returns).covariance_
    np.testing.assert_allclose(default[3], 4 * wanted, rtol=1e-6)


def test_a_correlation_that_changes_is_followed_by_dcc_and_the_forecaster(rng):
    path = 0.8 * np.sign(np.sin(np.arange(3000) / 160))
    first = rng.normal(size=3000)
    second = path * first + np.sqrt(1 - path**2) * rng.normal(size=3000)
    data = windows(np.c_[first, second, rng.normal(size=3000)] / 100)
    train, _, test = data.split()
    for model in (DCC(), CovarianceForecaster()):
        forecast = model.fit(train).predict(test)
        found = forecast[:, 0, 1] / np.sqrt(forecast[:, 0, 0] * forecast[:, 1, 1])
        assert np.corrcoef(found, path[test.ends + 1])[0, 1] > 0.8, model
    assert DCC().fit(train).alpha_ == pytest.approx(0.04, abs=0.035)


def test_missing_bars_new_listings_and_more_assets_than_bars(rng):
    common = rng.normal(size=(300, 1))
    returns = (common + rng.normal(size=(300, 60))) / 100
    returns[rng.random(returns.shape) < 0.1] = np.nan
    returns[:180, 5] = np.nan  # listed late
    returns[:, 7] = 0.0  # never moves
    returns[0] = 0.01
    train, _, test = windows(returns).split(0.7, 0.1)
    for make in (CovarianceForecaster, EWMACovariance, WindowCovariance):
        forecast = make().fit(train).predict(test)
        seen = test.has_bar
        np.testing.assert_array_equal(np.isnan(np.einsum("nii->ni", forecast)), ~seen)
        for block, known in zip(forecast, seen, strict=True):
            assert np.linalg.eigvalsh(block[np.ix_(known, known)])[0] > 0, make
    pair = CovarianceForecaster().fit(train).predict(test)
    pair = pair[np.isfinite(pair[:, 5, 20])][-1]
    assert 0.2 < pair[5, 20] / np.sqrt(pair[5, 5] * pair[20, 20]) < 0.8


def test_positive_definite_leaves_variances_and_sound_matrices_alone():
    sound = np.array([[4.0, 1.0], [1.0, 9.0]])
    wrong = np.array([[4.0, 9.0], [9.0, 9.0]])
    made = positive_definite(np.array([sound, wrong]))
    np.testing.assert_allclose(made[0], sound, rtol=1e-12)
    np.testing.assert_allclose(np.diag(made[1]), [4.0, 9.0])
    assert np.linalg.eigvalsh(made[1])[0] > 0 and made[1, 0, 1] > 5.9


class Unsure(ExponentialVolatility):
    def predict(self, data):
        return np.where(np.arange(len(data))[:, None] % 2, np.nan, super().predict(data))


def test_a_volatility_without_a_forecast_gives_no_covariance(parts):
    forecast = CovarianceForecaster(Unsure()).fit(parts[0]).predict(parts[2])
    known = np.isfinite(forecast).all(axis=(1, 2))
    np.testing.assert_array_equal(known, np.arange(len(known)) % 2 == 0)
    assert np.isnan(forecast[~known]).all()


@pytest.mark.parametrize("name", MAKERS)
def test_forecasts_do_not_depend_on_the_order_of_the_symbols_in_training(name, parts):
    turned = [part.select(symbols=part.symbols[::2] + part.symbols[1::2]) for part in parts]
    found = [MAKERS[name]().fit(*some[:2]).predict(parts[2]) for some in (parts, turned)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_one_asset_has_a_variance(name):
    train, _, test = windows(np.random.default_rng(6).normal(size=(300, 1)) / 100).split()
    forecast = MAKERS[name]().fit(train).predict(test)
    assert forecast.shape == (len(test), 1, 1)
    assert np.sqrt(forecast).min() > 0.005 and np.sqrt(forecast).max() < 0.02


class Negative(ExponentialVolatility):
    def predict(self, data):
        return -super().predict(data)


def test_wrong_settings_are_named(parts, refuse_input):
    for make, words in (
        (lambda: CovarianceForecaster("garch"), "volatility must have fit and predict"),
        (lambda: CovarianceForecaster(ExponentialVolatility), "volatility must have fit"),
        (lambda: CovarianceForecaster(Negative()), "volatility must forecast"),
        (lambda: CovarianceForecaster(half_life=0), "half_life must be"),
        (lambda: CovarianceForecaster(prior_bars=-1.0), "prior_bars must be"),
        (lambda: EWMACovariance(-2.0), "half_life must be"),
        (lambda: WindowCovariance(window=1), "window must be"),
        (lambda: WindowCovariance("ledoit"), "estimator must have"),
    ):
        refuse_input(lambda make=make: make().fit(parts[0]).predict(parts[2]), words)


def test_windows_without_closes_and_too_few_windows_are_refused(parts, refuse_input):
    refuse_input(lambda: CovarianceForecaster().fit(parts[0][:20]), "50 windows")
    returns = np.random.default_rng(5).normal(size=(60, 2, 24, 1)) / 100
    data = type(parts[0]).from_arrays(returns, returns[:, :, -1, 0], features=["log_return"])
    refuse_input(lambda: realised_covariance(data), "made from bars")
    refuse_input(lambda: realised_covariance(data.X), "data must be CrossAttentionData")


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_exogenous_series_are_named_once(parts, make):
    outside = {"exogenous": np.zeros((len(parts[0].panel), 1)), "exogenous_names": ("vix",)}
    with pytest.warns(CrossAttentionWarning, match="reads no exogenous series: vix left") as caught:
        make().fit(dataclasses.replace(parts[0], **outside))
    assert len(caught) == 1


def test_parameters_of_a_nested_estimator_have_its_name(refuse_input):
    model = CovarianceForecaster(HAR()).set_params(volatility__market=True, half_life=9.0)
    assert model.volatility.market and model.get_params()["volatility__market"]
    assert repr(model) == "CovarianceForecaster(half_life=9.0, volatility=HAR(market=True))"
    assert clone(model).get_params().keys() == model.get_params().keys()
    assert model.set_params(volatility__fit_to="log", volatility=HAR()).volatility.fit_to == "log"
    assert WindowCovariance(estimator=OAS()).get_params()["estimator__assume_centered"] is False
    for wrong in ("volatility__colour", "half_life__market", "colour__market"):
        refuse_input(lambda wrong=wrong: model.set_params(**{wrong: 1}), "has no parameter")
