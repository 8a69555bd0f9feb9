"""Commands that read a finished run: predict, leadlag, backtest, report, verify."""

import base64
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from standin.commands import copy_run, files_of, predicted, read_closes, run, simulate

from crossattn import CrossAttentionForecaster, backtest_weights
from crossattn.cli import main
from crossattn.data.files import read_bars, write_bars


def test_predict_gives_every_window_the_newest_included(work, tmp_path):
    table, frames = predicted(work, tmp_path), read_bars(work / "bars")
    assert list(table.columns) == sorted(frames)
    last_open = next(iter(frames.values())).index[-1]
    assert table.index[-1] == last_open + pd.Timedelta(hours=1)
    assert np.isfinite(table.to_numpy()).all()


def test_leadlag_writes_every_ordered_pair(work, tmp_path, capsys):
    out = tmp_path / "edges.csv"
    assert run(work, "leadlag", "--out", out) == 0
    edges = pd.read_csv(out)
    assert len(edges) == 4 * 3
    assert edges["q_value"].between(0, 1).all() and (edges["leader"] != edges["follower"]).all()
    said = capsys.readouterr().out
    assert ("nobody leads" in said) == (not edges["significant"].any())


def test_backtest_writes_equity_that_adds_up(work, tmp_path, capsys):
    out = tmp_path / "backtest"
    words = ["--transaction-cost", "0.0005", "--rebalance-freq", "4", "--allow-short"]
    assert run(work, "backtest", "--out", out, *words) == 0
    equity = pd.read_csv(out / "equity.csv")
    capital = 100_000 * (1 + equity["return"]).cumprod()
    np.testing.assert_allclose(capital, equity["capital"], rtol=1e-10)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["total_return"] == pytest.approx(equity["capital"].iloc[-1] / 100_000 - 1)
    assert metrics["bars_seen_in_training"] == 0
    assert metrics["start"] == pd.to_datetime(equity["timestamp"]).iloc[0].isoformat()
    assert metrics["bars"] == len(equity) - 1
    assert metrics["sharpe_ratio_low"] < metrics["sharpe_ratio"] < metrics["sharpe_ratio_high"]
    assert metrics["average_turnover"] == pytest.approx(equity["turnover"].mean())
    trades = pd.read_csv(out / "trades.csv")
    assert metrics["n_trades"] == len(trades) and 0 < metrics["gross_exposure"] <= 1
    gain = equity["capital"].iloc[-1] - 100_000 + trades["cost"].sum()
    assert metrics["break_even_cost"] == pytest.approx(gain / trades["value"].abs().sum())
    assert trades["cost"].sum() == pytest.approx(equity["cost"].sum())
    prices = read_closes(work / "bars")
    prices.index += pd.Timedelta(hours=1)
    times = pd.to_datetime(trades["time"])
    known = [prices.loc[time, symbol] for symbol, time in zip(trades["symbol"], times, strict=True)]
    np.testing.assert_allclose(trades["price"], known, rtol=1e-12)
    np.testing.assert_allclose(trades["shares"] * trades["price"], trades["value"], rtol=1e-12)
    prices = prices[metrics["start"] :]  # this span, costs and decisions, by the engine alone
    even = pd.DataFrame(0.25, prices.index[:-1:4], prices.columns)
    equal = backtest_weights(even, prices, transaction_cost=0.0005).metrics()
    for name in ("total_return", "sharpe_ratio", "max_drawdown", "total_costs"):
        assert metrics[f"benchmark_{name}"] == pytest.approx(equal[name], rel=1e-9)
    said = capsys.readouterr().out
    assert f"(equal weight {equal['total_return']:.6g})" in said and "break_even_cost" in said
    assert (out / "equity.png").read_bytes().startswith(b"\x89PNG")


def test_backtest_warns_where_it_covers_training_bars(work, tmp_path, capsys):
    words = ["--out", str(tmp_path), "--start", "2000-01-01", "--end", "2099-01-01"]
    assert run(work, "backtest", *words) == 0
    assert "seen in training" in capsys.readouterr().out


def test_a_date_as_end_is_all_of_its_day(work, tmp_path):
    last = next(iter(read_bars(work / "bars").values())).index[-1]
    day = (last - pd.Timedelta("3D")).normalize()
    for name, end in (("date", day.date()), ("time", f"{day.date()}T23:00")):
        words = ["--out", tmp_path / name, "--start", day.date(), "--end", end]
        assert run(work, "backtest", *words) == 0
    date, time = (pd.read_csv(tmp_path / name / "equity.csv") for name in ("date", "time"))
    assert date.equals(time) and len(date) == 25
    assert pd.Timestamp(date["timestamp"].iloc[-1]) == day + pd.Timedelta("1D")


