"""A Frame: the bars of one symbol, validated, and the moment at which each of them is known.

A bar is dated by its open, as venues date it, but is known only when it closes. Everything computed
from bars in this package is keyed by :func:`close_times`, never by the open.

Built in chapter: Data and clocks.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from crossattn._validation import check_type
from crossattn.errors import InvalidInputError

Frame = pd.DataFrame
Frames = dict[str, pd.DataFrame]


class ArrowTable(Protocol):
    """A table that is handed over as Arrow's C stream, such as a DataFrame of polars."""

    def __arrow_c_stream__(self, requested_schema: object = None, /) -> object: ...


# what is turned into frames
Table: TypeAlias = pd.DataFrame | ArrowTable
Tables: TypeAlias = Mapping[str, Table]

PRICE_COLUMNS = ("open", "high", "low", "close")
FRAME_COLUMNS = (*PRICE_COLUMNS, "volume")
OPTIONAL_COLUMNS = ("close_time", "turnover")

_ROUNDING = 1e-9
# The resolution that the installed pandas gives a parsed date: one resolution in every index.
TIME_UNIT = pd.DatetimeIndex(["2024-01-01"]).unit
_YEARS = pd.DatetimeIndex(["1678-01-01", "2262-01-01"]).asi8  # what nanoseconds can count


def check_frame(frame: Table, symbol: str = "frame") -> Frame:
    """Validate the bars of one symbol and return them in canonical form.

    Every entry point that takes bars calls this: afterwards the index is UTC and strictly
    increasing, the numbers are float64, the columns are in order. A high or low that misses open or
    close by a rounding error (1e-9 relative), as in adjusted prices, is set right.

    Parameters
    ----------
    frame : DataFrame
        Columns ``open high low close volume``, optionally ``close_time`` and ``turnover`` (others
        are left out); index, or the only other column of times: the bars' open times, with a time
        zone, strictly increasing. Prices are positive; a NaN is a missing value, never a zero. A
        frame of polars or Arrow is converted.
    symbol : str
        Name of the frame in messages.

    Returns
    -------
    DataFrame
        A new frame (``attrs`` kept): float64 columns, a UTC index called ``time``.

    Raises
    ------
    InvalidInputError
        A column is missing or not numeric; times are naive, unsorted, repeated or missing; prices
        are infinite, not positive, or outside of low to high; no close at all; a close that is
        known before its bar opens.

    Examples
    --------
    >>> opens = pd.date_range("2024-01-01", periods=2, freq="h", tz="Europe/Berlin")
    >>> bars = pd.DataFrame({"open": [1, 2], "high": [2, 3], "low": [1, 2], "close": [2, 3],
    ...                      "volume": [10, 0]}, index=opens)
    >>> check_frame(bars).index[0]
    Timestamp('2023-12-31 23:00:00+0000', tz='UTC')
    """
    frame = to_pandas(frame, symbol)
    if frame.columns.nlevels > 1:
        raise InvalidInputError(f"{symbol}: columns must be names, got a MultiIndex of a Panel")
    if not frame.columns.is_unique:
        raise InvalidInputError(f"{symbol}: columns must be unique, got {list(frame.columns)}")
    if missing := [name for name in FRAME_COLUMNS if name not in frame.columns]:
        lower = {str(name).strip().lower() for name in frame.columns}
        hint = "; rename them by frame.rename(columns=str.lower)" if lower >= {*missing} else ""
        raise InvalidInputError(
            f"{symbol}: columns {missing} are missing, got {list(frame.columns)}{hint}"
        )
    if len(frame) == 0:
        raise InvalidInputError(f"{symbol}: there are no bars")
    frame = index_by_time(frame)
    index = check_times(frame.index, symbol, "time")
    columns = {name: _float_column(frame[name], symbol) for name in FRAME_COLUMNS}
    columns["high"], columns["low"] = absorb_rounding(*(columns[n] for n in PRICE_COLUMNS))
    if "close_time" in frame.columns:
        columns["close_time"] = _check_close_time(frame["close_time"], index, symbol)
    if "turnover" in frame.columns:
        columns["turnover"] = _float_column(frame["turnover"], symbol)
    checked = pd.DataFrame(columns, index=index)
    check_values({name: checked[name] for name in FRAME_COLUMNS}, symbol)
    checked.attrs = dict(frame.attrs)
    return checked


