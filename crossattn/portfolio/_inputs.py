"""Check prices, weights and other tables, and bring them to one shape.

Built in chapter: Backtesting.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from crossattn._validation import check_array, check_type
from crossattn.data.frame import check_numbers, check_times
from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData

ROUNDING = 1e-7  # of the largest entry: what float32 leaves of a zero eigenvalue, an asset


def check_table(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the numbers of a wide table, (T, N) in column order, or raise what is wrong."""
    check_type(name, table, pd.DataFrame, "a DataFrame")
    check_times(table.index, name, "time")
    if table.columns.nlevels > 1:
        raise InvalidInputError(f"{name} must have one column a symbol, got a MultiIndex")
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise InvalidInputError(f"{name} must have unique symbols, got {twice!r} twice")
    return np.asfortranarray(check_numbers(name, table))


def check_prices(prices: pd.DataFrame) -> np.ndarray:
    """Return closing prices (T, N), positive and finite or NaN, each asset with one, or raise."""
    table = check_table(prices, "prices")
    if not table.size:
        raise InvalidInputError(f"prices must have rows and columns, got shape {table.shape}")
    if table.min() > 0 and table.max() < np.inf:  # the common case; False where anything is NaN
        return table
    wrong = ~(np.isnan(table) | ((table > 0) & (table < np.inf)))
    _refuse_cells(wrong, "prices must be positive and finite", table, prices)
    if (empty := np.isnan(table).all(axis=0)).any():
        raise InvalidInputError(
            "prices must have a price for every asset, got only NaN for "
            f"{list(prices.columns[empty])}"
        )
    return table


def check_weights(
    weights: pd.DataFrame, prices: pd.DataFrame, name: str = "weights"
) -> tuple[np.ndarray, np.ndarray]:
    """Return finite targets (M, N) in the order of the prices' columns, and their rows there."""
    table = check_table(weights, name)
    _refuse_cells(np.isinf(table), f"{name} must be finite or NaN", table, weights)
    columns = prices.columns.get_indexer(weights.columns)
    if (columns < 0).any():
        unknown = list(weights.columns[columns < 0])
        raise InvalidInputError(f"{name} must be for symbols of prices, got also {unknown}")
    rows = prices.index.get_indexer(weights.index)
    if (rows < 0).any():
        first = weights.index[rows < 0][0]
        raise InvalidInputError(
            f"{name} must be at times of prices, got {(rows < 0).sum()} others, first {first}"
        )
    targets = np.full((len(weights), prices.shape[1]), np.nan)
    targets[:, columns] = table
    return targets, rows


def check_covariance(covariance: ArrayLike, n_assets: int) -> np.ndarray:
    """Return a covariance matrix (N, N), or raise naming the asset that lacks one."""
    matrix = check_array("covariance", covariance, (n_assets, n_assets))
    names = getattr(covariance, "columns", range(n_assets))
    unknown = ~np.isfinite(np.diag(matrix))
    if not unknown.any():
        unknown = ~np.isfinite(matrix).all(axis=0)
    if unknown.any():
        asset = names[int(unknown.argmax())]
        raise InvalidInputError(f"covariance must be finite, got NaN or inf for {asset!r}")
    largest = np.abs(matrix).max(initial=0.0)
    if not np.allclose(matrix, matrix.T, atol=1e-12 * largest):
        raise InvalidInputError("covariance must be symmetric")
    if n_assets and np.linalg.eigvalsh(matrix)[0] < -ROUNDING * n_assets * largest:
        raise InvalidInputError("covariance must be positive semi-definite")
    return matrix


def reindex_like_prices(table: pd.DataFrame, prices: pd.DataFrame, name: str) -> np.ndarray:
    """Return a table's finite numbers at every cell of the prices (T, N), NaN where it has none."""
    values, rows = check_weights(table, prices, name)
    full = np.full(prices.shape, np.nan)
    full[rows] = values
    return full


def last_known(table: np.ndarray) -> np.ndarray:
    """Carry each asset's last price forward, (T, N); 0 before its first."""
    missing = np.isnan(table)
    if not missing.any():
        return table
    return np.array(pd.DataFrame(table).ffill().fillna(0.0), order="F")


def prices_of_returns(
    returns: np.ndarray, timestamps: pd.DatetimeIndex, symbols: pd.Index
) -> pd.DataFrame:
    """Price index (n + 1, N) of next-bar returns (n, N), NaN where no known return touches it."""
    known = ~np.isnan(returns)
    table = np.ones((len(returns) + 1, returns.shape[1]))
    np.cumprod(np.where(known, 1 + returns, 1.0), axis=0, out=table[1:])
    ends = np.pad(known, ((1, 1), (0, 0)))  # a row ends one return and begins the next
    table[~(ends[:-1] | ends[1:])] = np.nan
    spacing = timestamps[-1] - timestamps[-2] if len(timestamps) > 1 else pd.Timedelta(hours=1)
    closes = timestamps.append(pd.DatetimeIndex([timestamps[-1] + spacing]))
    prices = pd.DataFrame(table, closes, symbols)
    return prices if known[-1].any() else prices.iloc[:-1]  # the last bar has not closed


def prices_of_data(data: CrossAttentionData) -> pd.DataFrame:
    """Closes at the windows' rows and at the one that follows, over each asset's first."""
    rows = slice(data.ends[0], data.ends[-1] + 2)  # the newest window has no row that follows
    closes = pd.DataFrame(data.closes[rows], data.clock[rows], list(data.symbols))
    return closes / closes.bfill().iloc[0]


def _refuse_cells(wrong: np.ndarray, rule: str, values: np.ndarray, table: pd.DataFrame) -> None:
    """Refuse a table by its first wrong cell."""
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InvalidInputError(
            f"{rule}, got {values[row, column]} for {table.columns[column]!r} at {table.index[row]}"
        )
