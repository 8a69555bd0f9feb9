"""Small tables of prices and weights, by row number, for tests of the account."""

import numpy as np
import pandas as pd

from crossattn import backtest_weights


def table(values, freq="D"):
    """Return prices of assets A, B, ..."""
    values = np.asarray(values, dtype=float)
    index = pd.date_range("2024-01-01", periods=len(values), freq=freq, tz="UTC")
    return pd.DataFrame(values, index=index, columns=list("ABCD")[: values.shape[1]])


def at(prices, rows, values):
    """Return a table with the columns of prices at some of their rows."""
    return pd.DataFrame(values, index=prices.index[rows], columns=prices.columns, dtype=float)


def run(prices, rows, weights, **options):
    """Return the account that takes these weights at some rows, by default without a fee."""
    options = {"transaction_cost": 0.0} | options
    return backtest_weights(at(prices, rows, weights), prices, **options)
