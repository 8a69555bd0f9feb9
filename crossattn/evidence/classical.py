"""Classical lead-lag tests: lagged correlation, Granger causality, PCMCI, Hayashi-Yoshida.

Built in chapter: Who really leads?
"""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
from scipy import stats

from crossattn._validation import check_float, check_int
from crossattn.data.durations import check_span
from crossattn.data.frame import Frames, check_frames, close_times, modal_spacing
from crossattn.errors import InvalidInputError, import_optional
from crossattn.evidence.inference import (
    ROWS_PER_REGRESSOR,
    newey_west_lags,
    robust_mean_t,
    robust_regression,
)
from crossattn.evidence.leadlag import LeadLagReport, make_report
from crossattn.windows.checks import check_windows
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.lagged import lagged_log_returns

Quotes = tuple[np.ndarray, np.ndarray]  # times in nanoseconds, logs of prices


def lagged_correlation(
    data: CrossAttentionData, *, max_lag: int = 7, alpha: float = 0.05, robust: bool = True
) -> LeadLagReport:
    """Lagged cross-correlation: each asset's target with every other's past returns, pair by pair.

    Parameters
    ----------
    data : CrossAttentionData
        Nothing is fitted, so all windows may be used.
    max_lag : int
        Returns of 0 to ``max_lag`` bars before the window's last bar.
    alpha : float
        Accepted false discovery rate.
    robust : bool
        Newey-West errors, and the p-value of the best lag times the number of lags tried.
        ``False`` is the textbook formula at the best lag, for comparison: under shared
        volatility it finds leaders where there are none.

    Notes
    -----
    Pair by pair, so an asset that moves with a leader looks like one (a proxy).
    """
    lags, target = _lags_and_target(data, max_lag, alpha)
    n, n_assets, n_lags = lags.shape
    t = np.zeros((n_assets, n_assets, n_lags))
    correlation = np.zeros_like(t)
    tested = _testable(lags, target)
    for i in np.flatnonzero(tested.any(axis=1)):
        known = np.isfinite(target[:, i])
        # products of standardised returns (n, N, L): their mean is the correlation
        product = _standard(target[known, i])[:, None, None] * _standard(lags[known])
        correlation[i] = r = product.mean(axis=0)
        if robust:
            width = newey_west_lags(n, data.horizon)
            t[i] = np.apply_along_axis(robust_mean_t, 0, product, width)
        else:
            t[i] = r * np.sqrt((known.sum() - 2) / np.maximum(1 - r * r, 1e-12))
        t[i, i] = 0.0
    best = np.abs(t).argmax(axis=2)
    p = 2 * stats.norm.sf(np.abs(t).max(axis=2)) * (n_lags if robust else 1)
    method = "lagged correlation, " + ("robust errors" if robust else "textbook errors")
    effect = _at(correlation, best)
    return _report(data.symbols, len(data), best, effect, p, alpha, method, tested)


def granger(
    data: CrossAttentionData, *, max_lag: int = 7, alpha: float = 0.05, robust: bool = True
) -> LeadLagReport:
    """Granger causality in a vector autoregression: do the lags of one asset predict another?

    Parameters
    ----------
    data, max_lag, alpha
        As in :func:`lagged_correlation`.
    robust : bool
        Newey-West errors. ``False`` is the textbook Wald test, whose size is several times its
        nominal level when volatility is shared.

    References
    ----------
    Granger (1969), Econometrica 37(3).
    """
    lags, target = _lags_and_target(data, max_lag, alpha)
    n, n_assets, n_lags = lags.shape
    least = 10 * n_assets * n_lags
    if n < least:
        raise InvalidInputError(f"data: {n} windows are too few for {n_assets * n_lags} regressors")
    p = np.ones((n_assets, n_assets))
    best = np.zeros((n_assets, n_assets), int)
    effect = np.zeros((n_assets, n_assets))
    tested = _testable(lags, target, least)
    for i in np.flatnonzero(tested.any(axis=1)):
        known = np.isfinite(target[:, i])
        y, x = target[known, i], lags[known].reshape(known.sum(), -1)
        fit = robust_regression(y, x, lags=newey_west_lags(len(y), data.horizon), leverage=True)
        if not robust:
            centred = x - x.mean(axis=0)
            residual = y - y.mean() - centred @ fit.slope
            noise = residual @ residual / (len(y) - x.shape[1] - 1)
            covariance = noise * np.linalg.pinv(centred.T @ centred, hermitian=True)
            error, freedom = np.sqrt(np.diag(covariance)), np.full(x.shape[1], np.inf)
            fit = replace(fit, error=error, covariance=covariance, freedom=freedom)
        for j in range(n_assets):
            block = np.arange(j * n_lags, (j + 1) * n_lags)
            if j == i or not tested[i, j]:
                continue
            p[i, j] = fit.wald(block)
            best[i, j] = np.abs(fit.t[block]).argmax()
            at = block[best[i, j]]
            effect[i, j] = fit.slope[at] * x[:, at].std() / y.std()
    method = "Granger test in a VAR, " + ("robust errors" if robust else "textbook errors")
    return _report(data.symbols, len(data), best, effect, p, alpha, method, tested)


