"""Volatility baselines: exponential mean, HAR, GARCH and a spillover VAR.

All forecast ``data.realised_volatility`` from what it adds up: squared log returns, or variances by
the data's ``volatility_estimator``.

Built in chapter: Forecasting risk.
"""

from dataclasses import KW_ONLY, dataclass

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from crossattn._validation import check_bool, check_choice, check_float
from crossattn.baselines.base import Baseline
from crossattn.errors import InvalidInputError, import_optional
from crossattn.windows.lagged import log_returns
from crossattn.windows.splits import hold_out
from crossattn.windows.variance import (
    above_zero,
    bar_variances,
    fit_log_linear,
    horizon_levels,
    mean_variances,
    qlike,
)

HALF_LIVES = (5.0, 8.0, 11.0, 16.0, 21.0, 28.0, 38.0, 52.0, 70.0)
SPANS = (1, 5, 22)  # bars of the heterogeneous autoregression: day, week, month
RIDGES = np.logspace(-3, 2, 16)
LEAST_ROWS = 50
LEAST_NEWS = 1e-4  # weight of squared returns below which GARCH has found no ARCH effect


def check_enough(symbol: str, known: int) -> None:
    """Refuse to fit an asset on too few known targets."""
    if known < LEAST_ROWS:
        raise InvalidInputError(f"train: {symbol} has {known} known targets of {LEAST_ROWS} needed")


class VolatilityBaseline(Baseline):
    """A volatility forecaster to beat: ``predict`` answers in units of ``realised_volatility``.

    Subclasses implement ``_fit(train, val)`` and ``_variance(data)``, the forecast variance of the
    horizon.
    """

    target = "volatility"

    def _predict(self, data):
        return np.sqrt(self._variance(data))


def _day_week_month(data) -> np.ndarray:
    """Mean variances over each of ``SPANS`` at every window's end, ``(n, n_assets, 3)``."""
    squares = bar_variances(data)
    return np.stack([mean_variances(squares, span) for span in SPANS], axis=2)[data.ends]


@dataclass(eq=False, repr=False)
class ExponentialVolatility(VolatilityBaseline):
    """Exponentially weighted volatility (RiskMetrics): the one number to beat.

    Parameters
    ----------
    half_life : float, optional
        In bars; by default the one of 5 to 70 bars with the least QLIKE on the training windows.

    Attributes
    ----------
    half_life_ : float
    level_ : ndarray of shape (n_assets,)
        Variance that a bar of the horizon adds in training, over that of the bars whose returns
        are known: 1 but for an asset with closed hours or missing bars that the target counts.

    References
    ----------
    J.P. Morgan (1996), "RiskMetrics technical document".

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market("null", n_assets=3, n_steps=1500, seed=0)
    >>> train, val, test = prepare_cross_attention_data(market.frames, 8, 1).split()
    >>> model = ExponentialVolatility().fit(train)
    >>> model.predict(test).shape == test.realised_volatility.shape
    True
    """

    half_life: float | None = None

    def _fit(self, train, val):
        self.level_ = horizon_levels(train)
        if self.half_life is not None:
            self.half_life_ = check_float("half_life", self.half_life, above=0)
            return
        losses = []
        for self.half_life_ in HALF_LIVES:
            forecast = np.sqrt(self._variance(train))
            losses.append(np.nanmean(qlike(forecast, train.realised_volatility)))
        self.half_life_ = HALF_LIVES[int(np.argmin(losses))]

    def _variance(self, data):
        recent = mean_variances(bar_variances(data), self.half_life_, exponential=True)
        return self.level_ * data.bars_in_horizon * recent[data.ends]


