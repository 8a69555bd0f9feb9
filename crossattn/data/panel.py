"""A Panel: the bars of many symbols on one clock, keyed by the moment at which they are known.

Rows are keyed by close time, so a row holds what could be known at its moment and nothing later.
Where a symbol has no bar that closed then, its cells are NaN. Nothing is carried forward: a stale
price that looks new makes a lead where there is none.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd

from crossattn._validation import check_choice, check_type
from crossattn.data.frame import (
    FRAME_COLUMNS,
    PRICE_COLUMNS,
    TIME_UNIT,
    Tables,
    absorb_rounding,
    check_frames,
    check_numbers,
    check_times,
    check_values,
    close_times,
)
from crossattn.errors import InvalidInputError

Panel = pd.DataFrame

PANEL_LEVELS = ["field", "symbol"]
ALIGNMENTS = ("outer", "inner", "common")  # the last two are the same


def align_panel(frames: Tables, *, how: str = "outer") -> Panel:
    """Align the bars of many symbols on one clock, each in the row of the moment it is known.

    Parameters
    ----------
    frames : dict of str to DataFrame
        Bars by symbol; see :func:`crossattn.data.frame.check_frame`.
    how : {"outer", "inner", "common"}
        "outer": a row for every moment at which any bar closed. "inner", or "common": only those at
        which every symbol has a close.

    Returns
    -------
    DataFrame of shape (n_rows, n_fields * n_symbols)
        Index ``close_time`` (UTC, strictly increasing: all of the row is known then); columns a
        MultiIndex (``field``, ``symbol``), symbols in the order of ``frames``. Cells without a bar
        are NaN. ``attrs["close_only"]`` lists symbols whose source had closes only.

    Raises
    ------
    InvalidInputError
        A frame is wrong, ``how`` is unknown, or no moment is shared by all ("inner").

    Notes
    -----
    Nothing is filled. A daily close at 21:00 and an hourly bar that closes at 21:00 meet in one
    row; a bar that opened earlier and closes later waits for its own row.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> from crossattn.simulate.market import simulate_market
    >>> frames = simulate_market(n_assets=2, n_steps=5).frames
    >>> first, second = frames
    >>> frames[second] = frames[second].iloc[1:]
    >>> panel = align_panel(frames)
    >>> panel["close"].isna().sum().tolist()
    [0, 1]
    >>> len(align_panel(frames, how="inner"))
    4
    """
    check_choice("how", how, ALIGNMENTS)
    checked = check_frames(frames)
    fields = [*FRAME_COLUMNS]
    if any("turnover" in frame.columns for frame in checked.values()):
        fields.append("turnover")
    clocks = {symbol: close_times(frame, symbol) for symbol, frame in checked.items()}
    ticks = np.unique(np.concatenate([clock.asi8 for clock in clocks.values()]))
    rows = pd.DatetimeIndex(ticks.view(f"M8[{TIME_UNIT}]"), name="close_time").tz_localize("UTC")
    cells = np.full((len(fields), len(checked), len(rows)), np.nan)  # (field, symbol, row)
    for s, (symbol, frame) in enumerate(checked.items()):
        at = rows.get_indexer(clocks[symbol])
        for f, field in enumerate(fields):
            if field in frame.columns:
                cells[f, s, at] = frame[field].to_numpy()
    columns = pd.MultiIndex.from_product([fields, list(checked)], names=PANEL_LEVELS)
    panel = pd.DataFrame(cells.reshape(len(columns), len(rows)).T, index=rows, columns=columns)
    if how != "outer":
        panel = _shared_rows(panel)
    if closes := [symbol for symbol, frame in checked.items() if frame.attrs.get("close_only")]:
        panel.attrs["close_only"] = closes
    return panel


def as_panel(data: Tables | Panel, *, how: str = "outer") -> Panel:
    """Return ``data`` as a Panel: frames are aligned, a Panel is checked.

    Parameters
    ----------
    data : dict of str to DataFrame, or Panel
        Bars, as a public function takes them.
    how : {"outer", "inner", "common"}
        As in :func:`crossattn.align_panel`; of a Panel, which of its rows are kept.

    Returns
    -------
    DataFrame
        A Panel as :func:`crossattn.align_panel` makes it.
    """
    if isinstance(data, Mapping):
        return align_panel(data, how=how)
    check_type("data", data, pd.DataFrame, "a dict of frames or a Panel")
    check_choice("how", how, ALIGNMENTS)
    panel = check_panel(data)
    return panel if how == "outer" else _shared_rows(panel)


def check_panel(panel: Panel) -> Panel:
    """Validate a Panel: its clock, columns and values; return it as float64 in UTC."""
    if not isinstance(panel.columns, pd.MultiIndex) or panel.columns.nlevels != 2:
        raise InvalidInputError(
            "data: a Panel has columns (field, symbol); pass one frame as {symbol: frame}"
        )
    if len(panel) == 0:
        raise InvalidInputError("data: the panel has no rows")
    if isinstance(panel.index, pd.DatetimeIndex) and panel.index.name != "close_time":
        raise InvalidInputError(
            "data: a Panel's index is called close_time, the moment at which a row is known, got "
            f"{panel.index.name!r}; a table of bar opens, as yfinance downloads it, becomes frames "
            "by {s: data.xs(s, axis=1, level=1) for s in data.columns.unique(1)}"
        )
    if not panel.columns.is_unique:
        repeated = panel.columns[panel.columns.duplicated()][0]
        raise InvalidInputError(f"data: the panel's columns repeat {repeated}")
    rows = check_times(panel.index, "data", "close_time")
    symbols = symbols_of(panel)
    if missing := [cell for cell in product(FRAME_COLUMNS, symbols) if cell not in panel.columns]:
        raise InvalidInputError(f"data: the panel lacks {missing[0]} ({len(missing)} columns)")
    cells = np.array(check_numbers("data: the panel's cells", panel))
    names = {field: [(field, symbol) for symbol in symbols] for field in PRICE_COLUMNS}
    at = {field: panel.columns.get_indexer(names[field]) for field in names}
    widened = absorb_rounding(*(cells[:, at[field]] for field in PRICE_COLUMNS))
    cells[:, at["high"]], cells[:, at["low"]] = widened
    checked = pd.DataFrame(cells, rows, panel.columns.set_names(PANEL_LEVELS), copy=False)
    check_values({field: checked[field][symbols] for field in FRAME_COLUMNS}, "data")
    checked.attrs = dict(panel.attrs)
    return checked


def symbols_of(panel: Panel) -> list[str]:
    """Return the symbols of a Panel, or of Features, in their order."""
    return panel.columns.get_level_values(1).unique().tolist()


def _shared_rows(panel: Panel) -> Panel:
    """Keep the rows in which every symbol has a close."""
    shared = panel[panel["close"].notna().all(axis=1)]
    if shared.empty:
        raise InvalidInputError(
            f"data share no close time: {', '.join(symbols_of(panel))} never close all together"
        )
    return shared
