"""Fingerprint of a set of bars: equal for equal symbols, times and values."""

import hashlib

import numpy as np

from crossattn.data.frame import FRAME_COLUMNS, Tables, check_frames, close_times


def fingerprint_bars(frames: Tables) -> str:
    """Return the SHA-256 of bars: equal for equal symbols, times and values, and only then.

    Parameters
    ----------
    frames : dict of str to DataFrame
        Bars by symbol, in any order; see :func:`crossattn.data.frame.check_frame`.

    Returns
    -------
    str
        64 hexadecimal digits; the same on every platform.

    Examples
    --------
    >>> from crossattn.simulate.market import simulate_market
    >>> frames = simulate_market(n_assets=2, n_steps=10).frames
    >>> fingerprint_bars(frames) == fingerprint_bars(dict(reversed(frames.items())))
    True
    """
    total = hashlib.sha256()
    for symbol, frame in sorted(check_frames(frames).items()):
        name = symbol.encode("utf-8")
        total.update(len(name).to_bytes(8, "little") + name + len(frame).to_bytes(8, "little"))
        for times in (frame.index, close_times(frame, symbol)):
            total.update(times.as_unit("ns").asi8.astype("<i8").tobytes())
        for column in FRAME_COLUMNS:
            values = frame[column].to_numpy()
            canonical = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN, one zero
            total.update(canonical.astype("<f8").tobytes())
    return total.hexdigest()
