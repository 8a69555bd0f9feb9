"""Risk-based portfolios: minimum variance, risk parity, inverse volatility, volatility targeting.

They need a covariance and no forecast of returns. The last axis is assets; a row's weights are
known when its covariance is.

Built in chapter: Portfolios of forecast risk.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from crossattn._validation import (
    check_array,
    check_bool,
    check_float,
    check_mapping,
    in_order,
    labels_of,
)
from crossattn.data.frame import Frame, Tables, check_frames, close_times
from crossattn.data.panel import align_panel
from crossattn.errors import InvalidInputError

TOLERANCE, MOST_ROUNDS = 1e-10, 200


def minimum_variance_weights(covariance: ArrayLike, *, allow_short: bool = False) -> np.ndarray:
    """Minimum-variance weights: fully invested, least variance.

    Parameters
    ----------
    covariance : array-like of shape (N, N) or (M, N, N)
        Positive definite; a row a decision. NaN on the diagonal: an asset that is not held.
    allow_short : bool

    Returns
    -------
    ndarray of shape (N,) or (M, N)
        Sum to 1; all 0 where no asset is known.

    Notes
    -----
    ``C⁻¹1 / 1'C⁻¹1`` with shorts; without, the same programme over weights of at least 0 by
    non-negative least squares. For limits of positions, sectors or anything linear, give
    :func:`.mean_variance_weights` a forecast of zeros and
    ``Limits(linear={"invested": (1, 1, 1)})``.

    References
    ----------
    Clarke, de Silva and Thorley (2006), "Minimum-variance portfolios in the U.S. equity market".

    Examples
    --------
    >>> minimum_variance_weights([[0.04, 0.0], [0.0, 0.01]]).round(3)
    array([0.2, 0.8])
    """
    check_bool("allow_short", allow_short)
    correlation, deviation, known = _checked(covariance)
    pull = known / deviation
    if allow_short:
        found = np.linalg.solve(correlation, pull[..., None])[..., 0]
    else:  # the minimum of x'Rx / 2 - pull'x over x >= 0
        roots = np.linalg.cholesky(correlation)
        wanted = np.linalg.solve(roots, pull[..., None])[..., 0]
        found = np.array([nnls(r.T, v)[0] for r, v in zip(roots, wanted, strict=True)])
        found = found.reshape(pull.shape)  # also without any row
    return _invested(found * pull, covariance)


def risk_parity_weights(covariance: ArrayLike) -> np.ndarray:
    """Risk parity weights: every asset adds the same share of the portfolio's variance.

    Parameters
    ----------
    covariance : array-like of shape (N, N) or (M, N, N)
        As in :func:`minimum_variance_weights`.

    Returns
    -------
    ndarray of shape (N,) or (M, N)
        Above 0, sum to 1; 0 for assets unknown.

    Raises
    ------
    InvalidInputError
        The covariance is no covariance, or so nearly singular that the search does not end.

    Notes
    -----
    The minimum of ``w'Cw / 2 - sum log w``, one asset at a time until nothing moves.

    References
    ----------
    Maillard, Roncalli and Teïletche (2010), "The properties of equally weighted risk contribution
    portfolios". Griveau-Billion, Richard and Roncalli (2013), "A fast algorithm for computing
    high-dimensional risk parity portfolios".

    Examples
    --------
    >>> weights = risk_parity_weights([[0.04, 0.006], [0.006, 0.01]])
    >>> (weights * (np.array([[0.04, 0.006], [0.006, 0.01]]) @ weights)).round(6)  # equal shares
    array([0.005778, 0.005778])
    """
    correlation, deviation, known = _checked(covariance)
    n_assets = known.shape[1]
    total = np.maximum(correlation.sum(axis=(1, 2)), 1e-3)
    found = np.sqrt(n_assets / total)[:, None] * np.ones(n_assets)
    for _ in range(MOST_ROUNDS):  # damped Newton: the self-concordant barrier keeps x above 0
        slope = np.einsum("mij,mj->mi", correlation, found) - 1.0 / found
        curvature = correlation + np.eye(n_assets) * (1.0 / found**2)[:, None]
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        decrement = np.sqrt(np.maximum((step * slope).sum(axis=1), 0.0))[:, None]
        found = found - step / np.where(decrement > 0.25, 1 + decrement, 1.0)
        if decrement.max(initial=0.0) < TOLERANCE:
            break
    else:
        raise InvalidInputError("covariance is too nearly singular for risk parity")
    return _invested(found * known / deviation, covariance)


def inverse_volatility_weights(covariance: ArrayLike) -> np.ndarray:
    """Inverse-volatility weights from forecast covariances: risk parity without correlations.

    Parameters
    ----------
    covariance : array-like of shape (N, N) or (M, N, N)
        As in :func:`minimum_variance_weights`.

    Returns
    -------
    ndarray of shape (N,) or (M, N)
        Sum to 1; 0 for assets unknown.

    Examples
    --------
    >>> inverse_volatility_weights([[0.04, 0.0], [0.0, 0.01]]).round(3)
    array([0.333, 0.667])
    """
    _, deviation, known = _checked(covariance)
    return _invested(known / deviation, covariance)


def scale_to_volatility(
    weights: ArrayLike, covariance: ArrayLike, target: float, *, max_gross: float = 1.0
) -> np.ndarray:
    """Volatility targeting: scale weights so that the forecast volatility is the target.

    Parameters
    ----------
    weights : array-like of shape (N,) or (M, N)
        A portfolio a decision; NaN: as it is, which is counted as 0. A Series is put in the order
        of the covariance's columns.
    covariance : array-like of shape (N, N) or (M, N, N)
        Of the span that the decision is held for, as in :func:`minimum_variance_weights`.
    target : float
        Volatility over that span: 10 % a year is ``0.10 * sqrt(5 / 252)`` over five days.
    max_gross : float
        Largest sum of absolute weights: above 1 the account is levered. What is not held is cash.

    Returns
    -------
    ndarray of the shape of ``weights``

    References
    ----------
    Moreira and Muir (2017), "Volatility-managed portfolios", Journal of Finance 72(4).

    Examples
    --------
    >>> covariance = np.array([[0.0004, 0.0], [0.0, 0.0004]])  # 2 % each
    >>> scale_to_volatility([0.5, 0.5], covariance, 0.01).round(3)
    array([0.354, 0.354])
    """
    check_float("target", target, above=0)
    check_float("max_gross", max_gross, above=0)
    correlation, deviation, known = _checked(covariance)
    weights = in_order("weights", weights, labels_of(covariance))
    wanted = check_array("weights", weights, np.shape(covariance)[:-1])
    held = np.reshape(np.where(np.isnan(wanted), 0.0, wanted), known.shape)
    if not np.isfinite(held).all() or (held[~known] != 0).any():
        raise InvalidInputError("weights must be finite, and 0 where covariance is unknown")
    moves = held * deviation
    risk = np.sqrt(np.einsum("mi,mij,mj->m", moves, correlation, moves))
    gross = np.abs(held).sum(axis=1)
    held_any = gross > 0
    factor = np.minimum(
        target / np.where(held_any, risk, 1.0), max_gross / np.where(held_any, gross, 1.0)
    )
    return wanted * np.reshape(factor, (*wanted.shape[:-1], 1))


def portfolio_bars(frames: Tables, weights: Mapping[str, float] | None = None) -> Frame:
    """Bars of a portfolio that is rebalanced every bar: an index of its assets, closes only.

    Put beside the assets' own bars, its volatility is forecast like theirs: a covariance needs a
    forecast of correlations too.

    Parameters
    ----------
    frames : dict of str to Frame
        Bars by symbol.
    weights : mapping of symbol to float, optional
        At least 0, in any unit; None: equal ones. Where an asset has no bar the others share its
        part.

    Returns
    -------
    Frame
        A bar a close of any asset held; the first close is 100. Volume is NaN; no costs.

    Examples
    --------
    >>> from crossattn import load_sample
    >>> frames = load_sample("us_stocks")
    >>> portfolio_bars(frames, {"JPM": 0.5, "KO": 0.5})["close"].round(2).tolist()[:2]
    [100.0, 100.96]
    """
    frames = check_frames(frames)
    closes = align_panel(frames)["close"]
    if not isinstance(weights, pd.Series | None):
        check_mapping("weights", weights)
    weights = dict.fromkeys(closes, 1.0) if weights is None else dict(weights)
    if unknown := [symbol for symbol in weights if symbol not in closes]:
        raise InvalidInputError(f"weights must be of symbols of frames, got {unknown[0]!r}")
    held = {k: check_float(f"weight of {k!r}", w, at_least=0) for k, w in weights.items()}
    held = pd.Series({symbol: weight for symbol, weight in held.items() if weight > 0})
    if held.empty:
        raise InvalidInputError("weights must not all be 0")
    closes = closes[held.index].dropna(how="all")
    returns = closes / closes.ffill().shift() - 1
    known = returns.notna().astype(float) @ held
    moves = (returns.fillna(0.0) @ held) / known.where(known > 0, 1.0)
    close = (100.0 * (1 + moves).cumprod()).to_numpy()
    clocks = [pd.Series(frames[k].index, close_times(frames[k], k)) for k in held.index]
    opens = pd.concat(clocks).groupby(level=0).min()
    bars = dict.fromkeys(("open", "high", "low", "close"), close)
    bars |= {"volume": np.nan, "close_time": closes.index}
    frame = pd.DataFrame(bars, pd.DatetimeIndex(opens.reindex(closes.index), name="time"))
    frame.attrs["close_only"] = True
    return frame


def _checked(covariance: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return correlations (M, N, N), deviations (M, N) and which assets are known (M, N).

    An asset unknown has deviation 1 and no correlation.
    """
    dims = np.ndim(covariance)
    matrices = check_array("covariance", covariance, (None,) * (3 if dims == 3 else 2))
    matrices = matrices.reshape((-1, *matrices.shape[-2:]))
    n_assets = matrices.shape[-1]
    if matrices.shape[1] != n_assets or not n_assets:
        raise InvalidInputError(f"covariance must be square, got shape {np.shape(covariance)}")
    variance = np.einsum("mii->mi", matrices)
    known = ~np.isnan(variance)
    both = known[:, :, None] & known[:, None]
    matrices = np.where(both, matrices, 0.0)
    deviation = np.sqrt(np.where(variance > 0, variance, 1.0))
    correlation = matrices / (deviation[:, :, None] * deviation[:, None])
    correlation = correlation + np.eye(n_assets) * ~known[:, None]
    rules = {
        "finite": lambda: np.isfinite(correlation).all(axis=(1, 2)),
        "symmetric": lambda: np.isclose(correlation, correlation.transpose(0, 2, 1)).all((1, 2)),
        "positive definite": lambda: np.linalg.eigvalsh(correlation)[:, 0] > 1e-12,
    }
    for rule, keeps in rules.items():
        if not (kept := keeps()).all():
            raise InvalidInputError(f"covariance must be {rule}, matrix {kept.argmin()} is not")
    return correlation, deviation, known


def _invested(weights: np.ndarray, covariance: ArrayLike) -> np.ndarray:
    """Scale weights (M, N) to a sum of 1, in the shape of the covariance's rows."""
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total != 0, total, 1.0)
    return weights.reshape(np.shape(covariance)[:-1])