def to_pandas(table: object, name: str) -> pd.DataFrame:
    """Return a table of polars, Arrow or another library as a pandas DataFrame.

    Parameters
    ----------
    table : DataFrame, or any object with ``to_pandas`` or Arrow's ``__arrow_c_stream__``
    name : str
        Of the table in messages.

    Returns
    -------
    DataFrame
        A pandas DataFrame is returned as it is.

    Examples
    --------
    >>> import pyarrow as pa
    >>> to_pandas(pa.table({"close": [1.0, 2.0]}), "A")["close"].tolist()
    [1.0, 2.0]
    """
    if isinstance(table, pd.DataFrame):
        return table
    try:
        if callable(getattr(table, "to_pandas", None)):
            table = table.to_pandas()
        elif hasattr(table, "__arrow_c_stream__"):
            import pyarrow as pa

            table = pa.table(table).to_pandas()
    except Exception as error:  # of any library
        raise InvalidInputError(
            f"{name}: {type(table).__name__} cannot be converted to a pandas DataFrame: {error}"
        ) from None
    if not isinstance(table, pd.DataFrame):
        hint = "; collect it first" if callable(getattr(table, "collect", None)) else ""
        raise InvalidInputError(
            f"{name}: bars must be a DataFrame, got {type(table).__name__}{hint}"
        )
    return table


def index_by_time(frame: Frame) -> Frame:
    """Return a frame by its only column of times where its index holds row numbers."""
    if isinstance(frame.index, pd.DatetimeIndex):
        return frame
    times = [
        name
        for name, kind in frame.dtypes.items()
        if is_datetime64_any_dtype(kind) and name not in OPTIONAL_COLUMNS
    ]
    return frame.set_index(times[0]) if len(times) == 1 else frame


def check_frames(frames: Tables) -> Frames:
    """Validate the bars of several symbols and return them in canonical form, in the given order.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        At least one symbol; each frame as :func:`check_frame` wants it.
    """
    check_type("frames", frames, Mapping, "a dict of DataFrames")
    if not frames:
        raise InvalidInputError("frames must hold at least one symbol, got none")
    for symbol in frames:
        if not isinstance(symbol, str) or not symbol.strip():
            raise InvalidInputError(f"symbols must be non-empty texts, got {symbol!r}")
    return {symbol: check_frame(frame, symbol) for symbol, frame in frames.items()}


def close_times(frame: Frame, symbol: str = "frame") -> pd.DatetimeIndex:
    """Return when each bar is known: its ``close_time``, else its open plus the modal spacing.

    The modal spacing is the most frequent distance between two opens (the smaller one of a tie), so
    that weekends and gaps do not move it.

    Parameters
    ----------
    frame : DataFrame
        A frame as :func:`check_frame` returns it.
    symbol : str
        Name of the frame in messages.

    Returns
    -------
    DatetimeIndex of shape (n_bars,)
        UTC, strictly increasing, called ``close_time``.

    Examples
    --------
    >>> opens = pd.to_datetime(["2024-01-01 09:00", "2024-01-01 10:00", "2024-01-02 09:00"])
    >>> close_times(pd.DataFrame(index=opens.tz_localize("UTC")))[-1]
    Timestamp('2024-01-02 10:00:00+0000', tz='UTC')
    """
    if "close_time" in frame.columns:
        return pd.DatetimeIndex(frame["close_time"], name="close_time")
    return (frame.index + modal_spacing(frame.index, symbol)).rename("close_time")


def modal_spacing(index: pd.DatetimeIndex, symbol: str = "frame") -> pd.Timedelta:
    """Return the most frequent distance between neighbours of ``index``; the smaller of a tie."""
    if len(index) < 2:
        raise InvalidInputError(f"{symbol}: a single bar has no spacing: give it a close_time")
    usual = pd.Series(np.diff(index.asi8)).mode()[0]
    return pd.Timedelta(int(usual), unit=index.unit)


def check_times(index: pd.Index, symbol: str, name: str) -> pd.DatetimeIndex:
    """Return ``index`` in UTC, called ``name``; refuse naive, missing, unsorted, repeated times."""
    if not isinstance(index, pd.DatetimeIndex):
        raise InvalidInputError(
            f"{symbol}: the index must hold {name} as UTC times, got {type(index).__name__}: "
            f"set_index({name!r}) or pandas.to_datetime(..., utc=True) makes one"
        )
    if index.tz is None:
        raise InvalidInputError(
            f"{symbol}: {name} must be UTC, got times without a time zone: tz_localize('UTC') "
            "where they are UTC"
        )
    if index.hasnans:
        raise InvalidInputError(f"{symbol}: {name} is missing in row {index.isna().argmax()}")
    index = index.tz_convert("UTC").as_unit(TIME_UNIT).rename(name)
    ticks = index.asi8
    if (outside := np.flatnonzero((ticks < _YEARS[0]) | (ticks >= _YEARS[1]))).size:
        row = int(outside[0])
        raise InvalidInputError(
            f"{symbol}: {name} must lie in the years 1678 to 2261, got {index[row]} in row {row}"
        )
    if (wrong := np.flatnonzero(ticks[1:] <= ticks[:-1])).size:
        row = int(wrong[0]) + 1
        fault = "repeats" if ticks[row] == ticks[row - 1] else "is earlier than"
        raise InvalidInputError(
            f"{symbol}: {name} must increase strictly, but {index[row]} in row {row} {fault} "
            f"{index[row - 1]}"
        )
    return index


