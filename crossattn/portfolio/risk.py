"""Risk of a portfolio: value at risk, expected shortfall, contributions, diversification.

Built in chapter: From paper to practice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn._validation import check_float
from crossattn.errors import InvalidInputError


def diversification_ratio(weights: np.ndarray, covariance: np.ndarray) -> float:
    """Diversification ratio: weighted volatility of the assets over that of the portfolio.

    Parameters
    ----------
    weights : ndarray of shape (N,)
        Fractions of the account.
    covariance : ndarray of shape (N, N)
        Of the assets' returns.

    Returns
    -------
    float
        1 where nothing is diversified away; √N for N equal, uncorrelated positions; 1 for an empty
        portfolio. A hedged book can go far above √N.

    Raises
    ------
    InvalidInputError
        Shapes disagree, or the covariance is not symmetric and positive semi-definite.

    References
    ----------
    Choueifaty and Coignard (2008), "Toward maximum diversification".

    Examples
    --------
    >>> diversification_ratio(np.full(4, 0.25), np.eye(4) * 0.04)
    2.0
    """
    weights, covariance = _check_covariance(weights, covariance)
    alone = np.abs(weights) @ np.sqrt(np.diag(covariance))
    together = np.sqrt(max(weights @ covariance @ weights, 0.0))
    return float(alone / together) if together > 0 else 1.0


def effective_number_of_bets(weights: np.ndarray, covariance: np.ndarray) -> float:
    """Effective number of bets: uncorrelated ones that the portfolio's variance amounts to.

    Parameters
    ----------
    weights : ndarray of shape (N,)
    covariance : ndarray of shape (N, N)

    Returns
    -------
    float
        exp of the entropy of the variance shares of the principal portfolios: 1 where one factor
        moves everything, N at most, 0 for an empty portfolio.

    Raises
    ------
    InvalidInputError
        As :func:`diversification_ratio`.

    Notes
    -----
    With eigenvalues l_k and eigenvectors e_k of the covariance, the shares are
    l_k (e_k·w)² / (w' C w). Where eigenvalues are equal, the principal portfolios, and so the
    number, are not unique.

    References
    ----------
    Meucci (2009), "Managing diversification".

    Examples
    --------
    >>> covariance = np.full((5, 5), 0.04)  # five names, one bet
    >>> round(effective_number_of_bets(np.full(5, 0.2), covariance), 6)
    1.0
    """
    weights, covariance = _check_covariance(weights, covariance)
    values, vectors = np.linalg.eigh(covariance)
    shares = np.maximum(values, 0) * (vectors.T @ weights) ** 2
    if shares.sum() <= 0:
        return 0.0
    shares = shares / shares.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def value_at_risk(returns: np.ndarray, level: float = 0.95) -> float:
    """Historical value at risk: the loss of a bar exceeded with probability ``1 - level``.

    Parameters
    ----------
    returns : ndarray of shape (T,)
        Simple returns.
    level : float

    Returns
    -------
    float
        A fraction of the account, positive for a loss: minus the k-th smallest return, where k is
        T (1 - level) rounded up.

    Raises
    ------
    InvalidInputError
        No returns, NaN among them, or a level not between 0 and 1.

    Examples
    --------
    >>> value_at_risk(np.array([-0.05, -0.01, 0.0, 0.02]), level=0.75)
    0.05
    """
    values = _check_history(returns, level)
    return float(-np.sort(values)[_tail(len(values), level) - 1])


def expected_shortfall(returns: np.ndarray, level: float = 0.95) -> float:
    """Historical expected shortfall: the mean loss of the worst ``1 - level`` of the bars.

    Parameters
    ----------
    returns : ndarray of shape (T,)
        Simple returns.
    level : float

    Returns
    -------
    float
        A fraction of the account, positive for a loss; never below the value at risk.

    Raises
    ------
    InvalidInputError
        As :func:`value_at_risk`.

    References
    ----------
    Acerbi and Tasche (2002), "On the coherence of expected shortfall".

    Examples
    --------
    >>> expected_shortfall(np.array([-0.04, -0.02, 0.0, 0.02]), level=0.5)
    0.03
    """
    values = _check_history(returns, level)
    return float(-np.sort(values)[: _tail(len(values), level)].mean())


def risk_by_asset(
    weights: np.ndarray, returns: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Risk contributions by asset: shares of volatility and of expected shortfall.

    Parameters
    ----------
    weights : ndarray of shape (N,)
        Fractions of the account, in the order of the columns.
    returns : DataFrame of shape (T, N)
        Simple returns of the assets; rows with a NaN are left out.
    level : float
        Of value at risk and expected shortfall.

    Returns
    -------
    DataFrame, a row an asset
        ``weight``; ``volatility``, ``value_at_risk``, ``expected_shortfall`` of the position alone
        (a bar, fractions of the account); ``volatility_share`` and ``shortfall_share``: what it
        adds to the portfolio's volatility and expected shortfall. The shares add up to those of
        the portfolio (Euler), so a hedge has a negative one.

    Raises
    ------
    InvalidInputError
        Shapes disagree, or fewer than two complete rows.

    Notes
    -----
    Built in chapter: From paper to practice.

    References
    ----------
    Tasche (1999), "Risk contributions and performance measurement".

    Examples
    --------
    >>> moves = pd.DataFrame({"A": [0.01, -0.02, 0.03], "B": [-0.01, 0.02, -0.03]})
    >>> risk_by_asset(np.array([0.5, 0.5]), moves)["volatility_share"].abs().max() < 1e-15
    True
    """
    weights = np.asarray(weights, dtype=float)
    moves = returns.dropna().to_numpy(dtype=float)
    if weights.shape != (returns.shape[1],):
        raise InvalidInputError(
            f"weights must have shape ({returns.shape[1]},), got {weights.shape}"
        )
    if len(moves) < 2:
        raise InvalidInputError(f"returns must have two complete rows, got {len(moves)}")
    alone = moves * weights  # (T, N)
    together = _check_history(alone.sum(axis=1), level)
    worst = np.argsort(together, kind="stable")[: _tail(len(moves), level)]
    deviation = together.std(ddof=1)
    joint = np.cov(np.column_stack([alone, together]), rowvar=False)[:-1, -1]
    return pd.DataFrame(
        {
            "weight": weights,
            "volatility": alone.std(axis=0, ddof=1),
            "value_at_risk": [value_at_risk(column, level) for column in alone.T],
            "expected_shortfall": [expected_shortfall(column, level) for column in alone.T],
            "volatility_share": joint / deviation if deviation > 0 else np.zeros(len(weights)),
            "shortfall_share": -alone[worst].mean(axis=0),
        },
        index=returns.columns,
    )


def _tail(count: int, level: float) -> int:
    """How many of ``count`` bars are the tail; a hair of rounding does not add one."""
    return max(1, int(np.ceil(count * (1 - level) - 1e-9)))


def _check_history(returns: np.ndarray, level: float) -> np.ndarray:
    values = np.asarray(returns, dtype=float).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise InvalidInputError("returns must be finite, at least one")
    check_float("level", level, above=0, below=1)
    return values


def _check_covariance(weights: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights, covariance = np.asarray(weights, dtype=float), np.asarray(covariance, dtype=float)
    if weights.ndim != 1 or covariance.shape != (len(weights),) * 2:
        raise InvalidInputError(
            f"covariance must have shape ({len(weights)}, {len(weights)}), got {covariance.shape}"
        )
    if not (np.isfinite(weights).all() and np.isfinite(covariance).all()):
        raise InvalidInputError("weights and covariance must be finite")
    largest = np.abs(covariance).max(initial=0.0)
    if not np.allclose(covariance, covariance.T, atol=1e-12 * largest):
        raise InvalidInputError("covariance must be symmetric")
    if len(weights) and np.linalg.eigvalsh(covariance)[0] < -1e-10 * largest:
        raise InvalidInputError("covariance must be positive semi-definite")
    return weights, covariance