@dataclass(eq=False, repr=False)
class HAR(VolatilityBaseline):
    """Heterogeneous autoregression of realised variance (HAR) on its day, week and month.

    Parameters
    ----------
    fit_to : {"variance", "log", "qlike"}
        Least squares on variances; on their logs, with the level brought back by the mean ratio of
        realised to fitted variance; or a log-linear fit that minimises QLIKE.
    market : bool
        Add the market's mean of each regressor.

    Notes
    -----
    Fitted asset by asset. Forecasts stay between the calmest month and the largest variance seen
    in training: a linear fit may be negative.

    References
    ----------
    Corsi (2009), "A simple approximate long-memory model of realized volatility".
    """

    fit_to: str = "variance"
    _: KW_ONLY
    market: bool = False

    def _fit(self, train, val):
        check_choice("fit_to", self.fit_to, ("variance", "log", "qlike"))
        check_bool("market", self.market)
        regressors, target = self._regressors(train), train.realised_volatility**2
        bars = train.bars_in_horizon
        self.coefficient_, self.range_ = [], []
        for i, symbol in enumerate(self.symbols_):
            known = np.isfinite(target[:, i])
            check_enough(symbol, int(known.sum()))
            x, y = regressors[known, i], above_zero(target[known, i])
            if self.fit_to == "qlike":
                level = np.append(np.log(y.mean()), np.zeros(x.shape[1] - 1))
                beta = level + fit_log_linear(x, y, offset=level[0])
            else:
                log = self.fit_to == "log"
                beta = np.linalg.lstsq(x, np.log(y) if log else y, rcond=None)[0]
                beta[0] += np.log((y * np.exp(-(x @ beta))).mean()) if log else 0.0
            calm = x[:, len(SPANS)].min()  # of the longest means
            calm = calm if self.fit_to == "variance" else np.exp(calm)
            self.coefficient_.append(beta)
            self.range_.append((bars[known, i].min() * calm, y.max()))
        self.coefficient_, self.range_ = np.array(self.coefficient_), np.array(self.range_)

    def _variance(self, data):
        fitted = np.einsum("kip,ip->ki", self._regressors(data), self.coefficient_)
        return np.clip(fitted if self.fit_to == "variance" else np.exp(fitted), *self.range_.T)

    def _regressors(self, data) -> np.ndarray:
        means = _day_week_month(data)
        means = means if self.fit_to == "variance" else np.log(means)
        if self.market:
            shared = np.broadcast_to(means.mean(axis=1, keepdims=True), means.shape)
            means = np.concatenate([means, shared], axis=2)
        return np.concatenate([np.ones((*means.shape[:2], 1)), means], axis=2)  # (n, N, P)


class SpilloverVAR(VolatilityBaseline):
    """Vector autoregression of log variances: every asset's day, week and month, with a ridge.

    Attributes
    ----------
    coefficient_ : ndarray of shape (n_assets, n_assets, 3)
        ``[i, j, k]``: change of asset i's log variance for a unit of asset j's log mean variance
        over 1, 5 or 22 bars.
    intercept_ : ndarray of shape (n_assets,)

    Notes
    -----
    The ridge, on regressors of unit variance, is chosen on ``val`` (the last fifth of ``train``
    without it) by squared error, one for all assets; the level is that of :class:`HAR`.

    References
    ----------
    Diebold and Yilmaz (2012), "Better to give than to receive".
    """

    def _fit(self, train, val):
        if val is None:
            train, val = hold_out(train)
        x, seen = self._regressors(train), self._regressors(val)
        centre, spread = x.mean(axis=0), x.std(axis=0) + 1e-12
        x, seen = (x - centre) / spread, (seen - centre) / spread
        y, wanted = (np.log(above_zero(d.realised_volatility)) * 2.0 for d in (train, val))
        paths, errors = [], 0.0
        for i, symbol in enumerate(self.symbols_):
            known, judged = np.isfinite(y[:, i]), np.isfinite(wanted[:, i])
            check_enough(symbol, int(known.sum()))
            level, own = y[known, i].mean(), x[known]
            values, vectors = np.linalg.eigh(own.T @ own)
            moment = vectors.T @ (own.T @ (y[known, i] - level))
            path = (moment / (values + RIDGES[:, None] * len(own))) @ vectors.T  # (R, P)
            missed = wanted[judged, i][:, None] - level - seen[judged] @ path.T
            errors = errors + (missed**2).sum(axis=0)
            paths.append((path, level))
        best = int(np.argmin(errors))
        beta = np.array([path[best] for path, _ in paths])  # (N, P)
        fitted = x @ beta.T + [level for _, level in paths]
        ratio = np.nanmean(train.realised_volatility**2 * np.exp(-fitted), axis=0)
        slopes = beta / spread
        self.intercept_ = np.array([level for _, level in paths]) - slopes @ centre + np.log(ratio)
        self.coefficient_ = slopes.reshape(len(slopes), -1, len(SPANS))

    def _variance(self, data):
        slopes = self.coefficient_.reshape(len(self.coefficient_), -1)
        return np.exp(self._regressors(data) @ slopes.T + self.intercept_)

    def _regressors(self, data) -> np.ndarray:
        return np.log(_day_week_month(data)).reshape(len(data), -1)  # (n, N * 3)


