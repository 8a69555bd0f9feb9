"""Naive baselines: no change, last value, own lags.

Built in chapter: Honest comparison.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LinearRegression

from crossattn._validation import check_int
from crossattn.baselines.base import Baseline
from crossattn.windows.lagged import lagged_log_returns


class Zero(Baseline):
    """Forecast no change: for prices, repeat the last one.

    Its mean squared error is what every R² is measured against.
    """

    def _predict(self, data):
        return np.zeros((len(data), len(self.symbols_)))


class LastValue(Baseline):
    """Forecast that the last return repeats: the simple return of the newest ``horizon`` bars.

    It needs windows at least as long as the horizon; a shorter one is used whole.
    """

    def _predict(self, data):
        n_bars = min(self.horizon_, data.lookback)
        return np.expm1(lagged_log_returns(data, n_bars).sum(axis=2))


@dataclass(eq=False, repr=False)
class OwnLagAR(Baseline):
    """Autoregression of each asset on its own past, without any other asset.

    Parameters
    ----------
    max_lag : int
        As in :class:`.VAR`: ``max_lag + 1`` regressors.
    """

    max_lag: int = 7

    def _fit(self, train, val):
        check_int("max_lag", self.max_lag, at_least=0)
        lags = lagged_log_returns(train, self.max_lag + 1)
        targets = train.y
        self.coefficient_ = np.zeros(lags.shape[1:])  # (N, L)
        self.intercept_ = np.zeros(len(self.symbols_))
        for asset in range(len(self.symbols_)):
            known = np.isfinite(targets[:, asset])
            if known.sum() > self.max_lag + 2:
                line = LinearRegression().fit(lags[known, asset], targets[known, asset])
                self.coefficient_[asset], self.intercept_[asset] = line.coef_, line.intercept_

    def _predict(self, data):
        lags = lagged_log_returns(data, self.max_lag + 1)
        return np.einsum("kil,il->ki", lags, self.coefficient_) + self.intercept_
