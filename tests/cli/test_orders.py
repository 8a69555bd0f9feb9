"""Weights and orders of ``crossattn predict``: what ``crossattn backtest`` trades at that bar."""

import numpy as np
import pandas as pd
import pytest
from standin.commands import run

from crossattn import simulate_market
from crossattn.data.files import write_bars

NAMES = ["A", "B", "C"]
SHORT = ["--allow-short", "--max-position", "0.4"]


@pytest.fixture(scope="module", params=["forecaster", "network"])
def desk(request, tmp_path_factory):
    """A run on the first 900 bars, a backtest of the other 300, and a way to call predict."""
    folder = tmp_path_factory.mktemp(request.param)
    market = simulate_market(n_assets=3, n_steps=1200, predictability=0.3, seed=4)
    frames = dict(zip(NAMES, market.frames.values(), strict=True))
    write_bars({name: frame[:900] for name, frame in frames.items()}, folder / "past")
    write_bars(frames, folder / "bars")
    words = {"forecaster": ["--n-models", "1"], "network": ["--d-model", "8"]}[request.param]
    words += ["--lookback", "30", "--horizon", "2", "--epochs", "1"]
    assert run(folder, "train", *words, bars="past") == 0
    assert run(folder, "backtest", "--out", folder / "traded", *SHORT) == 0

    def predict(*words, **where):
        return run(folder, "predict", "--out", folder / "out.csv", *words, **where)

    predict.folder, predict.frames = folder, frames
    return predict


def table(desk, name, **options):
    return pd.read_csv(desk.folder / name, **options)


def cut_at(desk, time, without=None):
    """Write the bars known at a close, for one symbol all but the newest; return the folder."""
    known = {name: frame[frame.index < time] for name, frame in desk.frames.items()}
    if without is not None:
        known[without] = known[without][:-1]
    write_bars(known, desk.folder / "cut")
    return "cut"


@pytest.mark.parametrize("last", [["--last", 3], []], ids=["last", "every"])
def test_orders_are_the_trades_of_the_backtest_at_that_bar(desk, last, capsys):
    trades = table(desk, "traded/trades.csv", parse_dates=["time"])
    equity = table(desk, "traded/equity.csv", parse_dates=["timestamp"]).set_index("timestamp")
    time = trades["time"].unique()[-2]
    held = trades[trades["time"] < time].groupby("symbol")["shares"].sum()
    held.reset_index().to_csv(desk.folder / "held.csv", index=False)
    money = equity.loc[time, "capital"] + equity.loc[time, "cost"]
    words = ["--weights", desk.folder / "w.csv", "--orders", desk.folder / "o.csv", *SHORT]
    words += ["--equity", repr(float(money)), "--holdings", desk.folder / "held.csv"]
    assert desk(*last, *words, bars=cut_at(desk, time)) == 0
    orders = table(desk, "o.csv", parse_dates=["time"])
    traded = trades[trades["time"] == time].reset_index(drop=True)
    columns = ["time", "symbol", "shares", "price", "value", "cost"]
    assert list(orders) == columns and len(orders) > 1
    pd.testing.assert_frame_equal(orders, traded[columns], rtol=1e-6, check_dtype=False)
    assert f"orders at {time.isoformat()[:16]}" in capsys.readouterr().out
    weights = table(desk, "w.csv", index_col="close_time", parse_dates=True)
    assert list(weights) == NAMES and weights.index[-1] == time
    assert len(weights) == (3 if last else len(table(desk, "out.csv")))
    after = held.reindex(NAMES).fillna(0) + traded.set_index("symbol")["shares"].reindex(NAMES)
    share = after * orders.set_index("symbol")["price"] / equity.loc[time, "capital"]
    np.testing.assert_allclose(weights.iloc[-1], share, rtol=1e-6)
    assert weights.abs().max(axis=None) <= 0.4