def pcmci(data: CrossAttentionData, *, max_lag: int = 7, alpha: float = 0.05) -> LeadLagReport:
    """PCMCI causal discovery with robust partial correlation, by the package tigramite.

    Parameters
    ----------
    data : CrossAttentionData
        Consecutive windows; nothing is fitted, so all of them may be used.
    max_lag, alpha
        As in :func:`lagged_correlation`: links of 1 to ``max_lag + 1`` bars.

    Returns
    -------
    LeadLagReport
        ``effect`` is the partial correlation at the lag with the least p-value; the p-value of a
        pair is that one times the number of lags.

    Notes
    -----
    For each follower PCMCI selects lagged parents and then tests every link given the parents of
    both ends, on returns ranked to a normal distribution. Its p-values assume independent errors.

    References
    ----------
    Runge, Nowack, Kretschmer, Flaxman and Sejdinovic (2019), "Detecting and quantifying causal
    associations in large nonlinear time series datasets", Science Advances 5(11).
    """
    import_optional("tigramite.pcmci", "pcmci", "bench")
    from tigramite.data_processing import DataFrame
    from tigramite.independence_tests.robust_parcorr import RobustParCorr
    from tigramite.pcmci import PCMCI

    lags, target = _lags_and_target(data, max_lag, alpha)
    n_lags, missing = lags.shape[2], -1e9
    returns = np.nan_to_num(lags[:, :, 0], nan=missing)
    table = DataFrame(returns, missing_flag=missing, remove_missing_upto_maxlag=True)
    search = PCMCI(table, RobustParCorr(), verbosity=0)
    found = search.run_pcmci(tau_min=1, tau_max=n_lags, pc_alpha=0.2)
    p = found["p_matrix"][:, :, 1:].transpose(1, 0, 2)  # (follower, leader, lag)
    best = p.argmin(axis=2)
    effect = _at(found["val_matrix"][:, :, 1:].transpose(1, 0, 2), best)
    p, method = n_lags * p.min(axis=2), "PCMCI, robust partial correlation"
    tested = _testable(lags, target)
    return _report(data.symbols, len(data), best, effect, p, alpha, method, tested)


def hayashi_yoshida(
    frames: Frames,
    *,
    step: int | str | pd.Timedelta | None = None,
    max_lag: int = 7,
    n_blocks: int = 50,
    alpha: float = 0.05,
) -> LeadLagReport:
    """Hayashi-Yoshida lead-lag covariance of asynchronous quotes, each at its own time.

    Two returns are multiplied where their intervals overlap after the shift, so that the asset that
    trades more often does not seem to lead as on a common grid.

    Parameters
    ----------
    frames : Frames
        Bars of each asset at their own times.
    step : int, str or Timedelta, optional
        Unit of the lag: a duration, or a number of the shortest modal spacings; by default one.
    max_lag : int
        Shifts of 1 to ``max_lag + 1`` steps.
    n_blocks : int
        Number of time blocks; their spread gives the error.
    alpha : float
        Accepted false discovery rate.

    Returns
    -------
    LeadLagReport
        ``effect`` is a correlation at the best shift.

    Notes
    -----
    The share of simultaneous correlation in a shifted sum (the covariance at shift 0 times the
    share of real overlap) is subtracted block by block. The p-value is that of the mean over blocks
    (Newey-West) times the number of shifts. A venue that reports late still looks led.

    References
    ----------
    Hayashi and Yoshida (2005), Bernoulli 11(2). Hoffmann, Rosenbaum and Yoshida (2013), Bernoulli
    19(2).

    Examples
    --------
    >>> from crossattn import simulate_market
    >>> market = simulate_market("null", n_assets=3, n_steps=2000, seed=1)
    >>> hayashi_yoshida(market.frames).nobody_leads
    True
    """
    frames = check_frames(frames)
    n_assets = len(frames)
    n_lags = check_int("max_lag", max_lag, at_least=0) + 1
    check_int("n_blocks", n_blocks, at_least=2)
    check_float("alpha", alpha, above=0, below=1)
    quotes, spacings = [], []
    for symbol, frame in frames.items():
        close = frame["close"].set_axis(close_times(frame)).dropna()
        if len(close) < 5 * n_blocks:
            raise InvalidInputError(f"{symbol}: {len(close)} bars are too few for {n_blocks=}")
        spacings.append(modal_spacing(close.index))
        quotes.append((close.index.as_unit("ns").asi8, np.log(close.to_numpy())))
    span = check_span("step", 1 if step is None else step)
    unit = (span * min(spacings) if isinstance(span, int) else span).as_unit("ns").value
    start = max(times[0] for times, _ in quotes)
    stop = min(times[-1] for times, _ in quotes)
    if start >= stop:
        raise InvalidInputError("frames must overlap in time, got assets with no time in common")
    edges = np.linspace(start, stop, n_blocks + 1)
    p, effect = np.ones((n_assets, n_assets)), np.zeros((n_assets, n_assets))
    best = np.zeros((n_assets, n_assets), int)
    shifts = unit * np.arange(1, n_lags + 1)
    for i, j in permutations(range(n_assets), 2):
        # excess: by shift and block; a lead shows in the same sign block after block
        excess, level = _shifted_covariance(quotes[j], quotes[i], shifts, edges)
        t = np.array([robust_mean_t(block, 2) for block in excess])
        best[i, j] = np.abs(t).argmax()
        p[i, j] = n_lags * 2 * stats.t.sf(np.abs(t).max(), n_blocks - 1)
        effect[i, j] = excess[best[i, j]].sum() / level if level > 0 else 0.0
    method = "Hayashi-Yoshida covariance at shifts, net of simultaneous overlap"
    return _report(frames, n_blocks, best, effect, p, alpha, method)


