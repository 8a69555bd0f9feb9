"""Parquet and Feather files, and folders of several kinds: read to exact values, or refused."""

import os

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather
from pyarrow import parquet as pq
from standin.exports import BARS, DAYS, EPOCH, NINE, ROWS, TEN, times, write

from crossattn.data import check_frame, read_bars, read_exogenous
from crossattn.errors import CrossAttentionWarning, InvalidInputError

COLUMNS = [
    {},
    {"vwap": 1.0, "tags": [["a"], ["b"]]},
    {"time": [NINE, TEN]},
    {"time": ["2024-01-31 09:00:00+00", "2024-01-31 10:00:00+00"]},
    {"time": [EPOCH, EPOCH + 3600]},
    {"time": [EPOCH * 1000, (EPOCH + 3600) * 1000]},
    {"time": ROWS["time"].dt.tz_convert("Asia/Tokyo")},
    {"time": ROWS["time"].astype("datetime64[ns, UTC]")},
    {"open": ["1.5", "1.5"]},
    {"volume": np.array([10.5, 10.5], np.float32)},
    {"symbol": pd.Categorical(["A", "A"])},
]


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".PARQUET"])
@pytest.mark.parametrize("columns", COLUMNS, ids=lambda columns: ",".join(columns))
def test_a_file_of_arrow_is_read_to_its_values(tmp_path, suffix, columns):
    path = tmp_path / f"AAA{suffix}"
    getattr(ROWS.assign(**columns), f"to_{suffix[1:].lower()}")(path)
    pd.testing.assert_frame_equal(read_bars(tmp_path)["AAA"], BARS, check_freq=False)


def test_a_volume_of_no_type_is_unknown(tmp_path):
    write(ROWS, tmp_path / "AAA.parquet", volume=None)
    bars = read_bars(tmp_path)["AAA"]
    pd.testing.assert_frame_equal(bars, BARS.assign(volume=np.nan), check_freq=False)


def test_an_index_dates_and_capital_names_in_parquet(tmp_path):
    BARS.to_parquet(tmp_path / "A.parquet")
    days = ROWS.rename(columns=str.title).assign(Time=pd.to_datetime(["2024-01-30", "2024-01-31"]))
    days.to_parquet(tmp_path / "B.parquet")
    BARS.rename_axis(None).to_parquet(tmp_path / "D.parquet")
    dated = pl.from_pandas(days).with_columns(pl.col("Time").cast(pl.Date))
    dated.write_parquet(tmp_path / "C.parquet")
    frames = read_bars(tmp_path)
    for symbol in "AD":
        pd.testing.assert_frame_equal(frames[symbol], BARS, check_freq=False)
    for symbol in "BC":
        assert frames[symbol].index.equals(pd.DatetimeIndex(DAYS).tz_convert("UTC"))
        np.testing.assert_array_equal(frames[symbol].to_numpy(), BARS.to_numpy())


UNCLEAR = [
    ({"time": [1e300, 2e300]}, "row 0: time must be an epoch"),
    ({"time": [1.5, np.nan]}, "row 1: time must be a time"),
    ({"time": [1, 2]}, "row 0: time must be an epoch of 1990"),
    ({"time": pd.to_datetime(["2024-01-31 09:00", "2024-01-31 10:00"])}, "row 0: .*time_zone="),
    ({"time": pd.to_datetime([NINE, None])}, "row 1: time must be a time"),
    ({"time": [[1], [2]]}, "time must be"),
    ({"time": [NINE, None]}, "row 1: time must be"),
    ({"close": [2.0, np.nan]}, "row 1: close must be a number where other prices"),
    ({"close": [2.0, np.inf]}, "row 1: close must be a number, got 'inf'"),
    ({"close": [True, False]}, "row 0: close must be a number, got 'a value of type bool'"),
    ({"close": [[1.0], [2.0]]}, "row 0: close must be a number, got 'a value of type list"),
    ({"close": ["2.0", "two"]}, "row 1: close must be a number, got 'two'"),
    ({"low": [1.0, 0.0]}, "low must be positive"),
    ({"symbol": ["A", "B"]}, "holds 2 symbols"),
    ({"Close": [2.0, 2.0]}, "repeats column"),
]


@pytest.mark.parametrize(("columns", "words"), UNCLEAR)
def test_a_file_of_arrow_that_is_unclear_is_refused(tmp_path, columns, words, refuse):
    write(ROWS, tmp_path / "AAA.parquet", **columns)
    refuse(lambda: read_bars(tmp_path), words)


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
@pytest.mark.parametrize("data", [b"hello", b"PAR1", b"PAR1" * 9, b"ARROW1\0\0" * 9, b"\x80\x04."])
def test_what_is_no_file_of_arrow_is_refused(tmp_path, suffix, data, refuse):
    (tmp_path / f"AAA.{suffix}").write_bytes(data)
    refuse(lambda: read_bars(tmp_path), f"is not a readable {suffix.title()} file")


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=6))
def test_damaged_arrow_is_read_or_refused(tmp_path, suffix, damages):
    path = tmp_path / f"A{suffix}"
    write(ROWS, path)
    content = bytearray(path.read_bytes())
    for place, piece in damages:
        start = int(place * len(content))
        content[start : start + len(piece)] = piece
    path.write_bytes(content)
    try:
        check_frame(read_bars(tmp_path)["A"])
    except InvalidInputError as error:
        assert "\n" not in str(error) and "A." in str(error)


