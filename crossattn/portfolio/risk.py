"""Risk of a portfolio: contributions by asset, diversification, effective number of bets.

Built in chapter: From paper to practice.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_float, check_type, in_order, labels_of
from crossattn.errors import InvalidInputError
from crossattn.portfolio._inputs import check_covariance


def diversification_ratio(weights: ArrayLike, covariance: ArrayLike) -> float:
    """Diversification ratio: weighted volatility of the assets over that of the portfolio.

    Parameters
    ----------
    weights : array-like of shape (N,)
        Fractions of the account; a Series is put in the order of the covariance's columns.
    covariance : ndarray of shape (N, N)
        Of the assets' returns.

    Returns
    -------
    float
        1 where nothing is diversified away or nothing held; √N for N equal, uncorrelated positions.
        A hedged book can go far above √N.

    References
    ----------
    Choueifaty and Coignard (2008), "Toward maximum diversification".

    Examples
    --------
    >>> diversification_ratio(np.full(4, 0.25), np.eye(4) * 0.04)
    2.0
    """
    weights, covariance = _checked(weights, covariance)
    alone = np.abs(weights) @ np.sqrt(np.diag(covariance))
    together = np.sqrt(max(weights @ covariance @ weights, 0.0))
    return float(alone / together) if together > 0 else 1.0


def effective_number_of_bets(weights: ArrayLike, covariance: ArrayLike) -> float:
    """Effective number of bets: uncorrelated ones that the portfolio's variance amounts to.

    Parameters
    ----------
    weights : array-like of shape (N,)
        A Series is put in the order of the covariance's columns.
    covariance : ndarray of shape (N, N)

    Returns
    -------
    float
        exp of the entropy of the variance shares of the principal portfolios: 1 where one factor
        moves everything, N at most, 0 for an empty portfolio.

    Notes
    -----
    With eigenvalues l_k and eigenvectors e_k the shares are l_k (e_k·w)² / (w' C w); they are not
    unique where eigenvalues are equal.

    References
    ----------
    Meucci (2009), "Managing diversification".

    Examples
    --------
    >>> covariance = np.full((5, 5), 0.04)  # five names, one bet
    >>> round(effective_number_of_bets(np.full(5, 0.2), covariance), 6)
    1.0
    """
    weights, covariance = _checked(weights, covariance)
    values, vectors = np.linalg.eigh(covariance)
    shares = np.maximum(values, 0) * (vectors.T @ weights) ** 2
    if shares.sum() <= 0:
        return 0.0
    shares = shares / shares.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def risk_by_asset(
    weights: ArrayLike, returns: pd.DataFrame, *, level: float = 0.95
) -> pd.DataFrame:
    """Risk contributions by asset: shares of volatility and of expected shortfall.

    Parameters
    ----------
    weights : array-like of shape (N,)
        Fractions of the account, in the order of the columns; a Series is put in it.
    returns : DataFrame of shape (T, N)
        Simple returns of the assets; rows with a NaN are left out.
    level : float
        Of value at risk and expected shortfall.

    Returns
    -------
    DataFrame, a row an asset
        ``weight``; ``volatility``, ``value_at_risk`` and ``expected_shortfall`` (the loss that the
        worst ``1 - level`` of the bars exceed, and their mean) of the position alone, a bar, in
        fractions of the account; ``volatility_share`` and ``shortfall_share``: what it adds to
        the portfolio's. The shares add up to the portfolio's (Euler): a hedge has a negative one.

    References
    ----------
    Tasche (1999), "Risk contributions and performance measurement". Acerbi and Tasche (2002), "On
    the coherence of expected shortfall".

    Examples
    --------
    >>> moves = pd.DataFrame({"A": [0.01, -0.02, 0.03], "B": [-0.01, 0.02, -0.03]})
    >>> risk_by_asset(np.array([0.5, 0.5]), moves)["volatility_share"].abs().max() < 1e-15
    True
    """
    check_type("returns", returns, pd.DataFrame, "a DataFrame")
    weights = in_order("weights", weights, labels_of(returns))
    weights = check_array("weights", weights, (returns.shape[1],))
    moves = check_array("returns", returns.dropna(), (None, None))
    if len(moves) < 2:
        empty = list(returns.columns[returns.isna().all()])
        raise InvalidInputError(
            f"returns must have two complete rows, got {len(moves)}"
            + (f"; there is none for {', '.join(map(str, empty))}" if empty else "")
        )
    if not np.isfinite(moves @ weights).all():
        raise InvalidInputError("weights and returns must be finite")
    check_float("level", level, above=0, below=1)
    tail = max(1, int(np.ceil(len(moves) * (1 - level) - 1e-9)))  # rounding adds no bar
    alone = moves * weights  # (T, N)
    together = alone.sum(axis=1)
    losses = -np.sort(alone, axis=0)[:tail]
    worst = np.argsort(together, kind="stable")[:tail]
    deviation = together.std(ddof=1)
    joint = np.cov(np.column_stack([alone, together]), rowvar=False)[:-1, -1]
    return pd.DataFrame(
        {
            "weight": weights,
            "volatility": alone.std(axis=0, ddof=1),
            "value_at_risk": losses[-1],
            "expected_shortfall": losses.mean(axis=0),
            "volatility_share": joint / deviation if deviation > 0 else np.zeros(len(weights)),
            "shortfall_share": -alone[worst].mean(axis=0),
        },
        index=returns.columns,
    )


def _checked(weights: ArrayLike, covariance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    weights = check_array("weights", in_order("weights", weights, labels_of(covariance)), (None,))
    if not np.isfinite(weights).all():
        raise InvalidInputError("weights must be one finite number per asset")
    return weights, check_covariance(covariance, len(weights))
