"""CSV files: exact round trips, and a line number for every fault."""

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


def write_text(folder: Path, *lines: str, name: str = "AAA.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([*lines, ""]))
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


@settings(max_examples=20)
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


def test_other_files_are_left_alone_and_turnover_is_kept(tmp_path):
    rows = [f"{HEADER},vwap,turnover", f"{GOOD[0]},9,8", f"{GOOD[1]},9,"]
    write_text(tmp_path, *rows, name="eth.csv")
    (tmp_path / "notes.txt").write_text("left alone")
    (tmp_path / ".BTC.csv").write_text("left alone")
    frames = read_bars(tmp_path)
    assert list(frames) == ["eth"]
    assert list(frames["eth"].columns) == [*HEADER.split(",")[1:], "turnover"]
    np.testing.assert_array_equal(frames["eth"]["turnover"], [8, np.nan])


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