# name: (what else is in a folder that holds A.csv, words)
FOLDERS = {
    "two files of a symbol": (lambda f: write(ROWS, f / "A.parquet"), "A.parquet and A.csv both"),
    "three kinds": (lambda f: write(ROWS, f / "A.feather"), "A.feather and A.csv both hold 'A'"),
    "the same name, escaped": (lambda f: (f / "%41.csv").write_text(times(NINE, TEN)), "both hold"),
    "a link out": (lambda f: (f / "B.csv").symlink_to("../C.csv"), "B.csv is a link out of the fo"),
    "a link to nowhere": (lambda f: (f / "B.csv").symlink_to("nowhere"), "B.csv cannot be read"),
    "a link to itself": (lambda f: (f / "B.csv").symlink_to("B.csv"), "B.csv|cannot be read"),
    "a pipe": (lambda f: os.mkfifo(f / "B.csv"), "B.csv cannot be read: it is no regular file"),
    "a folder": (lambda f: (f / "B.parquet").mkdir(), "B.parquet cannot be read"),
    "an empty file": (lambda f: (f / "B.feather").touch(), "B.feather is an empty file"),
    "a broken escape": (lambda f: (f / "B%.csv").touch(), "starts no %XX"),
    "no hexadecimal escape": (lambda f: (f / "%ZZ.csv").touch(), "starts no %XX"),
    "an escape of no text": (lambda f: (f / "%FF.csv").touch(), "no valid UTF-8"),
    "a name that is no text": (lambda f: (f / "B\udcff.csv").touch(), "no valid UTF-8"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_unclear_is_refused(tmp_path, case, refuse):
    folder = tmp_path / "bars"
    folder.mkdir()
    for path in (folder / "A.csv", tmp_path / "C.csv"):
        path.write_text(times(NINE, TEN))
    add, words = FOLDERS[case]
    add(folder)
    refuse(lambda: read_bars(folder), words)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
@pytest.mark.parametrize("value", [None, 1.0])
def test_a_small_file_of_many_rows_is_refused(tmp_path, refuse, kind, value):
    n_rows = 3_000_000
    column = pa.nulls(n_rows) if value is None else pa.array(np.full(n_rows, value))
    write = {"parquet": pq.write_table, "feather": feather.write_feather}[kind]
    table = pa.table(dict.fromkeys(BARS.reset_index(), column))
    write(table, tmp_path / f"A.{kind}", compression="zstd")
    del table, column
    size = (tmp_path / f"A.{kind}").stat().st_size
    refuse(lambda: read_bars(tmp_path), f"rows of 6 columns: too many for {size} bytes")


@pytest.mark.filterwarnings("ignore:Feather V1")
def test_feather_of_the_first_version_is_read(tmp_path):
    rows = ROWS.assign(time=ROWS["time"].dt.tz_localize(None))
    feather.write_feather(rows, tmp_path / "A.feather", version=1)
    frames = read_bars(tmp_path, time_zone="UTC")
    pd.testing.assert_frame_equal(frames["A"], BARS, check_freq=False)


def test_a_folder_without_bars_says_what_it_holds(tmp_path, refuse):
    (tmp_path / "A.csv.gz").touch()
    words = "no <symbol>.csv, .parquet or .feather file; it holds A.csv"
    refuse(lambda: read_bars(tmp_path), words)
    (tmp_path / "B.csv").write_text(times(NINE, TEN))
    with pytest.warns(CrossAttentionWarning, match=r"unpack A\.csv\.gz: packed files are left out"):
        assert list(read_bars(tmp_path)) == ["B"]


def test_exogenous_series_of_other_formats(tmp_path, refuse):
    series = pd.DataFrame({"time": ROWS["time"], "rate": [1.5, 2.5]})
    write(series, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text(f"time;rate\n{EPOCH};1,5\n{EPOCH + 3600};2,5\n")
    for name in ("a.parquet", "b.csv"):
        table = read_exogenous(tmp_path / name)
        assert table["rate"].tolist() == [1.5, 2.5] and table.index.equals(BARS.index)
    path = tmp_path / "c.csv"
    path.write_text("time,rate\n2024-01-31 10:00,1\n")
    assert read_exogenous(path, time_zone="Europe/Berlin").index[0] == pd.Timestamp(NINE)
    refuse(lambda: read_exogenous(path), "time_zone= .--time-zone")
    path.write_text("time,rate\n2024-01-31,1\n")
    with pytest.warns(CrossAttentionWarning, match="'2024-01-31' counts as known at 2024-01-31 00"):
        read_exogenous(path)
    path.write_text("when,rate\n1,2\n")
    refuse(lambda: read_exogenous(path), "header lacks time; it is 'when,rate'")
