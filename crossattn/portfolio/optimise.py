"""Weights from an optimiser that others keep well: skfolio, over cvxpy.

Imported only where an optimised portfolio is asked for.

Built in chapter: Portfolio heads.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossattn.errors import InvalidInputError, MissingDependencyError

SOLVER_ROUNDING = 1e-6
MISSING = 'optimised portfolios need skfolio: pip install "crossattn[data]"'


def minimum_variance_weights(returns: np.ndarray, max_position: float = 1.0) -> np.ndarray:
    """Long-only weights of least variance, from a Ledoit-Wolf covariance.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, complete.
    max_position : float
        Largest weight.

    Returns
    -------
    ndarray of shape (N,)
        Sum to 1.

    Raises
    ------
    InvalidInputError
        ``N * max_position`` is below 1.
    MissingDependencyError
        skfolio is not installed.
    """
    assets = returns.shape[1]
    if not max_position > 0 or max_position * assets < 1 - 1e-12:
        raise InvalidInputError(
            f"max_position must be at least 1 / {assets} for {assets} assets, got {max_position!r}"
        )
    if assets == 1:
        return np.ones(1)
    returns = returns / (returns.std() or 1.0)  # the solver's tolerance is absolute
    skfolio = _skfolio()
    shrunk = skfolio.moments.LedoitWolf()
    prior = skfolio.prior.EmpiricalPrior(covariance_estimator=shrunk)
    model = skfolio.optimization.MeanRisk(prior_estimator=prior, max_weights=float(max_position))
    return _fit(model, returns)


def hierarchical_weights(returns: np.ndarray) -> np.ndarray:
    """Hierarchical risk parity on a correlation tree with Ward's linkage.

    Parameters
    ----------
    returns : ndarray of shape (T, N)
        Simple returns, complete.

    Returns
    -------
    ndarray of shape (N,)
        Sum to 1.

    Raises
    ------
    MissingDependencyError
        skfolio is not installed.
    """
    if returns.shape[1] == 1:
        return np.ones(1)
    return _fit(_skfolio().optimization.HierarchicalRiskParity(), returns)


def mean_variance_weights(
    forecast: np.ndarray,
    covariance: np.ndarray,
    held: np.ndarray | None = None,
    *,
    risk_aversion: float = 5.0,
    transaction_cost: float = 0.0,
    max_position: float = 1.0,
    allow_short: bool = False,
) -> np.ndarray:
    """Weights that trade a forecast off against risk and against the cost of getting there.

    Maximises ``forecast·w - risk_aversion / 2 · w'Cw - transaction_cost · sum|w - held|`` with
    positions up to ``max_position`` and a gross weight of at most 1.

    Parameters
    ----------
    forecast : ndarray of shape (N,)
        Simple return expected over the holding time.
    covariance : ndarray of shape (N, N)
        Of the returns over that time.
    held : ndarray of shape (N,), optional
        Weights held now; None: nothing.
    risk_aversion : float
        Positive; 1 is the growth-optimal (Kelly) portfolio of small returns.
    transaction_cost : float
        Fraction of the traded notional. It opens a band in which trading is not worth it.
    max_position : float
    allow_short : bool

    Returns
    -------
    ndarray of shape (N,)
        The rest is cash.

    Raises
    ------
    InvalidInputError
        Shapes disagree, a value is not finite, or a parameter is out of range.
    MissingDependencyError
        cvxpy, which comes with skfolio, is not installed.

    Notes
    -----
    A quadratic programme, solved by cvxpy to about 1e-7 of the account; it has one solution where
    the covariance is positive definite.

    References
    ----------
    Markowitz (1952), "Portfolio selection". Gârleanu and Pedersen (2013), "Dynamic trading with
    predictable returns and transaction costs".

    Examples
    --------
    >>> forecast, covariance = np.array([0.001, -0.001]), np.eye(2) * 0.001
    >>> mean_variance_weights(forecast, covariance, risk_aversion=5.0).round(5)
    array([0.2, 0. ])
    """
    forecast, covariance = np.asarray(forecast, dtype=float), np.asarray(covariance, dtype=float)
    assets = len(forecast)
    held = np.zeros(assets) if held is None else np.asarray(held, dtype=float)
    if covariance.shape != (assets, assets) or held.shape != (assets,):
        raise InvalidInputError(
            f"covariance and held must fit {assets} assets, got {covariance.shape} and {held.shape}"
        )
    if not all(np.isfinite(part).all() for part in (forecast, covariance, held)):
        raise InvalidInputError("forecast, covariance and held must be finite")
    for name, value, least in (
        ("risk_aversion", risk_aversion, 1e-12),
        ("transaction_cost", transaction_cost, 0.0),
        ("max_position", max_position, 1e-12),
    ):
        if not least <= value < np.inf:
            raise InvalidInputError(f"{name} must be at least {least}, got {value!r}")
    if np.linalg.eigvalsh((covariance + covariance.T) / 2)[0] < -1e-12 * np.trace(covariance):
        raise InvalidInputError("covariance must be positive semi-definite")
    cvxpy = _cvxpy()
    weights = cvxpy.Variable(assets)
    scale = 1 / max(np.abs(forecast).max(initial=0.0), 1e-12)  # brings the objective near 1
    gain = (
        forecast @ weights
        - risk_aversion / 2 * cvxpy.quad_form(weights, cvxpy.psd_wrap(covariance))
        - transaction_cost * cvxpy.norm1(weights - held)
    )
    limits = [
        weights <= max_position,
        weights >= (-max_position if allow_short else 0.0),
        cvxpy.norm1(weights) <= 1,
    ]
    cvxpy.Problem(cvxpy.Maximize(scale * gain), limits).solve(solver="CLARABEL")
    found = np.asarray(weights.value, dtype=float)
    still = np.abs(found - held) < SOLVER_ROUNDING
    found = np.where(still, held, np.where(np.abs(found) < SOLVER_ROUNDING, 0.0, found))
    return np.clip(found, -max_position if allow_short else 0.0, max_position)


def _skfolio():
    try:
        import skfolio
        import skfolio.moments
        import skfolio.optimization
        import skfolio.prior
    except ImportError:
        raise MissingDependencyError(MISSING) from None
    return skfolio


def _cvxpy():
    try:
        import cvxpy
    except ImportError:
        raise MissingDependencyError(MISSING) from None
    return cvxpy


def _fit(model, returns: np.ndarray) -> np.ndarray:
    model.fit(pd.DataFrame(returns, columns=[f"asset {k}" for k in range(returns.shape[1])]))
    weights = np.asarray(model.weights_, dtype=float)
    weights[np.abs(weights) < SOLVER_ROUNDING] = 0.0
    return weights / weights.sum()
