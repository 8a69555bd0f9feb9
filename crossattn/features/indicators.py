"""RSI, MACD and relative volume of one asset (Series) or many (wide DataFrame)."""

from typing import TypeVar

import numpy as np
import pandas as pd

from crossattn._validation import check_float, check_int, check_type
from crossattn.data.frame import check_numbers
from crossattn.errors import InvalidInputError

VOLUME_HALF_LIFE = 20

Prices = TypeVar("Prices", pd.Series, pd.DataFrame)


def compute_rsi(prices: Prices, period: int = 14) -> Prices:
    """Relative strength index with Wilder's smoothing, in [0, 100].

    Parameters
    ----------
    prices : Series or wide DataFrame
        Closes, oldest first, one column an asset. NaN where there is no bar.
    period : int
        Number of changes in Wilder's average.

    Returns
    -------
    Series or DataFrame like `prices`
        Row t uses prices up to t only. NaN for the first `period` bars and where the price is NaN.

    Raises
    ------
    InvalidInputError
        `prices` is not a Series or DataFrame, holds text, an infinity, zero or a negative number;
        or `period` is not a positive integer.

    Notes
    -----
    With gains :math:`u_t = \\max(p_t - p_{t-1}, 0)` and losses :math:`d_t` alike, both averages
    start as the mean of the first `period` changes and go on as :math:`\\bar u_t = ((n - 1)\\,\\bar
    u_{t-1} + u_t) / n`; the index is :math:`100\\,\\bar u_t / (\\bar u_t + \\bar d_t)`, and 50 on a
    price that never moved (TA-Lib: 0). A missing bar is left out: the averages hold, and the next
    change counts from the last price.

    Built in chapter: Features without look-ahead.

    References
    ----------
    Wilder, J. W. (1978), *New Concepts in Technical Trading Systems*, Trend Research.

    Examples
    --------
    >>> compute_rsi(pd.Series([10.0, 11.0, 10.5, 10.5, 12.5]), period=2).round(1).tolist()
    [nan, nan, 66.7, 66.7, 94.7]
    """
    values, restore = _as_columns("prices", prices)
    period = check_int("period", period)
    with np.errstate(over="ignore", invalid="ignore"):
        # from the newest price before the row; a NaN stays NaN through maximum
        change = values - pd.DataFrame(values).ffill().shift(1).to_numpy()
        average_gain = _seeded_average(np.maximum(change, 0.0), 1 / period, period)
        average_loss = _seeded_average(np.maximum(-change, 0.0), 1 / period, period)
        total = average_gain + average_loss
        rsi = np.divide(100 * average_gain, total, out=np.full_like(total, 50.0), where=total != 0)
    rsi[np.isnan(values)] = np.nan
    return restore(rsi)


def compute_macd(
    prices: Prices, fast: int = 12, slow: int = 26, signal: int = 9
) -> tuple[Prices, Prices, Prices]:
    """Moving-average convergence/divergence: the MACD line, its signal line, their difference.

    Parameters
    ----------
    prices : Series or wide DataFrame
        Closes, oldest first, one column an asset. NaN where there is no bar.
    fast, slow : int
        Periods of the two averages of the price; `fast` is below `slow`.
    signal : int
        Period of the average of the MACD line.

    Returns
    -------
    macd, signal, histogram : Series or DataFrame like `prices`
        In the price's own unit. Row t uses prices up to t only. NaN for the first
        ``slow + signal - 2`` bars and where the price is NaN.

    Raises
    ------
    InvalidInputError
        `prices` is not a Series or DataFrame, holds text, an infinity, zero or a negative number;
        a period is not a positive integer; `fast` is not below `slow`.

    Notes
    -----
    An average of period n moves by :math:`2/(n+1)` of each surprise. Both price averages start at
    bar ``slow - 1`` as plain means, the signal as the mean of the first `signal` values of the line
    (TA-Lib's convention). A missing bar is skipped and the averages hold.

    Built in chapter: Features without look-ahead.

    References
    ----------
    Gerald Appel (2005), *Technical Analysis: Power Tools for Active Investors*, FT Press.

    Examples
    --------
    >>> macd, signal, histogram = compute_macd(pd.Series(range(1, 41), dtype=float))
    >>> print(f"{macd.iloc[-1]:.3f} {signal.iloc[-1]:.3f} {abs(histogram.iloc[-1]):.3f}")
    7.000 7.000 0.000
    """
    values, restore = _as_columns("prices", prices)
    fast, slow = check_int("fast", fast), check_int("slow", slow)
    signal = check_int("signal", signal)
    if fast >= slow:
        raise InvalidInputError(f"fast must be below slow, got fast={fast} and slow={slow}")
    with np.errstate(over="ignore", invalid="ignore"):
        line = _seeded_average(values, 2 / (fast + 1), fast, start=slow)
        line = line - _seeded_average(values, 2 / (slow + 1), slow)
        line[np.isnan(values)] = np.nan
        average = _seeded_average(line, 2 / (signal + 1), signal)
        hidden = np.isnan(average) | np.isnan(line)
        line, average = np.where(hidden, np.nan, line), np.where(hidden, np.nan, average)
        histogram = line - average
    return restore(line), restore(average), restore(histogram)


