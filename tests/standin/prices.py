"""Small tables of prices and weights, by row number, for tests of the account."""

import numpy as np
import pandas as pd


def table(values, freq="D"):
    """Return prices of assets A, B, ..."""
    values = np.asarray(values, dtype=float)
    index = pd.date_range("2024-01-01", periods=len(values), freq=freq, tz="UTC")
    return pd.DataFrame(values, index=index, columns=list("ABCD")[: values.shape[1]])


def at(prices, rows, values):
    """Return a table with the columns of prices at some of their rows."""
    return pd.DataFrame(values, index=prices.index[rows], columns=prices.columns, dtype=float)
