"""CSV files: exact round trips, and a line number for every fault."""

import stat
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from standin.exports import BARS, HEADER, NINE, PRICES, TEN

from crossattn.data.files import read_bars, write_bars
from crossattn.simulate.market import simulate_market
from crossattn.sources.samples import load_sample


def check_round_trip(frames: dict, folder: Path) -> dict:
    """Assert that frames are read as they were written, and return them as read."""
    paths = write_bars(frames, folder)
    assert [path.name for path in paths] == [f"{symbol}.csv" for symbol in frames]
    back = read_bars(folder)
    assert set(back) == set(frames)
    for symbol, frame in frames.items():
        pd.testing.assert_frame_equal(back[symbol], frame, check_exact=True, check_freq=False)
    return back


def test_a_simulated_market_and_fractions_of_a_second_read_back_to_the_bit(tmp_path):
    frames = simulate_market("gated", n_assets=4, n_steps=900, seed=3).frames
    assert list(check_round_trip(frames, tmp_path / "market")) == list(frames)
    fractions = frames["A00"].index[:5] + pd.to_timedelta(range(5), unit="us")
    check_round_trip({"X": frames["A00"][:5].set_axis(fractions.rename("time"))}, tmp_path)


def test_close_times_and_close_only_survive(tmp_path):
    back = check_round_trip(load_sample("us_volatility"), tmp_path)
    assert back["VIX"].attrs == {"close_only": True}
    assert back["SPX"].attrs == {}


@settings(max_examples=20)
@given(st.lists(st.floats(1e-300, 1e300, allow_subnormal=False), min_size=2, max_size=40))
def test_any_positive_float_reads_back(tmp_path_factory, closes):
    index = pd.date_range("2024-01-01", periods=len(closes), freq="min", tz="UTC", name="time")
    frame = pd.DataFrame(dict.fromkeys(HEADER.split(",")[1:], closes), index)
    check_round_trip({"X": frame}, tmp_path_factory.mktemp("floats"))


def test_the_file_is_the_documented_one(tmp_path):
    bars = [[1, 2.5, 1, 2, 7], [2, 2, 2, 2, np.nan]]
    frame = pd.DataFrame(bars, pd.to_datetime([NINE, TEN]), HEADER.split(",")[1:])
    (path,) = write_bars({"BRK.B": frame}, tmp_path / "new" / "folder")
    assert path.name == "BRK.B.csv"
    assert path.read_text() == f"{HEADER}\n{NINE},1.0,2.5,1.0,2.0,7.0\n{TEN},2.0,2.0,2.0,2.0,\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o444


def test_a_missing_bar_is_no_line_and_half_a_bar_is_refused(tmp_path, refuse_input):
    frame = simulate_market(n_assets=2, n_steps=6).frames["A00"].copy()
    frame.iloc[2] = np.nan
    write_bars({"X": frame}, tmp_path)
    back = read_bars(tmp_path)["X"]
    pd.testing.assert_frame_equal(back, frame.drop(frame.index[2]), check_exact=True)
    frame.iloc[3, frame.columns.get_loc("high")] = np.nan
    refuse_input(lambda: write_bars({"X": frame}, tmp_path), "X: the bar of .* lacks some of its")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch, refuse_input):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    refuse_input(lambda: read_bars(tmp_path), "cannot be read: Permission denied")


def test_nothing_is_written_when_one_frame_is_wrong(tmp_path, refuse_input):
    frames = dict(simulate_market(n_assets=2, n_steps=6).frames)
    frames["A01"] = -frames["A01"]
    refuse_input(lambda: write_bars(frames, tmp_path / "out"), "A01")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_left_alone_and_turnover_is_kept(tmp_path):
    text = f"{HEADER},vwap,turnover\n{NINE},{PRICES},9,8\n{TEN},{PRICES},9,\n"
    (tmp_path / "eth.csv").write_text(text)
    (tmp_path / "notes.txt").write_text("left alone")
    (tmp_path / ".BTC.csv").write_text("left alone")
    frames = read_bars(tmp_path)
    assert list(frames) == ["eth"]
    assert list(frames["eth"].columns) == [*HEADER.split(",")[1:], "turnover"]
    np.testing.assert_array_equal(frames["eth"]["turnover"], [8, np.nan])


def test_wrong_folders_are_refused(tmp_path, refuse_input):
    refuse_input(lambda: read_bars(tmp_path / "none"), "does not exist")
    refuse_input(lambda: read_bars(tmp_path), "holds no")
    (file,) = write_bars({"A": BARS}, tmp_path)
    refuse_input(lambda: read_bars(file), "not a folder")
    refuse_input(lambda: write_bars({"A": BARS}, file), "cannot write")
    refuse_input(lambda: write_bars({"A": BARS}, file / "below"), "cannot write")
