"""Who leads whom without any network: the classical answers, in the same report.

Built in chapter: Who really leads?
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from crossattn.baselines.base import lagged_log_returns
from crossattn.baselines.linear import VAR
from crossattn.data.frame import Frames, check_frames, close_times, modal_spacing
from crossattn.errors import InvalidInputError
from crossattn.evidence.inference import (
    RobustFit,
    newey_west_lags,
    robust_mean_t,
    robust_regression,
)
from crossattn.evidence.leadlag import analyze_lead_lag_relationships
from crossattn.evidence.report import LeadLagReport, make_report
from crossattn.windows.dataset import CrossAttentionData


def lagged_correlation(
    data: CrossAttentionData, *, max_lag: int = 7, alpha: float = 0.05, robust: bool = True
) -> LeadLagReport:
    """Correlate each asset's target with every other's lagged log return, pair by pair.

    Parameters
    ----------
    data : CrossAttentionData
        Nothing is fitted beforehand, so all windows may be used.
    max_lag : int
        Returns of 0 to ``max_lag`` bars before the window's last bar.
    alpha : float
        Accepted share of false claims.
    robust : bool
        Newey-West errors, and the p-value of the best lag multiplied by the number of lags looked
        at. ``False`` is the textbook formula at the best lag, shown for what it does: under
        shared volatility it finds leaders where there are none.

    Returns
    -------
    LeadLagReport

    Notes
    -----
    Pair by pair, so an asset that moves with a leader looks like one: the proxy trap. It says
    whose past is *correlated* with whose future, not who adds anything once others are known.
    """
    lags, target = _lags_and_target(data, max_lag)
    n, n_assets, n_lags = lags.shape
    t = np.zeros((n_assets, n_assets, n_lags))
    correlation = np.zeros_like(t)
    for i in range(n_assets):
        known = np.isfinite(target[:, i])
        y = _standard(target[known, i])
        for j in range(n_assets):
            if j == i or known.sum() < 10:
                continue
            for lag in range(n_lags):
                product = y * _standard(lags[known, j, lag])
                correlation[i, j, lag] = r = product.mean()
                if robust:
                    t[i, j, lag] = robust_mean_t(product, newey_west_lags(n, data.horizon))
                else:
                    t[i, j, lag] = r * np.sqrt((known.sum() - 2) / max(1 - r * r, 1e-12))
    best = np.abs(t).argmax(axis=2)
    strongest = np.take_along_axis(np.abs(t), best[..., None], 2)[..., 0]
    p = 2 * stats.norm.sf(strongest) * (n_lags if robust else 1)
    return make_report(
        tuple(data.symbols),
        lag=best + 1,
        effect=np.take_along_axis(correlation, best[..., None], 2)[..., 0],
        p_value=np.minimum(p, 1.0),
        alpha=alpha,
        method="lagged correlation, " + ("robust errors" if robust else "textbook errors"),
        n_windows=n,
    )


def granger(
    data: CrossAttentionData, *, max_lag: int = 7, alpha: float = 0.05, robust: bool = True
) -> LeadLagReport:
    """Test in a vector autoregression whether all lags of one asset can be left out of another.

    Parameters
    ----------
    data : CrossAttentionData
        Nothing is fitted beforehand, so all windows may be used.
    max_lag : int
        Regressors are the returns 0 to ``max_lag`` bars before the window's last bar.
    alpha : float
        Accepted share of false claims.
    robust : bool
        Newey-West errors. ``False`` is the textbook Wald test, whose size is several times its
        nominal level when volatility is shared.

    Returns
    -------
    LeadLagReport
        The p-value is of all lags jointly, so it needs no correction for the lag named, which is
        the one with the largest t statistic.

    Raises
    ------
    InvalidInputError
        Fewer windows than ten a coefficient.

    References
    ----------
    Granger (1969), "Investigating Causal Relations by Econometric Models and Cross-spectral
    Methods", Econometrica 37(3).
    """
    lags, target = _lags_and_target(data, max_lag)
    n, n_assets, n_lags = lags.shape
    if n < 10 * n_assets * n_lags:
        raise InvalidInputError(
            f"data: {n} windows are too few for {n_assets * n_lags} coefficients an asset"
        )
    p = np.ones((n_assets, n_assets))
    best = np.zeros((n_assets, n_assets), int)
    effect = np.zeros((n_assets, n_assets))
    for i in range(n_assets):
        known = np.isfinite(target[:, i])
        y, x = target[known, i], lags[known].reshape(known.sum(), -1)
        if y.std() == 0:
            continue
        fit = robust_regression(y, x, lags=newey_west_lags(len(y), data.horizon), leverage=True)
        if not robust:
            residual = y - y.mean() - (x - x.mean(axis=0)) @ fit.slope
            centred = x - x.mean(axis=0)
            noise = residual @ residual / (len(y) - x.shape[1] - 1)
            covariance = noise * np.linalg.pinv(centred.T @ centred, hermitian=True)
            fit = RobustFit(
                fit.slope, np.sqrt(np.diag(covariance)), covariance, np.full(x.shape[1], np.inf)
            )
        for j in range(n_assets):
            block = np.arange(j * n_lags, (j + 1) * n_lags)
            if j == i or not x[:, block].any():
                continue
            p[i, j] = fit.wald(block)
            best[i, j] = np.abs(fit.t[block]).argmax()
            at = block[best[i, j]]
            effect[i, j] = fit.slope[at] * x[:, at].std() / y.std()
    return make_report(
        tuple(data.symbols),
        lag=best + 1,
        effect=effect,
        p_value=p,
        alpha=alpha,
        method="Granger test in a VAR, " + ("robust errors" if robust else "textbook errors"),
        n_windows=n,
    )


def lasso_var(
    train: CrossAttentionData,
    test: CrossAttentionData,
    val: CrossAttentionData | None = None,
    *,
    max_lag: int = 7,
    alpha: float = 0.05,
    volatility_weights: bool = True,
) -> LeadLagReport:
    """Fit a lasso VAR on one part and test its contributions on a later one.

    The linear twin of the attention forecaster, by the same test; see
    :func:`crossattn.analyze_lead_lag_relationships`.

    Parameters
    ----------
    train, test, val : CrossAttentionData
        Parts in time order; ``val`` chooses the penalty.
    max_lag, alpha, volatility_weights
        As in :class:`crossattn.baselines.linear.VAR`.

    Returns
    -------
    LeadLagReport

    References
    ----------
    Basu and Michailidis (2015), "Regularized Estimation in Sparse High-dimensional Time Series
    Models", Annals of Statistics 43(4).
    """
    model = VAR(max_lag, penalty="lasso", volatility_weights=volatility_weights).fit(train, val)
    return analyze_lead_lag_relationships(model, test, alpha=alpha)


def hayashi_yoshida(
    frames: Frames,
    *,
    step: pd.Timedelta | None = None,
    max_lag: int = 7,
    n_blocks: int = 50,
    alpha: float = 0.05,
) -> LeadLagReport:
    """Cross-covariance at shifts of the clock, from each asset's bars at their own times.

    Where quotes are asynchronous, putting them on one grid makes whoever trades more often lead.
    This estimator needs no grid: two returns count together when their intervals overlap after
    the shift.

    Parameters
    ----------
    frames : Frames
        Bars of each asset, as they came; only bars that exist are used.
    step : Timedelta, optional
        Unit of the lag; by default the shortest modal spacing.
    max_lag : int
        Shifts of 1 to ``max_lag + 1`` steps.
    n_blocks : int
        Stretches of time whose estimates are compared for the error.
    alpha : float
        Accepted share of false claims.

    Returns
    -------
    LeadLagReport
        ``effect`` is a correlation at the best shift.

    Raises
    ------
    InvalidInputError
        Fewer than five bars of some asset a block.

    Notes
    -----
    Neighbouring intervals that overlap in real time carry plain simultaneous correlation into a
    shifted sum. Its expected size, the covariance at shift 0 times the share of real overlap, is
    subtracted block by block. The p-value is of the mean over blocks, Newey-West, times the number
    of shifts looked at. It takes for granted that a *quote time* is when the price was made: a
    venue that reports late still looks led.

    References
    ----------
    Hayashi and Yoshida (2005), "On Covariance Estimation of Non-synchronously Observed Diffusion
    Processes", Bernoulli 11(2). Hoffmann, Rosenbaum and Yoshida (2013), "Estimation of the Lead-Lag
    Parameter from Non-synchronous Data", Bernoulli 19(2).

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> market = simulate_market("null", n_assets=3, n_steps=2000, seed=1)
    >>> hayashi_yoshida(market.frames).nobody_leads
    True
    """
    frames = check_frames(frames)
    symbols = tuple(frames)
    quotes = {}
    spacings = []
    for symbol, frame in frames.items():
        close = frame["close"].set_axis(close_times(frame)).dropna()
        if len(close) < 5 * n_blocks:
            raise InvalidInputError(
                f"{symbol}: {len(close)} bars are too few for {n_blocks} blocks"
            )
        spacings.append(modal_spacing(close.index))
        quotes[symbol] = (close.index.as_unit("ns").asi8, np.log(close.to_numpy()))
    unit = (min(spacings) if step is None else pd.Timedelta(step)).as_unit("ns").value
    start = max(times[0] for times, _ in quotes.values())
    stop = min(times[-1] for times, _ in quotes.values())
    edges = np.linspace(start, stop, n_blocks + 1)
    n_lags, n_assets = max_lag + 1, len(symbols)
    p, effect = np.ones((n_assets, n_assets)), np.zeros((n_assets, n_assets))
    best = np.zeros((n_assets, n_assets), int)
    for i, follower in enumerate(symbols):
        for j, leader in enumerate(symbols):
            if i == j:
                continue
            shifts = unit * np.arange(1, n_lags + 1)
            excess, level = _shifted_covariance(quotes[leader], quotes[follower], shifts, edges)
            t = np.array([robust_mean_t(block, 2) for block in excess])
            best[i, j] = np.abs(t).argmax()
            p[i, j] = min(1.0, n_lags * 2 * stats.t.sf(np.abs(t).max(), n_blocks - 1))
            effect[i, j] = excess[best[i, j]].sum() / level if level > 0 else 0.0
    return make_report(
        symbols,
        lag=best + 1,
        effect=effect,
        p_value=p,
        alpha=alpha,
        method="Hayashi-Yoshida covariance at shifts, net of simultaneous overlap",
        n_windows=n_blocks,
    )


def _shifted_covariance(
    leader: tuple[np.ndarray, np.ndarray],
    follower: tuple[np.ndarray, np.ndarray],
    shifts: np.ndarray,
    edges: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Covariance by shift and block, net of real overlap, and the scale that makes correlations."""
    (leader_times, leader_logs), (times, logs) = leader, follower
    begin, end, change = times[:-1], times[1:], np.diff(logs)
    block = np.clip(np.searchsorted(edges, end, side="right") - 1, 0, len(edges) - 2)

    def sums(shift: int) -> tuple[np.ndarray, np.ndarray]:
        """By block: products with the leader's overlapping returns, and the real overlap."""
        first = np.searchsorted(leader_times, begin - shift, side="right") - 1
        last = np.searchsorted(leader_times, end - shift, side="left")
        inside = (first >= 0) & (last < len(leader_times))
        first, last = np.where(inside, first, 0), np.where(inside, last, 0)
        product = change * (leader_logs[last] - leader_logs[first])
        overlap = np.minimum(leader_times[last], end) - np.maximum(leader_times[first], begin)
        count = len(edges) - 1
        overlap = np.where(inside, np.maximum(overlap, 0), 0)
        return np.bincount(block, product, count), np.bincount(block, overlap, count)

    together, whole = sums(0)
    rate = np.divide(together, whole, out=np.zeros_like(together), where=whole > 0)
    excess = []
    for shift in shifts:
        product, overlap = sums(int(shift))
        excess.append(product - rate * overlap)
    level = np.sqrt((change**2).sum() * (np.diff(leader_logs) ** 2).sum())
    return np.array(excess), float(level)


def _lags_and_target(data: CrossAttentionData, max_lag: int) -> tuple[np.ndarray, np.ndarray]:
    if max_lag < 0:
        raise InvalidInputError(f"max_lag must not be negative, got {max_lag}")
    lags = lagged_log_returns(data, max_lag + 1, np.arange(len(data.symbols)))
    return lags, np.asarray(data.y, float)


def _standard(values: np.ndarray) -> np.ndarray:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
