"""Tables of other libraries are frames; tables that could mean two things are refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from standin.exports import BARS, ROWS, TEN

from crossattn import align_panel, create_multi_asset_features
from crossattn import prepare_cross_attention_data as prepare
from crossattn.data import as_panel, check_frame, read_bars, write_bars
from crossattn.data.fingerprint import fingerprint_bars
from crossattn.errors import CrossAttentionWarning


class Capsule:
    """A table with Arrow's protocol alone."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.Table.from_pandas(ROWS).__arrow_c_stream__(requested_schema)


class Broken:
    """A frame whose conversion fails."""

    def to_pandas(self):
        raise ModuleNotFoundError("pyarrow is required")


TABLES = {
    "polars": pl.from_pandas(ROWS),
    "polars, another zone": pl.from_pandas(BARS.tz_convert("Asia/Tokyo").reset_index()),
    "polars, spare columns": pl.from_pandas(ROWS.assign(vwap=1.0, name="A")),
    "arrow": pa.Table.from_pandas(ROWS),
    "arrow with an index": pa.Table.from_pandas(BARS),
    "Arrow's protocol": Capsule(),
    "a column of times": ROWS,
    "another name for it": ROWS.rename(columns={"time": "Datetime"}),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_table_of_another_library_is_a_frame(case):
    pd.testing.assert_frame_equal(check_frame(TABLES[case]), BARS, check_freq=False)
    assert fingerprint_bars({"A": TABLES[case]}) == fingerprint_bars({"A": BARS})


def test_polars_goes_all_the_way(tmp_path, make_frames):
    frames = make_frames(80, 3)
    other = {symbol: pl.from_pandas(frame.reset_index()) for symbol, frame in frames.items()}
    macro = pd.DataFrame({"rate": np.arange(80.0)}, index=frames["S0"].index)
    given = prepare(frames, 8, 2, ["log_return"], exogenous=macro)
    same = prepare(other, 8, 2, ["log_return"], exogenous=pl.from_pandas(macro.reset_index()))
    np.testing.assert_array_equal(given.X, same.X)
    np.testing.assert_array_equal(given.exogenous, same.exogenous)
    write_bars(other, tmp_path)
    assert read_bars(tmp_path)["S1"].equals(frames["S1"])


DOWNLOAD = pd.concat({"A": BARS, "B": BARS}, axis=1).swaplevel(axis=1).sort_index(axis=1)
FRAMES = {
    "polars, naive": (pl.from_pandas(BARS.tz_localize(None).reset_index()), "without a time zone"),
    "polars, text": (pl.from_pandas(ROWS.assign(time=["a", "b"])), "index must hold time.*set_in"),
    "polars, lazy": (pl.from_pandas(ROWS).lazy(), "must be a DataFrame, got LazyFrame; collect it"),
    "a series": (pl.from_pandas(ROWS)["close"], "must be a DataFrame, got Series"),
    "a broken conversion": (Broken(), "Broken cannot be converted .*pyarrow is required"),
    "two columns of times": (ROWS.assign(moment=ROWS["time"]), "index must hold time"),
    "row numbers": (BARS.reset_index(drop=True), "index must hold time.*set_index"),
    "capital names": (BARS.rename(columns=str.title), "missing.*rename\\(columns=str.lower\\)"),
    "spaces in names": (BARS.rename(columns=lambda name: f" {name}"), "missing"),
    "an array": (BARS.to_numpy(), "must be a DataFrame, got ndarray"),
    "a dict": ({"close": [1.0]}, "must be a DataFrame, got dict"),
    "a path": ("bars/A.csv", "must be a DataFrame, got str"),
}  # fmt: skip
PANELS = {
    "yfinance's download": DOWNLOAD.rename_axis("Datetime"),
    "with its names": DOWNLOAD.rename_axis("Date").rename_axis(columns=["Price", "Ticker"]),
    "bar opens": DOWNLOAD,
    "no name": DOWNLOAD.rename_axis(None),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_frame_that_is_unclear_is_refused(case, refuse):
    table, words = FRAMES[case]
    refuse(lambda: align_panel({"A": table}), words)


@pytest.mark.parametrize("case", PANELS)
def test_a_download_by_bar_opens_is_no_panel(case, refuse):
    """Read as a panel it would show each bar before it closed (yfinance issue 2193)."""
    refuse(lambda: create_multi_asset_features(PANELS[case]), "close_time.*data.xs\\(s, axis=1")
    panel = PANELS[case]
    frames = {s: panel.xs(s, axis=1, level=1) for s in panel.columns.unique(1)}
    assert align_panel(frames).index[0] == pd.Timestamp(TEN)


def test_a_panel_off_by_rounding_is_set_right(make_frames):
    frames = make_frames(60, 2)
    panel = align_panel(frames)
    off, right = panel.copy(), panel.copy()
    top = np.fmax(panel["open"]["S1"], panel["close"]["S1"])
    off[("high", "S1")] = top * (1 - 1e-12)
    right[("high", "S1")] = top
    pd.testing.assert_frame_equal(as_panel(off), right)


def test_zero_volume_in_every_bar_is_no_volume(make_frames):
    frames = make_frames(120, 3)
    frames["S1"]["volume"] = 0.0
    with pytest.warns(CrossAttentionWarning, match="dropped: relative_volume .no volume for S1"):
        data = prepare(frames, 8, 2)
    assert "relative_volume" not in data.features and data.mask.all()
