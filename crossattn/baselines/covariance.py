"""Covariance forecasts: volatilities times correlations, RiskMetrics, DCC, Ledoit-Wolf.

All forecast :func:`crossattn.windows.covariance.realised_covariance`, the covariance of log returns
over the horizon, from returns up to each window's last bar.

Built in chapter: Portfolios of forecast risk.
"""

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.signal import lfilter

from crossattn._validation import check_float, check_int
from crossattn.baselines.base import Baseline
from crossattn.baselines.volatility import GARCH, LEAST_ROWS, ExponentialVolatility
from crossattn.errors import InvalidInputError
from crossattn.windows.covariance import (
    covariance_loss,
    exponential_products,
    positive_definite,
    realised_covariance,
)
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import log_returns
from crossattn.windows.variance import horizon_levels, mean_variances

HALF_LIVES = (32.0, 63.0, 126.0, 252.0, 504.0)
PRIOR_BARS = (10.0, 30.0, 100.0, 200.0)
RISK_METRICS = 11.2  # bars: the half-life of a decay of .94
SCALE_HALF_LIFE = 21.0  # of the volatility that returns are divided by before they are correlated
MOVE_LIMIT = 4.0
MOST_RISE = 0.9  # share of ones in a correlation
LEVEL_HALF_LIFE, LEVEL_SHARE = 10.0, 0.5  # of the mean correlation, and how far it is followed
TUNING_CELLS = 200_000  # most cells of the covariances that settings are chosen on


