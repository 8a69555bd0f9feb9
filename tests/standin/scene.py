"""The scene of most venue tests: one symbol, two pages of hourly candles, the last one open."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from crossattn.errors import CrossAttentionWarning
from crossattn.sources._client import FetchLimits
from crossattn.sources.bybit import BybitDataLoader
from standin.bybit import BybitStandIn, following, to_ms
from standin.faults import FAULTS, Fault

SYMBOL = "AAAUSDT"
NOW_MS = to_ms("2024-03-01T10:17")
START, END = "2024-01-10T00:00", "2024-03-01T12:00"  # 1234 closed candles, one open, two to come
VICTIM_MS = to_ms("2024-02-20T05:00")
FOREVER = (to_ms("2020-01-01"), to_ms("2100-01-01"))

# Patient: nothing that should succeed fails because the machine is busy.
PATIENT = FetchLimits(give_up_s=20.0, first_wait_s=0.01, longest_wait_s=0.04, spacing_s=0.0)
# Brisk: for what must be refused, so that refusing is quick.
BRISK = replace(PATIENT, give_up_s=0.7, first_wait_s=0.004, max_body_bytes=2**20)
TIMEOUT = {True: 0.2, False: 1.0}  # seconds a request, brisk and patient


def make_server(fault: Fault | None = None, form: str = "always") -> BybitStandIn:
    """Return a server of the scene that commits ``fault`` in its first answer or in all."""

    def act(server, ask, answer):
        if fault is not None and (form == "always" or ask.number == 1):
            fault.act(server, ask, answer)

    server = BybitStandIn({SYMBOL: FOREVER}, NOW_MS, act=act)
    server.victim_ms = VICTIM_MS
    return server


def make_loader(server, limits=PATIENT, **options) -> BybitDataLoader:
    return BybitDataLoader(base_url=server.url, _limits=limits, **options)


def fetch_with_gaps(loader, *args, **kwargs):
    """Return the frame of ``fetch_klines`` and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CrossAttentionWarning)
        frame = loader.fetch_klines(*args, **kwargs)
    return frame, [str(w.message) for w in caught if w.category is CrossAttentionWarning]


def fault_named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)


def true_rows(server: BybitStandIn, symbol=SYMBOL, interval="60", start=START, end=END, **where):
    """Return the closed candles as numbers: open time, close time, and six values."""
    rows = server.truth(symbol, interval, to_ms(start), to_ms(end), **where)
    table = [[row[0], following(interval, int(row[0])), *row[1:]] for row in rows]
    return np.array(table, dtype=float).reshape(-1, 8)


def frame_rows(frame: pd.DataFrame) -> np.ndarray:
    """Return a frame in the form of :func:`true_rows`; without turnover as a column of NaN."""
    turnover = frame["turnover"] if "turnover" in frame else np.full(len(frame), np.nan)
    times = [pd.DatetimeIndex(t).as_unit("ms").asi8 for t in (frame.index, frame["close_time"])]
    values = [frame[name] for name in ("open", "high", "low", "close", "volume")]
    return np.column_stack([*times, *values, turnover])


_LINE = re.compile(r"missing: (\S+) (\S+)Z\.\.(\S+)Z (\d+) bars")


def named_opens(lines: list[str]) -> set[int]:
    """Return the opens of hours that ``missing:`` lines name, after checking their counts."""
    named: set[int] = set()
    for line in lines:
        symbol, first, last, count = _LINE.fullmatch(line).groups()
        opens = range(to_ms(first), to_ms(last) + 1, 3_600_000)
        assert (symbol, len(opens)) == (SYMBOL, int(count)), line
        named |= set(opens)
    return named


def check_frame(frame: pd.DataFrame, server: BybitStandIn, lines=(), expected="exact") -> None:
    """Assert that candles and gaps are what ``expected`` calls for: never one wrong row."""
    rows, truth = frame_rows(frame), true_rows(server)
    if np.isnan(rows[:, 7]).all():
        truth[:, 7] = np.nan
    kept = np.isin(truth[:, 0], rows[:, 0])
    assert np.array_equal(rows, truth[kept], equal_nan=True)
    missing = {int(t) for t in truth[~kept, 0]}
    assert named_opens(lines) == missing
    outcomes = {"exact": not missing, "gap": missing == {VICTIM_MS}, "named": bool(missing)}
    assert outcomes[expected], missing
