"""Missing bars, by symbol and range."""

import numpy as np
import pandas as pd

from crossattn.data.frame import Frames, check_frames, check_times, modal_spacing


def missing_bars(frames: Frames, expected: pd.DatetimeIndex | None = None) -> pd.DataFrame:
    """List missing bars: a row for each run of neighbours.

    Parameters
    ----------
    frames : dict of str to DataFrame
        Bars by symbol.
    expected : DatetimeIndex, optional
        Open times that every symbol should have, in UTC. By default each symbol's own: a bar at
        every modal spacing from its first to its last, right for markets that never close. For a
        stock, give the opens of :func:`crossattn.sources.calendar.session_times`.

    Returns
    -------
    DataFrame
        Columns ``symbol``, ``first`` and ``last`` (opens of the run's first and last missing bar),
        ``count``; in the order of ``frames``. A bar without a close counts as missing.

    Notes
    -----
    With ``expected`` a late listing is a gap; without, a symbol begins when it begins.

    Built in chapter: Data and clocks.

    Examples
    --------
    >>> from crossattn.simulate.market import simulate_market
    >>> frame = simulate_market(n_assets=2, n_steps=6).frames["A00"]
    >>> missing_bars({"A00": frame.drop(frame.index[[2, 3]])})["count"].tolist()
    [2]
    """
    checked = check_frames(frames)
    if expected is not None:
        expected = check_times(expected, "expected", "time")
    parts = [_of_symbol(symbol, frame, expected) for symbol, frame in checked.items()]
    return pd.concat(parts, ignore_index=True)


def _of_symbol(symbol, frame, expected) -> pd.DataFrame:
    held = frame.index[frame["close"].notna()]
    if expected is None:
        expected = pd.date_range(held[0], held[-1], freq=modal_spacing(frame.index, symbol))
    absent = np.flatnonzero(~expected.isin(held))
    # a run ends where the next absent bar is not the next expected one
    begins = absent[np.diff(absent, prepend=-2) > 1]
    ends = absent[np.diff(absent, append=len(expected) + 1) > 1]
    return pd.DataFrame(
        {
            "symbol": pd.Series([symbol] * len(begins), dtype=object),
            "first": expected[begins],
            "last": expected[ends],
            "count": ends - begins + 1,
        }
    )