@dataclass(eq=False, repr=False)
class GARCH(VolatilityBaseline):
    """GARCH(1, 1) or GJR-GARCH volatility, fitted asset by asset by ``arch`` (Gaussian likelihood).

    Parameters
    ----------
    kind : {"garch", "gjr"}
        With "gjr" a fall adds more variance than a rise.

    Attributes
    ----------
    coefficient_ : ndarray of shape (n_assets, 4)
        Constant (of squared returns), weight of the squared return, of a squared fall on top, and
        of the variance before.
    start_ : ndarray of shape (n_assets,)
        Mean squared return in training: the variance before an asset's first bar.
    level_ : ndarray of shape (n_assets,)
        That of :class:`ExponentialVolatility` where squared returns are the target; elsewhere the
        mean ratio of the target to the forecast variance in training.

    Notes
    -----
    Variances beyond the next bar follow from the model: they return to its long-run level. Where
    the likelihood finds no weight for squared returns, the variance is constant: ``start_``.

    References
    ----------
    Bollerslev (1986), Journal of Econometrics 31(3). Glosten, Jagannathan and Runkle (1993),
    Journal of Finance 48(5).
    """

    kind: str = "garch"

    def _fit(self, train, val):
        check_choice("kind", self.kind, ("garch", "gjr"))
        arch_model = import_optional("arch", "GARCH", "data").arch_model
        rows = slice(int(train.ends[0]), int(train.ends[-1]) + 1)
        coefficients, start = [], []
        for symbol, path in zip(self.symbols_, log_returns(train)[rows].T, strict=True):
            path = path[np.isfinite(path)]
            check_enough(symbol, np.count_nonzero(path))
            scale = path.std()
            start.append(np.mean(path**2))
            model = arch_model(
                path / scale, mean="Zero", p=1, o=int(self.kind == "gjr"), q=1, rescale=False
            )
            found = model.fit(disp="off", show_warning=False).params
            found["omega"] *= scale**2
            if found["alpha[1]"] + found.get("gamma[1]", 0.0) / 2 < LEAST_NEWS:
                found = {"omega": start[-1]}  # else a path that no return moves, to any level
            names = ("omega", "alpha[1]", "gamma[1]", "beta[1]")
            coefficients.append([found.get(name, 0.0) for name in names])
        self.coefficient_, self.start_ = np.array(coefficients), np.array(start)
        self.level_ = horizon_levels(train)
        if train.volatility_estimator != "close":  # ranges and returns differ in level
            ratio = train.realised_volatility**2 / self._variance(train)
            self.level_ = self.level_ * np.nanmean(ratio, axis=0)

    def _variance(self, data):
        constant, rise, fall, keep = self.coefficient_.T
        persistence = np.minimum(rise + fall / 2 + keep, 0.9999)
        usual = constant / (1 - persistence)
        bars = data.bars_in_horizon
        kept = (1 - persistence**bars) / (1 - persistence)
        following = self.next_variances(data)[data.ends]
        return self.level_ * (bars * usual + (following - usual) * kept)

    def next_variances(self, data) -> np.ndarray:
        """Return the variance of the bar that follows each row, ``(n_rows, n_assets)``.

        A missing bar changes nothing.
        """
        returns = log_returns(data)
        following = np.full(returns.shape, np.nan)
        for i, (constant, rise, fall, keep) in enumerate(self.coefficient_):
            known = np.isfinite(returns[:, i])
            own = returns[known, i]
            news = constant + own**2 * (rise + fall * (own < 0))
            state = [keep * self.start_[i]]
            following[known, i], _ = lfilter([1.0], [1.0, -keep], news, zi=state)
        return pd.DataFrame(following).ffill().fillna(pd.Series(self.start_)).to_numpy()