def _shifted_covariance(
    leader: Quotes, follower: Quotes, shifts: np.ndarray, edges: np.ndarray
) -> tuple[np.ndarray, float]:
    """Covariance by shift and block, net of real overlap, and the scale that makes correlations."""
    (leader_times, leader_logs), (times, logs) = leader, follower
    begin, end, change = times[:-1], times[1:], np.diff(logs)
    block = np.clip(np.searchsorted(edges, end, side="right") - 1, 0, len(edges) - 2)

    def sums(shift: int) -> tuple[np.ndarray, np.ndarray]:
        """By block: sum of products with the leader's overlapping returns; real overlap in time."""
        # leader's quotes just before and after the follower's interval, moved back by the shift
        first = np.searchsorted(leader_times, begin - shift, side="right") - 1
        last = np.searchsorted(leader_times, end - shift, side="left")
        inside = (first >= 0) & (last < len(leader_times))
        first, last = np.where(inside, first, 0), np.where(inside, last, 0)
        product = change * (leader_logs[last] - leader_logs[first])
        overlap = np.minimum(leader_times[last], end) - np.maximum(leader_times[first], begin)
        count = len(edges) - 1
        overlap = np.where(inside, np.maximum(overlap, 0), 0)
        return np.bincount(block, product, count), np.bincount(block, overlap, count)

    product, overlap = sums(0)
    rate = np.divide(product, overlap, out=np.zeros_like(product), where=overlap > 0)
    shifted = (sums(int(shift)) for shift in shifts)
    excess = np.array([product - rate * overlap for product, overlap in shifted])
    level = np.sqrt((change**2).sum() * (np.diff(leader_logs) ** 2).sum())
    return excess, float(level)


def _lags_and_target(
    data: CrossAttentionData, max_lag: int, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    check_windows("data", data)
    check_int("max_lag", max_lag, at_least=0)
    check_float("alpha", alpha, above=0, below=1)
    return lagged_log_returns(data, max_lag + 1), data.y


def _testable(
    lags: np.ndarray, target: np.ndarray, least: int = 2 * ROWS_PER_REGRESSOR
) -> np.ndarray:
    """Pairs (follower, leader) with at least so many known targets, where both sides move."""
    tested = []
    for y in target.T:
        known = np.isfinite(y)
        enough = known.sum() >= least and np.ptp(y[known]) > 0
        tested.append(enough & lags[known].any(axis=(0, 2)))
    return np.array(tested)


def _at(values: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Values (follower, leader, lag) at the best lag of each pair."""
    return np.take_along_axis(values, best[..., None], 2)[..., 0]


def _report(
    symbols, n_windows: int, best, effect, p_value, alpha, method, tested=True
) -> LeadLagReport:
    p_value = np.where(tested, np.minimum(p_value, 1.0), 1.0)
    matrices = {"lag": best + 1, "effect": effect, "p_value": p_value, "tested": tested}
    about = {"alpha": alpha, "method": method, "n_windows": n_windows, "family": tested}
    return make_report(tuple(symbols), **matrices, **about)


def _standard(values: np.ndarray) -> np.ndarray:
    """Standardise along the first axis; zeros where nothing varies."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
