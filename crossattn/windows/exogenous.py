"""Exogenous series beside a panel: the newest row that is known at each close."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from crossattn.data.frame import check_times, index_by_time, to_pandas
from crossattn.errors import CrossAttentionWarning, InvalidInputError
from crossattn.windows.dataset import CrossAttentionData, frozen


def with_exogenous(
    data: CrossAttentionData, table: pd.DataFrame, include_latest: bool
) -> CrossAttentionData:
    """Return the data with the newest row of ``table`` that is known at each close."""
    values, names = exogenous_at(data.clock, table, data.symbols)
    for name, column in zip(names, values.T, strict=True):
        known = column[np.isfinite(column)]
        if not known.size or (not include_latest and np.ptp(known) == 0):
            what = "is the same at every close" if known.size else "has no value at any close"
            warnings.warn(
                f"exogenous: {name} {what}: nothing can be learned from it",
                CrossAttentionWarning,
                stacklevel=3,
            )
    return replace(data, exogenous=frozen(values), exogenous_names=names)


def exogenous_at(
    clock: pd.DatetimeIndex, table: pd.DataFrame, symbols: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the newest row of an exogenous table known at each close, and its series' names."""
    table = index_by_time(to_pandas(table, "exogenous"))
    index = check_times(table.index, "exogenous", "time")
    names = tuple(map(str, table.columns))
    if len(set(names)) < len(names) or set(names) & set(symbols):
        raise InvalidInputError(
            f"exogenous must have columns named unlike the symbols, got {names}"
        )
    try:
        values = table.to_numpy(np.float64)
    except (TypeError, ValueError):
        raise InvalidInputError("exogenous must hold numbers") from None
    known = pd.DataFrame(values, index=index)
    known = known.replace([np.inf, -np.inf], np.nan).reindex(clock, method="ffill")
    return known.to_numpy(), names
