"""Naive baselines against arithmetic, and the input checks that all baselines share."""

from dataclasses import replace

import numpy as np
import pytest
from standin.windows import simulated_windows

from crossattn.baselines.linear import VAR
from crossattn.baselines.naive import LastValue, OwnLagAR, Zero
from crossattn.windows.lagged import lagged_log_returns

FEATURES = ["range", "log_return"]


@pytest.fixture(scope="module")
def data():
    windows = {"lookback": 12, "horizon": 3, "features": FEATURES}
    return simulated_windows(**windows, n_assets=5, n_steps=700, seed=3)[1]


def test_lags_count_back_from_the_window_end(data):
    lags = lagged_log_returns(data, 4, np.arange(5))
    windows = np.asarray(data.X)[..., 1]
    for k in range(4):
        np.testing.assert_array_equal(lags[:, :, k], windows[:, :, -1 - k])


def test_zero_and_last_value(data):
    train, _, test = data.split()
    assert not Zero().fit(train).predict(test).any()
    last = LastValue().fit(train).predict(test)
    windows = np.asarray(test.X, float)[..., 1]
    np.testing.assert_allclose(last, np.prod(np.exp(windows[:, :, -3:]), axis=2) - 1)


def test_own_lags_find_a_planted_reversal(data, rng):
    train = data[:400]
    lags = lagged_log_returns(train, 3, np.arange(5))
    weights = rng.normal(size=(5, 3))
    targets = np.array(data.targets)
    targets[train.ends] = np.einsum("kil,il->ki", lags, weights) + 0.01
    targets[train.ends[5], 2] = np.nan
    model = OwnLagAR(max_lag=2).fit(replace(train, targets=targets))
    np.testing.assert_allclose(model.coefficient_, weights, atol=1e-7)
    np.testing.assert_allclose(model.intercept_, 0.01, atol=1e-9)


@pytest.mark.parametrize("make", [Zero, LastValue, OwnLagAR, VAR])
def test_order_changes_nothing_and_other_data_is_refused(data, make, check_forecast, refuse_input):
    train, val, test = data.split()
    model = make().fit(train, val)
    check_forecast(model, test)
    turned = test.select(features=data.features[::-1])
    np.testing.assert_array_equal(model.predict(turned), model.predict(test))
    refuse_input(lambda: model.predict(test.select(symbols=data.symbols[:4])), "symbols")
    refuse_input(lambda: model.predict(test.select(features=["log_return"])), "lacks .* 'range'")
    refuse_input(lambda: model.predict(replace(test, lookback=8)), "lookback")
    refuse_input(lambda: make().predict(test), "not fitted")