def check_numbers(name: str, table: pd.Series | pd.DataFrame) -> np.ndarray:
    """Return the cells of a table as floats, NaN where missing; refuse texts and times by name."""
    kinds = table.dtypes if isinstance(table, pd.DataFrame) else [table.dtype]
    try:
        if any(kind.kind in "mMc" for kind in kinds):  # pandas turns times into their ticks
            raise TypeError("times or complex numbers")
        return table.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} must be numbers: {error}") from None


def absorb_rounding(open_, high, low, close) -> tuple[np.ndarray, np.ndarray]:
    """Return high and low, widened to open and close where these lie past them by rounding only.

    Prices that were multiplied by a factor, such as adjusted ones, may end a rounding error (1e-9
    relative) outside of their own high and low. Anything further away is left as it is.
    """
    top, bottom = np.fmax(open_, close), np.fmin(open_, close)
    near_top = (high < top) & (high >= top * (1 - _ROUNDING))
    near_bottom = (low > bottom) & (low * (1 - _ROUNDING) <= bottom)
    return np.where(near_top, top, high), np.where(near_bottom, bottom, low)


def check_values(fields: Mapping[str, pd.Series | pd.DataFrame], symbol: str) -> None:
    """Refuse values that no bar can have; ``fields`` maps each name to one symbol or to many."""
    values = {name: fields[name].to_numpy() for name in FRAME_COLUMNS}  # NaN compares as False

    def refuse(wrong: np.ndarray, name: str, rule: str) -> None:
        """Raise for the first True in ``wrong``, (n_bars,) or (n_bars, n_symbols), if any."""
        if not wrong.any():
            return
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        which = symbol if wrong.ndim == 1 else str(fields[name].columns[where[1]])
        raise InvalidInputError(
            f"{which}: {name} must be {rule}, got {values[name][where]} at "
            f"{fields[name].index[where[0]]} (row {where[0]}; {int(wrong.sum())} in all)"
        )

    for name in PRICE_COLUMNS:
        refuse(values[name] <= 0, name, "positive (NaN where there is none)")
    for name in FRAME_COLUMNS:
        refuse(np.isinf(values[name]), name, "finite")
    refuse(values["volume"] < 0, "volume", "zero or more")
    low, high = values["low"], values["high"]
    refuse(high < low, "high", "at least low")
    for name in ("open", "close"):
        refuse((values[name] > high) | (values[name] < low), name, "between low and high")
    if (empty := np.isnan(values["close"]).all(axis=0)).any():
        which = symbol if empty.ndim == 0 else f"{symbol}: {list(fields['close'].columns[empty])}"
        raise InvalidInputError(f"{which}: every close is missing (NaN)")


def _float_column(column: pd.Series, symbol: str) -> np.ndarray:
    if is_numeric_dtype(column.dtype) and not is_bool_dtype(column.dtype):
        if np.iscomplexobj(column):
            raise InvalidInputError(f"{symbol}: {column.name} must be real, got complex numbers")
        return column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    numbers = np.empty(len(column))
    for row, value in enumerate(column):
        missing = value is None or value is pd.NA
        try:
            if isinstance(value, (bool, np.bool_)) or not (missing or isinstance(value, Real)):
                raise TypeError("not a number")
            numbers[row] = np.nan if missing else value
        except (TypeError, OverflowError):
            raise InvalidInputError(
                f"{symbol}: {column.name} must be a number, got {_shown(value)} in row {row}"
            ) from None
    return numbers


def _check_close_time(column: pd.Series, index: pd.DatetimeIndex, symbol: str) -> pd.DatetimeIndex:
    if not isinstance(column.dtype, pd.DatetimeTZDtype):
        raise InvalidInputError(f"{symbol}: close_time must be UTC times, got {column.dtype}")
    known = check_times(pd.DatetimeIndex(column), symbol, "close_time")
    if (early := np.flatnonzero(known.asi8 <= index.asi8)).size:
        row = int(early[0])
        raise InvalidInputError(
            f"{symbol}: close_time must be later than the bar's open, got {known[row]} for the bar "
            f"of {index[row]} (row {row})"
        )
    return known


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        return f"a {type(value).__name__} of too many digits"
    return text if len(text) <= 60 else f"{text[:60]}..."
