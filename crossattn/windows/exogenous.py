"""Exogenous series beside a panel: the newest row that is known at each close."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from crossattn.data.frame import Table, check_numbers, check_times, index_by_time, to_pandas
from crossattn.errors import InvalidInputError, warn
from crossattn.windows.dataset import CrossAttentionData, frozen

LARGEST = 1e100  # whose square is still a number


def with_exogenous(
    data: CrossAttentionData, table: Table, include_latest: bool
) -> CrossAttentionData:
    """Return the data with the newest row of ``table`` that is known at each close."""
    series = check_exogenous(table, data.symbols).reindex(data.clock, method="ffill")
    values, names = series.to_numpy(), tuple(series)
    for name, column in zip(names, values.T, strict=True):
        known = column[np.isfinite(column)]
        if not known.size or (not include_latest and np.ptp(known) == 0):
            what = "is the same at every close" if known.size else "has no value at any close"
            warn(f"exogenous: {name} {what}: nothing can be learned from it", 3)
    return replace(data, exogenous=frozen(values), exogenous_names=names)


def check_exogenous(table: Table, symbols: Sequence[str]) -> pd.DataFrame:
    """Return exogenous series as floats by the time (UTC) at which each row is known."""
    table = index_by_time(to_pandas(table, "exogenous"))
    index = check_times(table.index, "exogenous", "time")
    names = tuple(map(str, table.columns))
    if not names or len(set(names)) < len(names) or set(names) & set(symbols):
        raise InvalidInputError(f"exogenous must have columns unlike the symbols, got {names}")
    values = check_numbers("exogenous", table)
    values = np.where(np.isinf(values), np.nan, values)
    for name, column in zip(names, np.abs(values).T, strict=True):
        if (column > LARGEST).any():
            raise InvalidInputError(f"exogenous: {name} must be within ±{LARGEST:g}: rescale it")
    return pd.DataFrame(values, index, list(names))


def warn_unread(name: str, reader: str, data: CrossAttentionData, stacklevel: int) -> None:
    """Warn of exogenous series in data for a model that reads none."""
    if data.exogenous_names:
        names = ", ".join(data.exogenous_names)
        warn(f"{name}: {reader} reads no exogenous series: {names} left out", stacklevel + 1)