def test_the_last_weights_are_those_of_all_bars_where_clocks_differ(desk):
    late = desk.frames["B"].set_axis(desk.frames["B"].index + pd.Timedelta("30min"))
    write_bars(desk.frames | {"B": late}, desk.folder / "late")
    found = []
    for last in (["--last", 3], []):
        assert desk(*last, "--weights", desk.folder / "w.csv", *SHORT, bars="late") == 0
        found.append(table(desk, "w.csv", index_col="close_time")[-3:])
    pd.testing.assert_frame_equal(*found, rtol=1e-9)
    assert found[0].notna().any().all()


@pytest.mark.parametrize("last", [["--last", 2], []], ids=["last", "every"])
def test_no_order_where_there_is_no_bar(desk, last, capsys):
    bars = cut_at(desk, desk.frames["B"].index[-40], without="B")
    words = ["--weights", desk.folder / "w.csv", "--orders", desk.folder / "o.csv"]
    assert desk(*last, *words, "--equity", 1000, *SHORT, bars=bars) == 0
    assert np.isnan(table(desk, "w.csv")["B"].iloc[-1])
    assert set(table(desk, "o.csv")["symbol"]) <= {"A", "C"}
    told = capsys.readouterr().out
    assert "no forecast at 2022-" in told and ": B (no bar closed then)\n" in told


def test_holdings_beyond_the_account_are_said(desk, capsys):
    (desk.folder / "held.csv").write_text("symbol,shares\nA,1e6\n")
    words = ["--orders", desk.folder / "o.csv", "--holdings", desk.folder / "held.csv"]
    assert desk("--last", 1, "--equity", 1000, *words) == 0
    assert "warning: holdings are worth" in capsys.readouterr().out


ACCOUNTS = [
    (None, ["--orders", "o.csv"], "--orders needs --equity"),
    (None, ["--equity", "5"], "--equity is for --orders"),
    (None, ["--weights", "out.csv"], "must name different files"),
    ("symbol,shares\n", ["--orders", "held.csv", "--equity", "5"], "would replace or join"),
    ("symbol,shares\nA,1\n", ["--weights", "w.csv"], "--holdings is for --orders"),
    ("symbol,share\nA,1\n", None, "must be symbol,shares; it is 'symbol,share'"),
    ("symbol,shares\nA,1\nZ,2\n", None, "line 3: must hold one of the run's symbols (A, B, C)"),
    ("symbol,shares\nA,1\nA,2\n", None, "line 3: must hold a symbol that no line before it"),
    ("symbol,shares\nA\n", None, "line 2: must hold one of"),
    ("symbol,shares\nA,lots\n", None, "finite number of shares, got ['A', 'lots']"),
    ("symbol,shares\nA,1e999\n", None, "line 2: must hold a symbol and a finite number"),
    (f"symbol,shares\nA,{'1' * 200_000}\n", None, "is not a CSV file: field larger"),
    ("", None, "is an empty file"),
    ("gone", None, "No such file"),
]


@pytest.mark.parametrize(("holdings", "words", "complaint"), ACCOUNTS)
def test_an_account_that_makes_no_sense_is_refused(desk, holdings, words, complaint, refused):
    words = ["--orders", "o.csv", "--equity", "1000"] if words is None else list(words)
    words = [str(desk.folder / word) if word.endswith(".csv") else word for word in words]
    if holdings is not None:
        path = desk.folder / "held.csv"
        path.unlink(missing_ok=True)
        if holdings != "gone":
            path.write_text(holdings)
        words += ["--holdings", str(path)]
    refused(desk("--last", 1, *words), complaint)


def test_a_fault_is_named_by_its_row_in_the_file_whatever_was_read(desk, refused):
    folder = desk.folder / "faulty"
    write_bars(desk.frames, folder)
    lines = (folder / "A.csv").read_text().splitlines()
    cells = lines[1151].split(",")
    lines[1151] = ",".join([*cells[:4], f"-{cells[4]}", *cells[5:]])
    (folder / "A.csv").write_text("\n".join(lines) + "\n")
    for last in (["--last", 1], []):
        refused(desk(*last, bars="faulty"), "close must be positive", "row 1150")