def relative_volume(volume: Prices, half_life: float = VOLUME_HALF_LIFE) -> Prices:
    """Log volume minus its own recent exponentially weighted mean.

    Parameters
    ----------
    volume : Series or DataFrame of shape (n_rows, n_symbols)
        Traded volume a bar, in any unit; rows in time order.
    half_life : float
        Of the exponentially weighted mean, in bars of the symbol.

    Returns
    -------
    like ``volume``
        ``log v[t]`` minus the exponentially weighted mean of ``log v`` up to ``t - 1``; known at
        the close of bar t. NaN where the bar, its volume or its past is missing.

    Raises
    ------
    InvalidInputError
        A volume is negative or infinite, or half_life not above 0.

    Notes
    -----
    A zero volume is NaN; the mean skips it and missing bars, so a night does not age the mean.

    Built in chapter: Features without look-ahead.

    Examples
    --------
    >>> relative_volume(pd.Series([1.0, 1.0, 0.0, np.e])).tolist()
    [nan, 0.0, nan, 1.0]
    """
    half_life = check_float("half_life", half_life, above=0)
    values, restore = _as_columns("volume", volume, zero=True)
    logs = pd.DataFrame(np.log(np.where(values > 0, values, np.nan)))
    mean = logs.ewm(halflife=half_life, ignore_na=True).mean()
    return restore((logs - mean.shift(1)).to_numpy())


def _seeded_average(
    values: np.ndarray, alpha: float, seed_length: int, start: int | None = None
) -> np.ndarray:
    """Exponential average that starts as a plain mean of the last `seed_length` valid values.

    It starts at each column's `start`-th valid value (by default the `seed_length`-th); NaN before.
    NaN values are skipped and the average holds.
    """
    start = seed_length if start is None else start
    seeded = values.copy()
    for column in range(values.shape[1]):
        first = np.flatnonzero(~np.isnan(values[:, column]))[:start]
        if len(first) < start:
            seeded[:, column] = np.nan
            continue
        seeded[: first[-1], column] = np.nan
        seeded[first[-1], column] = values[first[-seed_length:], column].mean()
    return pd.DataFrame(seeded).ewm(alpha=alpha, adjust=False, ignore_na=True).mean().to_numpy()


def _as_columns(name: str, table: pd.Series | pd.DataFrame, *, zero: bool = False):
    """The values as a (T, N) float64 array, and a function that gives an array their old shape."""
    check_type(name, table, pd.Series | pd.DataFrame, "a pandas Series or DataFrame")
    values = np.ascontiguousarray(check_numbers(name, table))
    if (wrong := np.isinf(values) | ((values < 0) if zero else (values <= 0))).any():
        rule = "finite and at least 0" if zero else "positive and finite"
        raise InvalidInputError(f"{name} must be {rule}, got {values[wrong][0]}")
    if isinstance(table, pd.Series):
        return values[:, None], lambda array: pd.Series(
            array[:, 0], index=table.index, name=table.name
        )
    return values, lambda array: pd.DataFrame(array, index=table.index, columns=table.columns)
