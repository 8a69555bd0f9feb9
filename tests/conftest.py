"""Random-walk bars for tests, made without the package so that nothing tests itself."""

import functools
import signal
import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from crossattn.errors import CrossAttentionError, InvalidInputError

settings.register_profile("any machine", deadline=None)  # a busy one is slow
settings.load_profile("any machine")

# Processes started in the background may ignore SIGINT and pass that on to their children; the
# tests of Ctrl-C need the default handler.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def random_walk_frames(
    n_bars: int, n_assets: int, *, seed: int = 0, start="2024-01-01", freq="h"
) -> dict[str, pd.DataFrame]:
    """Frames of independent random walks with volume, open to close, dated by their opens."""
    rng = np.random.default_rng(seed)
    opens = pd.date_range(start, periods=n_bars, freq=freq, tz="UTC", name="time")
    frames = {}
    for asset in range(n_assets):
        close = 50 * (asset + 1) * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars)))
        open_ = close * np.exp(rng.normal(0, 0.006, n_bars))
        spread = np.exp(np.abs(rng.normal(0, 0.004, n_bars)))
        frames[f"S{asset}"] = pd.DataFrame(
            {
                "open": open_,
                "high": np.maximum(open_, close) * spread,
                "low": np.minimum(open_, close) / spread,
                "close": close,
                "volume": rng.lognormal(3, 1, n_bars),
            },
            index=opens,
        )
    return frames


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def make_frames():
    """Give the maker of random-walk frames: ``make_frames(n_bars, n_assets, seed=0)``."""
    return random_walk_frames


@pytest.fixture
def ragged_frames():
    """Frames with every kind of hole: missing bars, a late listing, zero volumes, a NaN bar."""
    frames = random_walk_frames(260, 4, seed=7)
    rng = np.random.default_rng(8)
    frames["S1"] = frames["S1"].drop(frames["S1"].index[rng.choice(260, 30, replace=False)])
    frames["S2"] = frames["S2"].iloc[45:]
    frames["S3"].loc[frames["S3"].index[rng.choice(260, 15, replace=False)], "volume"] = 0.0
    frames["S3"].loc[frames["S3"].index[[20, 130, 131]]] = np.nan
    return frames


@pytest.fixture
def refuse():
    """Give a check: a call raises one of our errors, in one line, with these words."""

    def check(call, words: str, kind: type = CrossAttentionError) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(kind, match=words) as caught:
                call()
        assert len(str(caught.value).splitlines()) == 1
        assert type(caught.value).__module__ == "crossattn.errors"

    return check


@pytest.fixture
def refuse_input(refuse):
    """Give a check: a call raises an InvalidInputError, in one line, with these words."""
    return functools.partial(refuse, kind=InvalidInputError)
