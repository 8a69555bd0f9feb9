"""Checks of a variance forecast, the QLIKE loss and a connectedness table."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from crossattn.checks._stages import as_array, require, require_close, require_shape, staged


@staged
def check_variance_forecast(fn: Callable) -> Iterator[str]:
    """Check ``fn(returns, half_life) -> variance``, an exponentially weighted mean of squares.

    Parameters
    ----------
    fn : callable
        Takes ``returns (T, N)`` and a half-life in bars. Row t of the answer ``(T, N)`` is the
        forecast for bar t + 1: the weighted mean of squared returns up to and including row t; a
        square loses half of its weight in ``half_life`` bars, and the weights sum to 1 in each row.

    Raises
    ------
    CheckFailedError
        A forecast that reads the future or lags a bar, weights that do not sum to 1, another decay,
        a mean that is subtracted, a volatility instead of a variance.

    Built in chapter: Forecasting risk

    Examples
    --------
    >>> check_variance_forecast(
    ...     lambda r, half_life: (pd.DataFrame(r) ** 2).ewm(halflife=half_life).mean()
    ... )
    check_variance_forecast: 2 stages passed
    """
    returns = np.random.default_rng(91).normal(0.004, 0.01, (40, 3))
    frame = pd.DataFrame(returns)

    yield "one variance a row and asset"
    variance = as_array(fn(returns.copy(), 4.0), "variance")
    require_shape(variance, (40, 3), "variance", "(bars, assets)")

    yield "what each row knows"
    scale = 1e4  # so that a tolerance of 1e-6 means something
    squares = scale * frame**2
    truth = squares.ewm(halflife=4).mean()
    slips = {
        "row t reads the square of row t + 1, which is what it should forecast": truth.shift(-1),
        "row t may read row t's own return: it is known when the forecast is made": truth.shift(1),
        "these are volatilities: leave the root out": np.sqrt(scale * truth),
        "the weights of the first rows must sum to 1: divide by the sum of those there are": (
            squares.ewm(halflife=4, adjust=False).mean()
        ),
        "with 1 / half_life as the weight of the newest square, half of its weight is not gone "
        "after half_life bars: keep 0.5 ** (1 / half_life)": squares.ewm(alpha=1 / 4).mean(),
        "do not subtract the mean return: it is noise, and a variance of next to nothing where "
        "returns repeat": truth - scale * frame.ewm(halflife=4).mean() ** 2,
        "every row reads the whole sample, its future too": 0 * truth + squares.mean(),
    }
    require_close(scale * variance, truth, "variance (times 10,000)", slips)


@staged
def check_qlike(fn: Callable) -> Iterator[str]:
    """Check ``fn(variance, square) -> loss``, the QLIKE of forecast variances.

    Raises
    ------
    CheckFailedError
        A ratio upside down, volatilities for variances, a minimum that is not 0.

    Built in chapter: Forecasting risk

    Examples
    --------
    >>> check_qlike(lambda v, s: s / v - np.log(s / v) - 1)
    check_qlike: 2 stages passed
    """
    variance, square = np.array([1.0, 0.5, 2.0, 4.0]), np.array([1.0, 1.0, 1.0, 0.6])

    def loss(x):
        return x - np.log(x) - 1

    yield "an exact forecast"
    exact = as_array(fn(square.copy(), square.copy()), "loss")
    message = f"an exact forecast costs 0, yours costs {exact.ravel()[:1].sum():.3g}"
    require(np.allclose(exact, 0), message)

    yield "too low and too high"
    ratio = square / variance
    slips = {
        "the ratio is square over forecast; yours is upside down, and forgives forecasts that are "
        "too low": loss(1 / ratio),
        "these are variances already: no root": loss(np.sqrt(ratio)),
        "these are variances already: no square": loss(ratio**2),
        "this is the squared error, which one wild day decides": (square - variance) ** 2,
    }
    require_close(fn(variance, square), loss(ratio), "loss", slips)


@staged
def check_shares(fn: Callable) -> Iterator[str]:
    """Check ``fn(A, S, steps) -> shares``, a generalised variance decomposition.

    Parameters
    ----------
    fn : callable
        Takes the matrix ``A (N, N)`` of ``x_t = A x_{t-1} + e_t``, the covariance ``S (N, N)`` of
        the shocks, and the number of steps ahead. Returns ``(N, N)``: in row i and column j the
        share of i's forecast error variance that goes with shocks to j; rows sum to 1.

    Raises
    ------
    CheckFailedError
        A step too few or too many, rows and columns exchanged, shocks that are taken as
        uncorrelated or in an order, rows that do not sum to 1.

    Built in chapter: Spillovers and crises
    """
    identity = np.eye(3)
    link = np.array([[0.5, 0.0, 0.1], [0.4, 0.3, 0.0], [0.0, 0.3, 0.6]])
    wide = np.array([[1.0, 0.5, 0.1], [0.5, 2.0, -0.3], [0.1, -0.3, 0.7]])

    def squares(shock, *, first=0, steps=3):
        return sum((np.linalg.matrix_power(link, h) @ shock) ** 2 for h in range(first, steps))

    def rows(total):
        return total / total.sum(axis=1, keepdims=True)

    yield "uncorrelated shocks"
    undivided = squares(identity)
    sizes = sum(np.abs(np.linalg.matrix_power(link, h)) for h in range(3))
    plain = rows(undivided)
    slips = {
        "the errors of one to steps - 1 steps are missing, or one is too many: h runs from 0 to "
        "steps - 1": rows(squares(identity, steps=4)),
        "a shock counts at once too: h starts at 0": rows(squares(identity, first=1)),
        "rows receive and columns send: yours is turned": plain.T,
        "divide each row by its sum: shares sum to 1": undivided,
        "rows sum to 1, not columns": undivided / undivided.sum(axis=0),
        "variances add up, so weights are squared": rows(sizes),
    }
    require_close(fn(link.copy(), identity.copy(), 3), plain, "shares", slips)

    yield "correlated shocks"
    undivided = squares(wide)
    truth = rows(undivided / np.diag(wide))
    ordered = rows(squares(np.linalg.cholesky(wide)))
    slips = {
        "the shocks are taken as uncorrelated: S plays no part": plain,
        "divide column j by the variance of shock j, S[j, j]": rows(undivided),
        "this is Cholesky's: the answer depends on the order of the assets": ordered,
    }
    require_close(fn(link.copy(), wide.copy(), 3), truth, "shares", slips)
    turn = [2, 0, 1]
    turned = fn(link[turn][:, turn], wide[turn][:, turn], 3)
    require_close(turned, truth[turn][:, turn], "shares of the assets in another order")