def test_report_is_one_page_without_requests(work, tmp_path, capsys):
    out = tmp_path / "report.html"
    assert run(work, "report", "--out", out) == 0
    assert capsys.readouterr().err == ""
    page = out.read_text()
    namespace = "http://www.w3.org/2000/svg"
    assert set(re.findall(r"\b\w+://[^\s\"']+", page)) == {namespace}
    assert page.count("<script") == 2  # the explorer's data and its code, which alone is allowed
    code = page.rsplit("<script>", 1)[1].split("</script>")[0].encode()
    allowed = base64.b64encode(hashlib.sha256(code).digest()).decode()
    assert f"script-src 'sha256-{allowed}'\">" in page
    figures = list((work / "run" / "figures").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(figures) >= 4
    assert "drawdown" in page and "<th>break_even_cost</th>" in page and "equal weight" in page
    assert "SHA-256" in page


OVER_INPUTS = [
    *("predict --out run/config.json", "predict --out link", "leadlag --out run/bars.json"),
    *("leadlag --out x.csv --exogenous x.csv", "report --out run/history.jsonl"),
    *("backtest --start 2000-01-01 --out run", "backtest --out run/figures"),
]


@pytest.mark.parametrize("words", OVER_INPUTS)
def test_results_never_replace_what_a_command_reads(work, tmp_path, words, refused, monkeypatch):
    copy_run(work, tmp_path)
    (tmp_path / "link").symlink_to("run/bars.json")
    monkeypatch.chdir(tmp_path)
    before = files_of(tmp_path / "run")
    command, *words = words.split()
    refused(run(tmp_path, command, *words), "would replace or join what is read")
    assert files_of(tmp_path / "run") == before


def test_bars_seen_in_training_are_no_unseen_ones(work, tmp_path):
    copy_run(work, tmp_path)
    words = ["--out", tmp_path, "--start", "2000-01-01"]
    assert run(tmp_path, "backtest", *words) == 0
    (tmp_path / "metrics.json").replace(tmp_path / "run" / "metrics.json")
    assert run(tmp_path, "report", "--out", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "were seen in training" in page and "unseen bars, 20" not in page


def test_verify_passes_an_honest_run(work, capsys):
    assert run(work, "verify") == 0
    assert "passed" in capsys.readouterr().out


def test_a_saved_forecaster_forecasts_without_a_run(work, tmp_path):
    CrossAttentionForecaster.load(work / "run").save(tmp_path / "saved")
    words = ["predict", "--run", str(tmp_path / "saved"), "--data", str(work / "bars")]
    assert main([*words, "--out", str(tmp_path / "saved.csv")]) == 0
    predicted(work, tmp_path)
    assert (tmp_path / "saved.csv").read_bytes() == (tmp_path / "forecasts.csv").read_bytes()


def test_a_symbol_without_a_bar_has_an_empty_cell_and_no_order(work, tmp_path):
    frames = read_bars(work / "bars")
    symbol = next(iter(frames))
    closed = slice(-700, -640)  # out of sample
    gone = frames[symbol].index[closed]
    bars = tmp_path / "bars"
    write_bars({**frames, symbol: frames[symbol].drop(gone)}, bars)
    empty = predicted(work, tmp_path, bars=bars).loc[gone + pd.Timedelta(hours=1)].isna()
    assert empty[symbol].all() and not empty.drop(columns=symbol).any(axis=None)
    assert run(work, "backtest", "--out", tmp_path / "bt", "--rebalance-freq", 1, bars=bars) == 0
    trades = pd.read_csv(tmp_path / "bt" / "trades.csv", parse_dates=["time"])
    during = trades[trades["time"].isin(gone + pd.Timedelta(hours=1))]
    assert len(during) and symbol not in set(during["symbol"])


def test_durations_on_mixed_sessions(tmp_path, capsys, refused):
    simulate(tmp_path / "bars", "--assets", "3", "--steps", "1500", "--seed", "3")
    frames = read_bars(tmp_path / "bars")
    *coins, stock = frames
    index = frames[stock].index
    open_hours = (index.hour >= 13) & (index.hour < 20) & (index.day_of_week < 5)
    frames[stock] = frames[stock][open_hours].shift(freq="30min")
    write_bars(frames, tmp_path / "bars")
    words = ["train", "--data", str(tmp_path / "bars"), "--run", str(tmp_path / "run")]
    words += ["--epochs", "1", "--n-models", "1", "--lookback", "2d"]
    refused(main(words), f"{stock} never close together")
    refused(main([*words, "--horizon", "24h", "--how", "common"]), "never close all together")
    assert main([*words, "--horizon", "24h"]) == 0
    printed = capsys.readouterr().out
    assert "horizon: 24 h (at most 31 bars): 1 h to 24 h" in printed
    assert f"known targets, of the symbol's bars: {stock} 9" in printed
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["duration"] == "1 days 00:00:00" and config["lookback"] == 48 + 2 * 7
    forecasts = predicted(tmp_path, tmp_path)
    closed = forecasts.index.minute == 0
    assert forecasts[stock].notna().tolist() == (~closed).tolist()
    assert forecasts[coins].notna().all(axis=1).tolist() == closed.tolist()
    words = ["--rebalance-freq", "24h", "--allow-short"]
    assert run(tmp_path, "backtest", "--out", tmp_path / "out", *words) == 0
    assert "rebalance_freq: 24 h" in capsys.readouterr().out
    assert run(tmp_path, "verify") == run(tmp_path, "leadlag") == 0
    assert run(tmp_path, "report", "--out", tmp_path / "page.html") == 0
    assert "at most 31 bars" in (tmp_path / "page.html").read_text()


def test_forecasts_are_dated_to_the_fraction_of_a_second(work, tmp_path):
    frames = read_bars(work / "bars")
    for frame in frames.values():
        frame["close_time"] = frame.index + pd.Timedelta(hours=1) - pd.Timedelta(1, "ms")
    write_bars(frames, tmp_path / "bars")
    times = predicted(work, tmp_path, bars=tmp_path / "bars").index
    assert times[-1] == next(iter(frames.values()))["close_time"].iloc[-1]