class CovarianceBaseline(Baseline):
    """A covariance forecaster: ``predict`` answers with a positive definite matrix a window.

    Subclasses implement ``_fit(train, val)`` and ``_covariance(data)``, ``(n, N, N)``.
    """

    target = "covariance"

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Forecast the covariance of log returns over the horizon that follows every window.

        Parameters
        ----------
        data : CrossAttentionData
            Windows of the symbols and features that the model was fitted on, in any order.

        Returns
        -------
        ndarray of shape (n, n_assets, n_assets)
            Symmetric and positive definite, known at the windows' ends, assets in the order of
            ``data``. NaN in the row and column of an asset without a bar at the window's end.
        """
        own, place = self._as_fitted(data), self._places(data)
        forecast = self._covariance(own)
        seen = own.has_bar & np.isfinite(np.einsum("nii->ni", forecast))
        both = seen[:, :, None] & seen[:, None]
        forecast = positive_definite(np.where(both, forecast, np.eye(len(place))))
        return np.where(both, forecast, np.nan)[:, place][:, :, place]

    def score(self, data: CrossAttentionData) -> float:
        """Return the mean Gaussian log likelihood an asset over ``data``, less its constant."""
        loss = covariance_loss(self.predict(data), realised_covariance(data))
        return -0.5 * float(np.nanmean(loss))


@dataclass(eq=False, repr=False)
class CovarianceForecaster(CovarianceBaseline):
    """Forecast covariances: any volatility forecast times a shrunk, exponential correlation.

    Volatilities change fast and can be forecast, correlations change slowly and are noisy: each
    gets the memory that suits it.

    Parameters
    ----------
    volatility : estimator, optional
        With ``fit(train, val)`` and ``predict(data)`` in units of ``data.realised_volatility``,
        such as ``CrossAttentionForecaster(target="volatility")``; a copy is fitted. None:
        :class:`.ExponentialVolatility`.
    half_life : float, optional
        Of the correlations, in bars.
    prior_bars : float, optional
        Bars' worth of trust in one correlation shared by all pairs. What is None is chosen by the
        Gaussian likelihood of the training windows' next bars.

    Attributes
    ----------
    volatility_ : estimator
        The fitted copy.
    half_life_, prior_bars_ : float

    Notes
    -----
    Returns are divided by the exponential volatility known before them and cut at ±4. A pair's
    correlation r is that of the exponentially weighted bars which both have, n of them in effect;
    the forecast takes ``(n r + k m) / (n + k)``, with k ``prior_bars`` and m the mean of r over
    pairs, so that a pair with a short common history gets the usual correlation. Eigenvalues are
    kept above .001: forecasts are positive definite even with more assets than bars. The mean over
    pairs moves faster than its parts: it goes halfway to an exponential mean of half-life 10, up
    by mixing with a matrix of ones, down with the identity.

    References
    ----------
    Engle (2002), "Dynamic conditional correlation". Ledoit and Wolf (2004), "Honey, I shrunk the
    sample covariance matrix".

    Built in chapter: Portfolios of forecast risk.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market("factor", n_assets=4, n_steps=1500, seed=0)
    >>> data = prepare_cross_attention_data(market.frames, 24, 5, ["log_return"])
    >>> train, val, test = data.split()
    >>> covariance = CovarianceForecaster().fit(train, val).predict(test)
    >>> covariance.shape == (len(test), 4, 4), bool(np.linalg.eigvalsh(covariance).min() > 0)
    (True, True)
    """

    _warns_of_series = False  # the volatility model does, or reads them

    volatility: Any = None
    _: KW_ONLY
    half_life: float | None = None
    prior_bars: float | None = None

    def _fit(self, train, val):
        from sklearn.base import clone

        half_lives, priors = HALF_LIVES, PRIOR_BARS
        if self.half_life is not None:
            half_lives = (check_float("half_life", self.half_life, above=0),)
        if self.prior_bars is not None:
            priors = (check_float("prior_bars", self.prior_bars, at_least=0),)
        model = ExponentialVolatility() if self.volatility is None else self.volatility
        if not (hasattr(model, "fit") and hasattr(model, "predict")) or isinstance(model, type):
            raise InvalidInputError(f"volatility must have fit and predict, got {model!r}")
        self.volatility_ = clone(model, safe=False)
        self.volatility_.fit(train, val)
        moves = _standardised(train)
        rows, products = _next_products(train, moves)
        level = _mean_correlation(moves)[rows]

        def options():
            for half_life in half_lives:
                sums = exponential_products(moves, half_life, rows)
                yield from (((half_life, k), _shrunk(*sums, k, level)) for k in priors)

        self.half_life_, self.prior_bars_ = _most_likely(options(), products)

    def _covariance(self, data):
        volatility = np.asarray(self.volatility_.predict(data), float)
        if volatility.shape != data.has_bar.shape or (volatility <= 0).any():
            raise InvalidInputError(
                f"volatility must forecast {data.has_bar.shape} values above 0, got "
                f"{volatility.shape} with a least of {np.nanmin(volatility):g}"
            )
        moves = _standardised(data)
        sums = exponential_products(moves, self.half_life_, data.ends)
        level = _mean_correlation(moves)[data.ends]
        correlation = _shrunk(*sums, self.prior_bars_, level)
        return volatility[:, :, None] * correlation * volatility[:, None]


@dataclass(eq=False, repr=False)
class EWMACovariance(CovarianceBaseline):
    """Exponentially weighted covariance (RiskMetrics), of returns with mean zero.

    Parameters
    ----------
    half_life : float, optional
        In bars; 11.2 is the decay of .94 of RiskMetrics. None: the one of 32 to 504 bars with the
        greatest Gaussian likelihood of the training windows' next bars.

    Attributes
    ----------
    half_life_ : float
    level_ : ndarray of shape (n_assets,)
        That of :class:`.ExponentialVolatility`, by which variances are scaled.

    References
    ----------
    J.P. Morgan (1996), "RiskMetrics technical document".
    """

    half_life: float | None = RISK_METRICS

    def _fit(self, train, val):
        self.level_ = horizon_levels(train)
        if self.half_life is not None:
            self.half_life_ = check_float("half_life", self.half_life, above=0)
            return
        returns = log_returns(train)
        rows, products = _next_products(train, returns)
        options = ((k, positive_definite(_means(returns, rows, k))) for k in HALF_LIVES)
        self.half_life_ = _most_likely(options, products)

    def _covariance(self, data):
        found = _means(log_returns(data), data.ends, self.half_life_)
        return _over_horizon(data, found, self.level_)


@dataclass(eq=False, repr=False)
class WindowCovariance(CovarianceBaseline):
    """Covariance of the newest returns by any scikit-learn or skfolio estimator: Ledoit-Wolf.

    Parameters
    ----------
    estimator : estimator, optional
        With ``fit(X)`` and then ``covariance_``; None: scikit-learn's ``LedoitWolf`` for returns
        of mean zero.
    window : int
        Bars that each covariance is estimated on.

    Attributes
    ----------
    level_ : ndarray of shape (n_assets,)
        That of :class:`.ExponentialVolatility`, by which variances are scaled.

    Notes
    -----
    Missing returns count as 0 and the asset's others as so much larger that their mean square
    stays: correlations shrink with the share of missing bars, variances do not.

    References
    ----------
    Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance
    matrices", Journal of Multivariate Analysis 88(2).
    """

    estimator: Any = None
    window: int = 252

    def _fit(self, train, val):
        check_int("window", self.window, at_least=2)
        if self.estimator is not None and not hasattr(self.estimator, "fit"):
            raise InvalidInputError(f"estimator must have fit, got {self.estimator!r}")
        self.level_ = horizon_levels(train)

    def _covariance(self, data):
        from sklearn.base import clone
        from sklearn.covariance import LedoitWolf

        given = LedoitWolf(assume_centered=True) if self.estimator is None else self.estimator
        model, returns, found = clone(given), log_returns(data), []
        for end in data.ends:
            newest = returns[max(end + 1 - self.window, 0) : end + 1]
            share = np.maximum(np.isfinite(newest).mean(axis=0), 1 / self.window)
            found.append(model.fit(np.nan_to_num(newest) / np.sqrt(share)).covariance_)
        return _over_horizon(data, np.array(found), self.level_)


class DCC(CovarianceBaseline):
    """Dynamic conditional correlation (DCC) between GARCH(1, 1) volatilities.

    Attributes
    ----------
    volatility_ : GARCH
    alpha_, beta_ : float
        Weight of the newest product and of the correlation before.
    usual_ : ndarray of shape (n_assets, n_assets)
        Correlation that the process returns to: that of the standardised training returns.

    Notes
    -----
    ``Q' = (1 - alpha - beta) usual + alpha z z' + beta Q``, scaled to a correlation. The weights
    maximise the Gaussian likelihood of pairs of neighbours in the order of the symbols' names
    (composite likelihood), which is not biased by many assets. Over a horizon the correlation
    returns to the usual one as Q does.

    References
    ----------
    Engle (2002), "Dynamic conditional correlation". Pakel, Shephard, Sheppard and Engle (2021),
    "Fitting vast dimensional time-varying covariance models".
    """

    _warns_of_series = False  # GARCH does

    def _fit(self, train, val):
        self.volatility_ = GARCH().fit(train)
        moves = self._moves(train)[train.ends[0] : train.ends[-1] + 1]
        self.usual_ = _as_correlations((moves.T @ moves / len(moves))[None])[0]
        order = np.argsort(self.symbols_)  # whatever the order of the data
        found = minimize(
            lambda x: self._pair_loss(moves, order, *_weights(x)), [-3.0, 3.0], method="Nelder-Mead"
        )
        self.alpha_, self.beta_ = _weights(found.x)

    def _moves(self, data):
        """Returns over the volatility forecast for them, 0 where missing."""
        variance = self.volatility_.next_variances(data)
        return np.nan_to_num(_over_known(log_returns(data), variance))

    def _pair_loss(self, moves, order, alpha, beta):
        """Mean loss of each asset with its neighbour in the order."""
        first, second = moves[:, order[:-1]], moves[:, order[1:]]
        if not first.size:
            return 0.0  # one asset has no correlation

        def filtered(products, usual):
            drive = (1 - alpha - beta) * usual + alpha * products[:-1]
            return lfilter([1.0], [1.0, -beta], drive, axis=0, zi=beta * usual[None])[0]

        one = np.ones(first.shape[1])
        joint = filtered(first * second, self.usual_[order[:-1], order[1:]])
        joint = joint / np.sqrt(filtered(first**2, one) * filtered(second**2, one))
        left = 1 - joint**2
        x, y = first[1:], second[1:]
        return float((np.log(left) + (x**2 + y**2 - 2 * joint * x * y) / left).mean())

    def _covariance(self, data):
        moves = self._moves(data)
        state, done = self.usual_.copy(), 0
        found = np.empty((len(data), *state.shape))
        for k, end in enumerate(data.ends):
            for t in range(done, end + 1):
                state = self.beta_ * state + self.alpha_ * np.outer(moves[t], moves[t])
                state += (1 - self.alpha_ - self.beta_) * self.usual_
            done, found[k] = end + 1, state
        correlation = _as_correlations(found)
        kept = np.mean((self.alpha_ + self.beta_) ** np.arange(self.horizon_))
        correlation = self.usual_ + kept * (correlation - self.usual_)
        volatility = self.volatility_.predict(data)
        return volatility[:, :, None] * correlation * volatility[:, None]


def _weights(x: np.ndarray) -> tuple[float, float]:
    """Turn two numbers into alpha and beta: both above 0, their sum below .999."""
    share, total = (0.999 / (1 + np.exp(-np.clip(x, -30, 30)))).tolist()
    return share * total, (1 - share) * total


def _standardised(data: CrossAttentionData) -> np.ndarray:
    """Log returns over the exponential volatility known before each, cut: ``(n_rows, N)``."""
    returns = log_returns(data)
    variance = mean_variances(returns**2, SCALE_HALF_LIFE, exponential=True)
    return np.clip(_over_known(returns, variance), -MOVE_LIMIT, MOVE_LIMIT)


def _over_known(returns: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Divide each row of returns by the deviation of the row before; NaN in the first row."""
    moves = np.full(returns.shape, np.nan)
    moves[1:] = returns[1:] / np.sqrt(variance[:-1])
    return moves


