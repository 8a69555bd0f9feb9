"""VARs against scikit-learn, and on a planted market."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Lasso, LinearRegression, Ridge
from standin.windows import simulated_windows

from crossattn import prepare_cross_attention_data
from crossattn.baselines.linear import VAR
from crossattn.windows.lagged import lagged_log_returns, recent_volatility

windows = functools.partial(simulated_windows, lookback=10, n_assets=4, n_steps=900)


@pytest.fixture(scope="module")
def data():
    _, data = windows()
    targets = np.array(data.targets)
    targets[data.ends[7], 1] = np.nan
    return replace(data, targets=targets)


def design(data, n_lags):
    return lagged_log_returns(data, n_lags, np.arange(len(data.symbols))).reshape(len(data), -1)


@pytest.mark.parametrize("weighted", [False, True])
def test_least_squares_equal_scikit_learn(data, weighted):
    model = VAR(max_lag=2, volatility_weights=weighted).fit(data)
    x, y, weight = design(data, 3), data.y, np.ones(data.y.shape)
    if weighted:
        scale = recent_volatility(data, np.arange(4), 12)
        y, weight = np.clip(y, -6 * scale, 6 * scale), scale**-2
    for i in range(4):
        known = np.isfinite(y[:, i])
        line = LinearRegression().fit(x[known], y[known, i], sample_weight=weight[known, i])
        np.testing.assert_allclose(model.coefficient_[i].ravel(), line.coef_, rtol=1e-6)
        np.testing.assert_allclose(model.intercept_[i], line.intercept_, rtol=1e-6)


@pytest.mark.parametrize("penalty", ["ridge", "lasso"])
def test_penalised_fits_equal_scikit_learn_at_the_chosen_strength(data, penalty):
    train, val, _ = data.split()
    model = VAR(max_lag=1, penalty=penalty).fit(train, val)
    x, known, problems = design(train, 2), np.isfinite(train.y), []
    for i in range(4):
        rows, y = x[known[:, i]], train.y[known[:, i], i]
        problems.append(((rows - rows.mean(0)) / rows.std(0), y - y.mean(), rows.std(0)))
    biggest = max(np.abs(z.T @ y).max() / len(y) for z, y, _ in problems)
    for i, (z, y, deviation) in enumerate(problems):
        if penalty == "ridge":
            line = Ridge(alpha=model.strength_ * len(y), fit_intercept=False).fit(z, y)
        else:
            line = Lasso(alpha=model.strength_ * biggest, fit_intercept=False, tol=1e-8).fit(z, y)
        mine = model.coefficient_[i].ravel() * deviation
        np.testing.assert_allclose(mine, line.coef_, atol=1e-3 * y.std())


def test_contributions_add_up_to_the_forecast_in_any_order(data):
    train, val, test = data.split()
    model = VAR(max_lag=3, penalty="ridge").fit(train, val)
    parts = model.contributions(test)
    assert parts.shape == (len(test), 4, 4, 4)
    np.testing.assert_allclose(parts.sum(axis=(2, 3)) + model.intercept_, model.predict(test))
    order = [2, 0, 3, 1]
    shuffled = test.select(symbols=[data.symbols[k] for k in order])
    np.testing.assert_array_equal(model.contributions(shuffled), parts[:, order][:, :, order])


def test_without_own_lags_the_diagonal_is_zero(data):
    model = VAR(max_lag=1, own_lags=False).fit(data)
    assert not model.coefficient_[np.arange(4), np.arange(4)].any()
    assert model.coefficient_[0, 1].all()


def test_the_honest_linear_baseline_recovers_planted_lags_where_ols_blurs_them():
    market, data = windows(n_assets=6, n_steps=9000, seed=1, predictability=0.03)
    train, val, test = data.split()
    lasso = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
    plain = VAR().fit(train, val)
    oracle = market.oracle[market.panel.index.get_indexer(test.timestamps)].ravel()
    fidelity = [np.corrcoef(m.predict(test).ravel(), oracle)[0, 1] for m in (lasso, plain)]
    assert fidelity[0] > 0.93 > fidelity[1]
    for edge in market.edges.itertuples():
        i, j = (market.symbols.index(s) for s in (edge.follower, edge.leader))
        assert np.abs(lasso.coefficient_[i, j]).argmax() == edge.lag - 1


def test_refusals(data, refuse_input):
    refuse_input(lambda: VAR(penalty="elastic").fit(data), "penalty")
    refuse_input(lambda: VAR(max_lag=-1).fit(data), "max_lag")
    refuse_input(lambda: VAR(volatility_weights="x").fit(data), "volatility_weights")
    refuse_input(lambda: VAR(own_lags="x").fit(data), "own_lags")
    refuse_input(lambda: VAR(max_lag=10).fit(data), "below the lookback")
    refuse_input(lambda: VAR(penalty="lasso").fit(data[:2]), "too few")


def test_an_asset_without_a_training_row_is_forecast_as_zero(make_frames):
    frames = make_frames(400, 3, seed=2)
    frames["S1"] = frames["S1"].iloc[300:]
    data = prepare_cross_attention_data(frames, lookback=10, horizon=1, features=["log_return"])
    train, val, test = data.split(train=0.5, val=0.1)
    forecast = VAR(max_lag=3, penalty="lasso").fit(train, val).predict(test)
    listed = test.has_bar[:, 1]
    assert not listed.all() and (forecast[listed, 1] == 0).all()
    assert np.isnan(forecast[~listed, 1]).all() and np.isfinite(forecast[:, ::2]).all()
