"""Mean-variance weights with transaction costs, by cvxpy.

Built in chapter: Portfolio heads.
"""

import contextlib

import numpy as np
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_bool, check_float, in_order, labels_of
from crossattn.errors import InvalidInputError, import_optional
from crossattn.portfolio._inputs import check_covariance
from crossattn.portfolio.limits import Limits

SOLVER_ROUNDING = 1e-6
# a weight is off by about the root of the gap
SOLVER = {"solver": "CLARABEL", "tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12}


def mean_variance_weights(
    forecast: ArrayLike,
    covariance: ArrayLike,
    held: ArrayLike | None = None,
    *,
    risk_aversion: float = 5.0,
    transaction_cost: float = 0.0,
    max_position: float = 1.0,
    allow_short: bool = False,
    limits: Limits | None = None,
) -> np.ndarray:
    """Mean-variance weights: forecast against risk and transaction cost.

    Maximises ``forecast·w - risk_aversion / 2 · w'Cw - transaction_cost · sum|w - held|`` with
    positions up to ``max_position`` and a gross weight of at most 1.

    Parameters
    ----------
    forecast : array-like of shape (N,)
        Simple return expected over the holding time. A Series, here and as ``held``, is matched by
        symbol where ``covariance`` is a DataFrame.
    covariance : array-like of shape (N, N)
        Of the returns over that time.
    held : array-like of shape (N,), optional
        Weights held now; None: nothing.
    risk_aversion : float
        Positive; 1 is the growth-optimal (Kelly) portfolio of small returns.
    transaction_cost : float
        Fraction of the traded notional. It opens a band in which trading is not worth it.
    max_position : float
    allow_short : bool
    limits : Limits, optional
        In place of the last two: positions by asset, sectors, linear constraints; symbols are the
        columns of ``covariance``, then a DataFrame.

    Returns
    -------
    ndarray of shape (N,)
        The rest is cash.

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
    columns = labels_of(covariance)
    forecast = check_array("forecast", in_order("forecast", forecast, columns), (None,))
    if not (assets := len(forecast)):
        raise InvalidInputError("forecast must hold an asset or more, got none")
    names = list(range(assets) if columns is None else columns)
    covariance = check_covariance(covariance, assets)
    held = np.zeros(assets) if held is None else in_order("held", held, columns)
    held = check_array("held", held, (assets,))
    check_bool("allow_short", allow_short)
    if limits is not None and (allow_short or max_position != 1.0):
        raise InvalidInputError("limits hold allow_short and max_position: give them there")
    wrong = {
        "forecast and held must be finite": ~np.isfinite(forecast + held),
        "covariance must hold a variance above 0": np.diag(covariance) <= 0,
    }
    for rule, where in wrong.items():
        if where.any():
            asset = names[int(where.argmax())]
            raise InvalidInputError(f"{rule}; leave out {asset!r} or mend its returns")
    check_float("risk_aversion", risk_aversion, above=0)
    check_float("transaction_cost", transaction_cost, at_least=0)
    check_float("max_position", max_position, above=0)
    cvxpy = import_optional("cvxpy", "mean_variance_weights", "data")
    weights = cvxpy.Variable(assets)
    size = max(np.abs(forecast).max(initial=0.0), risk_aversion * np.diag(covariance).mean())
    scale = 1 / max(size, 1e-12)  # brings the objective near 1, also without any forecast
    gain = (
        forecast @ weights
        - risk_aversion / 2 * cvxpy.quad_form(weights, cvxpy.psd_wrap(covariance))
        - transaction_cost * cvxpy.norm1(weights - held)
    )
    if limits is None:
        limits = Limits(max_position=max_position, allow_short=allow_short)
    kept = limits.constraints(weights, names)
    with contextlib.suppress(cvxpy.SolverError):
        cvxpy.Problem(cvxpy.Maximize(scale * gain), kept).solve(**SOLVER)
    if weights.value is None:
        limits.check(names)
        raise InvalidInputError("forecast, covariance or costs are too extreme for the solver")
    found = np.asarray(weights.value, dtype=float)
    still = np.abs(found - held) < SOLVER_ROUNDING
    found = np.where(still, held, np.where(np.abs(found) < SOLVER_ROUNDING, 0.0, found))
    return np.clip(found, *limits.box(names))