def _next_products(data: CrossAttentionData, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Last rows of some windows, and the products (n, N, N) of the moves that follow them."""
    if len(data) < LEAST_ROWS:
        raise InvalidInputError(f"train must hold {LEAST_ROWS} windows or more, got {len(data)}")
    rows = data.ends[:-1]
    rows = rows[:: -(-len(rows) * moves.shape[1] ** 2 // TUNING_CELLS)]
    following = moves[rows + 1]
    return rows, following[:, :, None] * following[:, None]


def _most_likely(options: Iterable[tuple[Any, np.ndarray]], products: np.ndarray) -> Any:
    """Return the key of the covariances with the least Gaussian loss."""
    losses = {key: np.nanmean(covariance_loss(found, products)) for key, found in options}
    return min(losses, key=losses.get)


def _means(returns: np.ndarray, rows: np.ndarray, half_life: float) -> np.ndarray:
    """Exponential means of products over each asset's known rows, positive semi-definite."""
    sums, weights = exponential_products(returns, half_life, rows)
    own = np.sqrt(np.maximum(np.einsum("nii->ni", weights), 1e-12))
    return sums / (own[:, :, None] * own[:, None])


def _over_horizon(
    data: CrossAttentionData, covariance: np.ndarray, level: np.ndarray
) -> np.ndarray:
    """Scale covariances of a bar to the horizon, to which each adds ``level`` (N,) variances."""
    rows = data.bars_in_horizon * level
    return np.sqrt(rows[:, :, None] * rows[:, None]) * covariance


def _as_correlations(products: np.ndarray) -> np.ndarray:
    """Scale matrices ``(n, N, N)`` to a diagonal of ones; 0 beside an asset that never moved."""
    unit = np.sqrt(np.einsum("nii->ni", products))
    unit = np.where(unit > 0, unit, 1.0)
    found = products / (unit[:, :, None] * unit[:, None])
    np.einsum("nii->ni", found)[:] = 1.0
    return found


def _mean_correlation(moves: np.ndarray) -> np.ndarray:
    """Fast exponential mean of the correlation over pairs, ``(n_rows,)``; NaN where unknown."""
    known = np.isfinite(moves)
    moves = np.where(known, moves, 0.0)
    squares, count = (moves**2).sum(axis=1), known.sum(axis=1)
    pairs = np.maximum(count * (count - 1), 1)
    products = (moves.sum(axis=1) ** 2 - squares) / pairs
    table = pd.DataFrame({"products": products, "squares": squares / np.maximum(count, 1)})
    table[count < 2] = np.nan
    means = table.ewm(halflife=LEVEL_HALF_LIFE, ignore_na=True).mean()
    return (means["products"] / means["squares"].where(means["squares"] > 0)).to_numpy()


def _shrunk(
    sums: np.ndarray, weights: np.ndarray, prior_bars: float, level: np.ndarray
) -> np.ndarray:
    """Correlations ``(n, N, N)`` of weighted products, shrunk to their mean over pairs.

    That mean then goes a part of the way to ``level`` (n,), its recent value.
    """
    n_assets = sums.shape[1]
    apart = ~np.eye(n_assets, dtype=bool)
    found = np.clip(_as_correlations(sums / np.maximum(weights, 1e-12)), -1.0, 1.0)
    counted = np.where(apart, weights, 0.0)
    usual = (counted * found).sum((1, 2)) / np.maximum(counted.sum((1, 2)), 1e-12)
    pull = prior_bars * usual[:, None, None]
    found = (weights * found + pull) / np.maximum(weights + prior_bars, 1e-12)
    found = positive_definite(np.where(apart, found, 1.0))
    return _with_mean(found, usual + LEVEL_SHARE * np.nan_to_num(level - usual))


def _with_mean(correlation: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Give correlations ``(n, N, N)`` another mean over pairs, ``(n,)``, and keep them definite.

    Upwards by mixing with ones, which one common factor would make; downwards with the identity.
    """
    n_assets = correlation.shape[1]
    pairs = max(n_assets * (n_assets - 1), 1)
    mean = (correlation.sum(axis=(1, 2)) - n_assets) / pairs
    rise = np.clip((wanted - mean) / np.maximum(1 - mean, 1e-6), 0.0, MOST_RISE)
    fall = np.clip(1 - wanted / np.where(mean > 0, mean, np.inf), 0.0, 1.0)
    fall = np.where((mean > 0) & (wanted < mean), fall, 0.0)
    kept, rise, fall = (x[:, None, None] for x in (1 - rise - fall, rise, fall))
    return kept * correlation + rise + fall * np.eye(n_assets)
