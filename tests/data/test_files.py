"""CSV files: exact round trips, and a line number for every fault."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossattn.data.files import read_bars, write_bars
from crossattn.errors import InvalidInputError
from crossattn.simulate.market import simulate_market
from crossattn.sources.samples import load_sample

HEADER = "time,open,high,low,close,volume"
GOOD = ["2024-01-01T00:00:00Z,1,2,0.5,1.5,10", "2024-01-01T01:00:00Z,1.5,3,1,2,0"]


def write_text(folder: Path, *lines: str, name: str = "AAA.csv", end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes((end.join(lines) + end).encode())
    return path


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=False)


def test_a_simulated_market_reads_back_to_the_bit(tmp_path):
    frames = simulate_market("gated", n_assets=4, n_steps=900, seed=3).frames
    paths = write_bars(frames, tmp_path)
    assert [path.name for path in paths] == [f"{symbol}.csv" for symbol in frames]
    back = read_bars(tmp_path)
    assert list(back) == list(frames)
    for symbol, frame in frames.items():
        same(back[symbol], frame)


def test_close_times_and_close_only_survive(tmp_path):
    frames = load_sample("us_volatility")
    write_bars(frames, tmp_path)
    back = read_bars(tmp_path)
    for symbol, frame in frames.items():
        same(back[symbol], frame)
    assert back["VIX"].attrs == {"close_only": True}
    assert back["SPX"].attrs == {}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.floats(min_value=1e-300, max_value=1e300, allow_subnormal=False), min_size=2, max_size=40
    )
)
def test_any_positive_float_reads_back(tmp_path_factory, closes):
    folder = tmp_path_factory.mktemp("floats")
    close = np.array(closes)
    frame = pd.DataFrame(
        {"open": close, "high": close, "low": close, "close": close, "volume": close},
        index=pd.date_range("2024-01-01", periods=len(close), freq="min", tz="UTC", name="time"),
    )
    write_bars({"X": frame}, folder)
    same(read_bars(folder)["X"], frame)


def test_fractions_of_a_second_survive(tmp_path):
    frame = simulate_market(n_assets=2, n_steps=5).frames["A00"]
    frame = frame.set_axis(frame.index + pd.to_timedelta([0, 1, 2, 3, 4], unit="us"))
    write_bars({"X": frame}, tmp_path)
    same(read_bars(tmp_path)["X"], frame.rename_axis("time"))


def test_the_file_is_the_documented_one(tmp_path):
    frame = pd.DataFrame(
        {"open": [1.0, 2], "high": [2.5, 2], "low": [1, 2], "close": [2, 2], "volume": [7, np.nan]},
        index=pd.to_datetime(["2024-01-01T00:00Z", "2024-01-01T01:00Z"]),
    )
    (path,) = write_bars({"BRK.B": frame}, tmp_path / "new" / "folder")
    assert path.name == "BRK.B.csv"
    assert path.read_text() == (
        f"{HEADER}\n2024-01-01T00:00:00Z,1.0,2.5,1.0,2.0,7.0\n2024-01-01T01:00:00Z,2.0,2.0,2.0,2.0,\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) & 0o444


def test_a_missing_bar_is_no_line_and_half_a_bar_is_refused(tmp_path):
    frame = simulate_market(n_assets=2, n_steps=6).frames["A00"].copy()
    frame.iloc[2] = np.nan
    write_bars({"X": frame}, tmp_path)
    same(read_bars(tmp_path)["X"], frame.drop(frame.index[2]))
    frame.iloc[3, frame.columns.get_loc("high")] = np.nan
    with pytest.raises(InvalidInputError, match=r"X: the bar of .* lacks some of its prices"):
        write_bars({"X": frame}, tmp_path)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InvalidInputError, match="cannot be read: Permission denied"):
        read_bars(tmp_path)


def test_nothing_is_written_when_one_frame_is_wrong(tmp_path):
    frames = dict(simulate_market(n_assets=2, n_steps=6).frames)
    frames["A01"] = -frames["A01"]
    with pytest.raises(InvalidInputError, match="A01"):
        write_bars(frames, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_read_as_a_person_would(tmp_path):
    """Windows line ends, a byte-order mark, spare columns, offsets, spaces for T, blank end."""
    write_text(
        tmp_path,
        "\ufeff" + HEADER + ",vwap,turnover",
        "2024-01-01 01:00:00+01:00,1,2,0.5,1.5,10,9,8",
        "2024-01-01 02:00:00+01:00,1.5,3,1,2e0,,9,",
        "",
        name="eth.csv",
        end="\r\n",
    )
    (tmp_path / "notes.txt").write_text("left alone")
    (tmp_path / ".BTC.csv").write_text("left alone")
    frames = read_bars(tmp_path)
    assert list(frames) == ["eth"]
    frame = frames["eth"]
    assert list(frame.columns) == ["open", "high", "low", "close", "volume", "turnover"]
    assert frame.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert frame["turnover"].iloc[0] == 8
    assert np.isnan(frame["volume"].iloc[1])


def test_a_quoted_header_is_a_header(tmp_path):
    write_text(tmp_path, *(",".join(f'"{c}"' for c in line.split(",")) for line in (HEADER, *GOOD)))
    quoted = read_bars(tmp_path)["AAA"]
    write_text(tmp_path, HEADER, *GOOD)
    same(read_bars(tmp_path)["AAA"], quoted)


def test_a_file_name_that_is_no_text_is_refused(tmp_path):
    write_text(tmp_path, HEADER, *GOOD, name="A\udcff.csv")  # a byte that is no UTF-8
    with pytest.raises(InvalidInputError, match="no valid UTF-8"):
        read_bars(tmp_path)


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist"):
        read_bars(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="holds no"):
        read_bars(tmp_path)
    file = write_text(tmp_path, HEADER, *GOOD)
    with pytest.raises(InvalidInputError, match="not a folder"):
        read_bars(file)
    frames = read_bars(tmp_path)
    with pytest.raises(InvalidInputError, match="cannot write"):
        write_bars(frames, file)
    with pytest.raises(InvalidInputError, match="cannot write"):
        write_bars(frames, file / "below")
    (tmp_path / "BBB.csv").mkdir()
    with pytest.raises(InvalidInputError, match=r"BBB\.csv cannot be read"):
        read_bars(tmp_path)


def test_two_files_of_one_symbol_are_refused(tmp_path):
    write_text(tmp_path, HEADER, *GOOD, name="aapl.csv")
    write_text(tmp_path, HEADER, *GOOD, name="%61%61%70%6C.csv")
    with pytest.raises(InvalidInputError, match=r"both hold 'aapl'"):
        read_bars(tmp_path)


@pytest.mark.parametrize("name", ["%ZZ.csv", "A%.csv", "%FF.csv"])
def test_a_file_name_with_a_broken_escape_is_refused(tmp_path, name):
    write_text(tmp_path, HEADER, *GOOD, name=name)
    with pytest.raises(InvalidInputError, match="file name"):
        read_bars(tmp_path)
