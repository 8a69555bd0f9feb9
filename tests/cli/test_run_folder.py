"""The commands one after the other on a small simulated market, as a practitioner would."""

import base64
import hashlib
import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from standin.processes import kill_until_done

from crossattn import align_panel, backtest_weights, simulate_market
from crossattn.cli import main
from crossattn.data.files import read_bars, write_bars


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    words = ["simulate", "--assets", "4", "--steps", "3000", "--seed", "3"]
    assert main([*words, "--out", str(folder / "bars")]) == 0
    assert main(train_words(folder)) == 0
    return folder


def train_words(folder, *more):
    bars, run = str(folder / "bars"), str(folder / "run")
    words = ["train", "--data", bars, "--run", run, "--lookback", "24", "--horizon", "1"]
    return [*words, "--epochs", "3", "--device", "cpu", *more]


def run(work, command, *words):
    return main([command, "--run", str(work / "run"), "--data", str(work / "bars"), *words])


def test_simulate_writes_bars_that_read_back(work):
    frames = read_bars(work / "bars")
    assert len(frames) == 4 and all(len(frame) == 3000 for frame in frames.values())


def test_the_run_folder_holds_what_is_promised(work):
    run_dir = work / "run"
    config = json.loads((run_dir / "config.json").read_text())
    assert config["symbols"] == sorted(read_bars(work / "bars"))
    assert config["lookback"] == 24 and config["horizon"] == 1
    assert config["features"][0] == "log_return" and "scaler" in config
    lines = (run_dir / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert b"/" not in (run_dir / "model.safetensors").read_bytes()[:200]
    for name in ("loss", "attention", "leaders"):
        assert (run_dir / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_run_is_refused_and_resumed_unchanged(work, capsys):
    before = {p: p.read_bytes() for p in (work / "run").glob("*.*")}
    assert main(train_words(work)) == 2
    assert "error:" in capsys.readouterr().err
    assert main(train_words(work, "--resume")) == 0
    assert {p: p.read_bytes() for p in (work / "run").glob("*.*")} == before


def test_walk_forward_refits_and_writes_its_folds(work, capsys):
    assert main(train_words(work, "--resume", "--walk-forward")) == 0
    folds = pd.read_csv(work / "run" / "folds.csv")
    assert len(folds) == 5
    train_end, test_start = (pd.to_datetime(folds[c]) for c in ("train_end", "test_start"))
    assert (train_end < test_start).all()
    forecasts = pd.read_csv(work / "run" / "walk_forward.csv", index_col="close_time")
    assert list(forecasts) == sorted(read_bars(work / "bars"))
    assert np.isfinite(forecasts.to_numpy()).all()
    assert "5 folds" in capsys.readouterr().out


def test_the_folds_are_traded(work, tmp_path, capsys):
    assert main(train_words(work, "--resume", "--walk-forward")) == 0
    options = ["--rebalance-freq", "4", "--allow-short"]
    assert run(work, "backtest", "--walk-forward", "--out", str(tmp_path), *options) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    forecasts = pd.read_csv(work / "run" / "walk_forward.csv", index_col="close_time")
    assert metrics["bars"] == len(forecasts) and metrics["bars_seen_in_training"] == 0
    assert pd.Timestamp(metrics["start"]) == pd.Timestamp(forecasts.index[0])
    trades = pd.read_csv(tmp_path / "trades.csv")
    first = trades[trades["time"] == trades["time"].iloc[0]].set_index("symbol")["shares"]
    held = forecasts.iloc[0][first.index]
    assert len(first) and (np.sign(first) == np.sign(held)).all()
    shutil.copytree(work / "run", tmp_path / "run")
    (tmp_path / "run" / "walk_forward.csv").unlink()
    words = ["--run", str(tmp_path / "run"), "--data", str(work / "bars"), "--walk-forward"]
    assert main(["backtest", *words, "--out", str(tmp_path / "other")]) == 2
    assert "train --walk-forward" in capsys.readouterr().err


def test_resume_with_other_bars_is_refused(work, tmp_path, capsys):
    assert main(["simulate", "--out", str(tmp_path), "--assets", "4", "--steps", "1400"]) == 0
    words = train_words(work, "--resume")
    words[words.index("--data") + 1] = str(tmp_path)
    assert main(words) == 2
    assert "error:" in capsys.readouterr().err


def test_predict_gives_every_window_the_newest_included(work, tmp_path):
    out = tmp_path / "forecast.csv"
    assert run(work, "predict", "--out", str(out)) == 0
    table = pd.read_csv(out, index_col="close_time", parse_dates=True)
    frames = read_bars(work / "bars")
    assert list(table.columns) == sorted(frames)
    last_open = next(iter(frames.values())).index[-1]
    assert table.index[-1] == last_open + pd.Timedelta(hours=1)
    assert np.isfinite(table.to_numpy()).all()


def test_predict_does_not_depend_on_later_bars(work, tmp_path):
    frames = read_bars(work / "bars")
    write_bars({symbol: frame.iloc[:-100] for symbol, frame in frames.items()}, tmp_path / "cut")
    assert run(work, "predict", "--out", str(tmp_path / "all.csv")) == 0
    words = ["predict", "--run", str(work / "run"), "--data", str(tmp_path / "cut")]
    assert main([*words, "--out", str(tmp_path / "cut.csv")]) == 0
    whole, cut = (pd.read_csv(tmp_path / name, index_col=0) for name in ("all.csv", "cut.csv"))
    assert len(whole) == len(cut) + 100
    np.testing.assert_allclose(whole.loc[cut.index], cut, rtol=1e-4, atol=1e-9)


def test_leadlag_writes_every_ordered_pair(work, tmp_path, capsys):
    out = tmp_path / "edges.csv"
    assert run(work, "leadlag", "--out", str(out)) == 0
    edges = pd.read_csv(out)
    assert len(edges) == 4 * 3
    assert edges["q_value"].between(0, 1).all() and (edges["leader"] != edges["follower"]).all()
    said = capsys.readouterr().out
    assert ("nobody leads" in said) == (not edges["significant"].any())


def test_backtest_writes_equity_that_adds_up(work, tmp_path, capsys):
    out = tmp_path / "backtest"
    words = ["--transaction-cost", "0.0005", "--rebalance-freq", "4", "--allow-short"]
    assert run(work, "backtest", "--out", str(out), *words) == 0
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
    closes = {symbol: frame["close"] for symbol, frame in read_bars(work / "bars").items()}
    opens = pd.to_datetime(trades["time"]) - pd.Timedelta(hours=1)
    known = [closes[symbol][time] for symbol, time in zip(trades["symbol"], opens, strict=True)]
    np.testing.assert_allclose(trades["price"], known, rtol=1e-12)
    np.testing.assert_allclose(trades["shares"] * trades["price"], trades["value"], rtol=1e-12)
    prices = pd.DataFrame(closes)  # the same span, costs and decisions, by the engine alone
    prices = prices.set_axis(prices.index + pd.Timedelta(hours=1))[metrics["start"] :]
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


def test_report_is_one_page_without_requests(work, tmp_path):
    out = tmp_path / "report.html"
    assert main(["report", "--run", str(work / "run"), "--out", str(out)]) == 0
    page = out.read_text()
    assert set(re.findall(r"\w+://[^\s\"']+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a namespace
    assert page.count("<script") == 2  # the explorer's data and its code, which alone is allowed
    code = page.rsplit("<script>", 1)[1].split("</script>")[0].encode()
    allowed = base64.b64encode(hashlib.sha256(code).digest()).decode()
    assert f"script-src 'sha256-{allowed}'\">" in page
    assert page.count("data:image/png;base64,") == 5
    assert "drawdown" in page and "<th>break_even_cost</th>" in page and "equal weight" in page
    assert "SHA-256" in page


@pytest.mark.parametrize("damage", ["", "[]", '{"symbols": ["A"]}', None])
def test_a_damaged_attention_file_is_named(work, tmp_path, capsys, damage):
    shutil.copytree(work / "run", tmp_path / "run")
    kept = tmp_path / "run" / "attention.json"
    content = json.loads(kept.read_text()) | {"times": ["now"]}
    kept.write_text(json.dumps(content) if damage is None else damage)
    out = tmp_path / "report.html"
    assert main(["report", "--run", str(tmp_path / "run"), "--out", str(out)]) == 2
    assert "attention.json is damaged" in capsys.readouterr().err


def test_verify_passes_an_honest_run(work, capsys):
    assert run(work, "verify") == 0
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("NA", "null"), ("0700", "1e5"), ("TRUE", "nan")])
def test_a_symbol_that_looks_like_another_value_stays_a_text(work, tmp_path, names):
    shutil.copytree(work / "run", tmp_path / "run")
    edge = f"{names[0]},{names[1]},3,0.25,0.001,0.001,True"
    header = "leader,follower,lag,effect,p_value,q_value,significant"
    (tmp_path / "run" / "lead_lag.csv").write_text(f"{header}\n{edge}\n")
    out = tmp_path / "report.html"
    assert main(["report", "--run", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert f"<tr><th>{names[0]}</th><td>{names[1]}</td><td>3</td><td>0.25</td>" in out.read_text()


def test_class_probabilities_are_scored(work, tmp_path, capsys):
    words = ["train", "--data", str(work / "bars"), "--run", str(tmp_path / "run")]
    words += ["--lookback", "24", "--horizon", "1", "--output-type", "classification"]
    assert main([*words, "--epochs", "2", "--device", "cpu"]) == 0
    path, page = tmp_path / "run" / "class_scores.csv", tmp_path / "page.html"
    table = pd.read_csv(path, index_col="forecast")
    assert table.index.tolist() == ["network", "frequencies in training"]
    assert table["log_loss"].between(0.8, 1.3).all() and (table["ece"] < 0.3).all()
    words = ["report", "--run", str(tmp_path / "run"), "--out", str(page)]
    assert main(words) == 0
    assert (
        "Class probabilities" in page.read_text() and "<th>ece_by_chance</th>" in page.read_text()
    )
    path.write_bytes(b"")
    assert main(words) == 2 and "class_scores.csv is damaged" in capsys.readouterr().err


def test_a_run_folder_may_have_any_name(work, tmp_path, monkeypatch):
    folder = tmp_path / "\udcff"  # a byte that is no UTF-8
    shutil.copytree(work / "run", folder)
    monkeypatch.chdir(folder)
    assert main(["report", "--run", ".", "--out", "page.html"]) == 0
    assert "<title>Run \\udcff</title>" in (folder / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bars.json", lambda data: data.replace(b"2022", b"2021", 1)),
        ("bars.json", lambda data: data[: len(data) // 2]),
        ("bars.json", lambda data: b'{"seen_until": "2022-01-01"}'),
        ("bars.json", lambda data: b"[" * 100_000),
        ("figures/attention.png", lambda data: data[:-20]),
        ("figures/leaders.png", lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:]),
        ("figures/loss.png", lambda data: b""),
        ("lead_lag.csv", lambda data: data[:20]),
    ],
)
def test_a_damaged_file_of_a_run_is_refused(work, tmp_path, capsys, name, change):
    shutil.copytree(work / "run", tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_bytes(change(path.read_bytes()))
    words = ["report", "--run", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]
    assert main(words) == 2
    assert f"{path} is damaged" in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_a_saved_forecaster_forecasts_without_a_run(work, tmp_path):
    from crossattn import CrossAttentionForecaster

    CrossAttentionForecaster.load(work / "run").save(tmp_path / "saved")
    words = ["predict", "--run", str(tmp_path / "saved"), "--data", str(work / "bars")]
    assert main([*words, "--out", str(tmp_path / "saved.csv")]) == 0
    assert run(work, "predict", "--out", str(tmp_path / "run.csv")) == 0
    assert (tmp_path / "saved.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def files_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_killed_run_ends_byte_for_byte_as_one_that_was_not(work, tmp_path):
    torch.set_num_threads(1)  # a forked child cannot use its parent's threads
    (tmp_path / "bars").symlink_to(work / "bars")
    assert main(train_words(tmp_path)) == 0
    expected = files_of(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    words = train_words(tmp_path, "--resume")
    landed = kill_until_done(lambda: os._exit(main(words)), seed=1, kills=6, longest=1.0)
    assert landed >= 1
    assert files_of(tmp_path / "run") == expected


@pytest.mark.parametrize("missing", ["config.json", "bars.json"])
def test_a_run_stopped_between_two_files_is_finished(work, tmp_path, missing, capsys):
    (tmp_path / "bars").symlink_to(work / "bars")
    assert main(train_words(tmp_path)) == 0
    expected = files_of(tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    assert run(tmp_path, "leadlag") == 2 and missing in capsys.readouterr().err
    assert main(train_words(tmp_path, "--resume")) == 0
    assert files_of(tmp_path / "run") == expected


@pytest.fixture(scope="module")
def network(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    (folder / "bars").symlink_to(work / "bars")
    assert main(train_words(folder, "--d-model", "8", "--n-heads", "2")) == 0
    return folder


class TestNetwork:
    def test_its_options_train_it_and_say_so(self, network, tmp_path, capsys):
        shutil.rmtree(network / "run")
        assert main(train_words(network, "--d-model", "8", "--n-heads", "2")) == 0
        assert "--d-model and --n-heads given, so a network" in capsys.readouterr().out
        config = json.loads((network / "run" / "config.json").read_text())
        assert config["models"][0]["d_model"] == 8 and "scaler" in config
        assert len((network / "run" / "history.jsonl").read_text().splitlines()) == 3

    @pytest.mark.parametrize("command", ["predict", "backtest", "leadlag", "verify", "report"])
    def test_every_command_reads_it(self, network, tmp_path, command, capsys):
        out = ["--out", str(tmp_path / "out")] if command != "verify" else []
        bars = ["--data", str(network / "bars")] if command != "report" else []
        assert main([command, "--run", str(network / "run"), *bars, *out]) == 0

    @pytest.mark.parametrize(
        "words",
        [
            ("--d-model", "8", "--n-models", "2"),
            ("--output-type", "portfolio", "--exogenous", "none.csv"),
        ],
    )
    def test_options_of_the_forecaster_are_refused_by_name(self, work, tmp_path, capsys, words):
        (tmp_path / "bars").symlink_to(work / "bars")
        assert main(train_words(tmp_path, *words)) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {words[2]} is of the forecaster, but {words[0]}")
        assert not (tmp_path / "run").exists()

    def test_a_forecaster_is_not_resumed_as_a_network(self, network, capsys):
        assert main(train_words(network, "--resume")) == 2
        assert "another forecaster" in capsys.readouterr().err


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volatility")
    words = ["simulate", "--scenario", "spillover", "--assets", "4", "--steps", "6000"]
    assert main([*words, "--seed", "2", "--out", str(folder / "bars")]) == 0
    assert main(train_words(folder, "--target", "volatility")) == 0
    return folder


class TestVolatility:
    def test_forecasts_are_volatilities(self, spread, tmp_path):
        assert run(spread, "predict", "--out", str(tmp_path / "forecast.csv")) == 0
        table = pd.read_csv(tmp_path / "forecast.csv", index_col=0)
        assert (table.to_numpy() > 0).all() and 0.003 < table.median().median() < 0.012

    def test_leadlag_names_the_hub_and_the_report_shows_it(self, spread, tmp_path, capsys):
        hub = simulate_market("spillover", n_assets=4, n_steps=50, seed=2).edges["leader"][0]
        assert run(spread, "leadlag") == 0
        named = [line.split(" leads ")[0] for line in capsys.readouterr().out.splitlines()]
        assert named.count(hub) >= 2
        assert (
            main(["report", "--run", str(spread / "run"), "--out", str(tmp_path / "r.html")]) == 0
        )
        page = (tmp_path / "r.html").read_text()
        assert "log volatility" in page and hub in page
        assert "Volatility on unseen bars" in page and "exponential mean" in page
        scores = pd.read_csv(spread / "run" / "volatility.csv", index_col=0)
        assert run(spread, "predict", "--out", str(tmp_path / "f.csv")) == 0
        table = pd.read_csv(tmp_path / "f.csv", index_col=0, parse_dates=True)
        closes = align_panel(read_bars(spread / "bars"))["close"]
        realised = np.log(closes).diff().shift(-1).abs().loc[table.index]
        ratio = (realised / table) ** 2
        unseen = ratio.iloc[int(0.7 * len(ratio)) :]
        wanted = (unseen - np.log(unseen) - 1).mean().mean()
        assert scores.loc["forecaster", "qlike"] == pytest.approx(wanted, rel=0.02)
        assert scores.loc["exponential mean", "gain"] < 0

    def test_it_is_verified_and_not_traded(self, spread, tmp_path, capsys):
        assert run(spread, "verify") == 0
        assert run(spread, "backtest", "--out", str(tmp_path / "out")) == 2
        assert "forecasts volatility" in capsys.readouterr().err

    @pytest.mark.parametrize("words", [("--d-model", "8"), ("--walk-forward",)])
    def test_what_has_no_volatility_is_refused(self, work, tmp_path, words, capsys):
        (tmp_path / "bars").symlink_to(work / "bars")
        assert main(train_words(tmp_path, "--target", "volatility", *words)) == 2
        assert "--target" in capsys.readouterr().err


@pytest.fixture(scope="module")
def survey(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exogenous")
    (folder / "bars").symlink_to(work / "bars")
    frames = read_bars(work / "bars")
    closes = pd.DataFrame({symbol: frame["close"] for symbol, frame in frames.items()})
    following = np.log(closes).diff().mean(axis=1).shift(-1).fillna(0.0)
    noise = np.random.default_rng(0).normal(size=len(following)) * following.std()
    table = pd.DataFrame({"survey": following + noise, "idle": noise[::-1]})
    table.index = (table.index + pd.Timedelta(hours=1)).rename("time")
    table.to_csv(folder / "x.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
    assert main(train_words(folder, "--exogenous", str(folder / "x.csv"))) == 0
    return folder


class TestExogenous:
    def test_the_series_is_in_the_run_and_improves_the_forecast(self, survey, tmp_path):
        config = json.loads((survey / "run" / "config.json").read_text())
        assert config["sources"][-2:] == ["survey", "idle"]
        out = tmp_path / "x.csv"
        words = ["--exogenous", str(survey / "x.csv"), "--out", str(out)]
        assert run(survey, "predict", *words) == 0
        table = pd.read_csv(out, index_col="close_time", parse_dates=True)
        closes = {symbol: frame["close"] for symbol, frame in read_bars(survey / "bars").items()}
        following = pd.DataFrame(closes).pct_change().shift(-1)
        following.index += pd.Timedelta(hours=1)
        late = table.index[-800:-1]
        together = table.loc[late].mean(axis=1), following.loc[late].mean(axis=1)
        assert np.corrcoef(*together)[0, 1] > 0.4

    @pytest.mark.parametrize("command", ["leadlag", "backtest", "verify"])
    def test_every_command_takes_it(self, survey, tmp_path, command):
        out = ["--out", str(tmp_path / "out")] if command != "verify" else []
        assert run(survey, command, "--exogenous", str(survey / "x.csv"), *out) == 0

    def test_it_is_asked_for_by_name(self, work, survey, tmp_path, capsys):
        out = ["--out", str(tmp_path / "out")]
        assert run(survey, "predict", *out) == 2
        assert "survey, idle: name their file by --exogenous" in capsys.readouterr().err
        assert run(work, "predict", "--exogenous", str(survey / "x.csv"), *out) == 2
        assert "leave out --exogenous" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("survey\n1\n", "the header lacks time"),
            ("time\n2024-01-01T00:00:00Z\n", "is not a CSV file"),
            ("time,survey\n2024-01-01T09:00,1\n", "line 2: time must be ISO 8601 with a UTC"),
            ("time,survey\n2024-01-01T00:00:00Z,one\n", "line 2: survey must be a number"),
            ("time,other\n2024-01-01T00:00:00Z,1\n", "lacks the run's series survey, idle"),
        ],
    )
    def test_a_wrong_file_is_refused(self, survey, tmp_path, text, reason, capsys):
        (tmp_path / "x.csv").write_text(text)
        words = ["--exogenous", str(tmp_path / "x.csv"), "--out", str(tmp_path / "out")]
        assert run(survey, "predict", *words) == 2
        assert reason in capsys.readouterr().err


def test_a_symbol_without_a_bar_has_an_empty_cell_and_no_order(work, tmp_path):
    frames = read_bars(work / "bars")
    symbol = next(iter(frames))
    closed = slice(-700, -640)  # out of sample
    gone = frames[symbol].index[closed]
    write_bars({**frames, symbol: frames[symbol].drop(gone)}, tmp_path / "bars")
    words = ["--run", str(work / "run"), "--data", str(tmp_path / "bars"), "--out"]
    assert main(["predict", *words, str(tmp_path / "x.csv")]) == 0
    table = pd.read_csv(tmp_path / "x.csv", index_col="close_time", parse_dates=True)
    empty = table.loc[gone + pd.Timedelta(hours=1)].isna()
    assert empty[symbol].all() and not empty.drop(columns=symbol).any(axis=None)
    assert main(["backtest", *words, str(tmp_path / "bt"), "--rebalance-freq", "1"]) == 0
    trades = pd.read_csv(tmp_path / "bt" / "trades.csv", parse_dates=["time"])
    during = trades[trades["time"].isin(gone + pd.Timedelta(hours=1))]
    assert len(during) and symbol not in set(during["symbol"])


def test_durations_on_mixed_sessions(tmp_path, capsys):
    words = ["simulate", "--assets", "3", "--steps", "1500", "--seed", "3"]
    assert main([*words, "--out", str(tmp_path / "bars")]) == 0
    frames = read_bars(tmp_path / "bars")
    *coins, stock = frames
    index = frames[stock].index
    frames[stock] = frames[stock][(index.hour >= 13) & (index.hour < 20) & (index.day_of_week < 5)]
    frames[stock] = frames[stock].set_index(frames[stock].index + pd.Timedelta("30min"))
    write_bars(frames, tmp_path / "bars")
    words = ["train", "--data", str(tmp_path / "bars"), "--run", str(tmp_path / "run")]
    words += ["--epochs", "1", "--n-models", "1", "--lookback", "2d"]
    assert main(words) == 2
    assert f"{stock} never close together" in capsys.readouterr().err
    assert main([*words, "--horizon", "24h", "--how", "common"]) == 2
    assert "never close all together" in capsys.readouterr().err
    assert main([*words, "--horizon", "24h"]) == 0
    printed = capsys.readouterr().out
    assert "horizon: 24 h (at most 31 bars): 1 h to 24 h" in printed
    assert f"known targets, of the symbol's bars: {stock} 9" in printed
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["duration"] == "1 days 00:00:00" and config["lookback"] == 48 + 2 * 7
    out = tmp_path / "forecasts.csv"
    assert run(tmp_path, "predict", "--out", str(out)) == 0
    forecasts = pd.read_csv(out, index_col="close_time", parse_dates=True)
    closed = forecasts.index.minute == 0
    assert forecasts[stock].notna().tolist() == (~closed).tolist()
    assert forecasts[coins].notna().all(axis=1).tolist() == closed.tolist()
    words = ["--out", str(tmp_path / "out"), "--rebalance-freq", "24h", "--allow-short"]
    assert run(tmp_path, "backtest", *words) == 0
    assert "rebalance_freq: 24 h" in capsys.readouterr().out
    assert run(tmp_path, "verify") == run(tmp_path, "leadlag") == 0
    page = ["--out", str(tmp_path / "page.html")]
    assert main(["report", "--run", str(tmp_path / "run"), *page]) == 0
    assert "at most 31 bars" in (tmp_path / "page.html").read_text()


def test_forecasts_are_dated_to_the_fraction_of_a_second(work, tmp_path):
    frames = read_bars(work / "bars")
    for frame in frames.values():
        frame["close_time"] = frame.index + pd.Timedelta(hours=1) - pd.Timedelta(1, "ms")
    write_bars(frames, tmp_path / "bars")
    words = ["--run", str(work / "run"), "--data", str(tmp_path / "bars")]
    assert main(["predict", *words, "--out", str(tmp_path / "x.csv")]) == 0
    times = pd.to_datetime(pd.read_csv(tmp_path / "x.csv")["close_time"])
    assert times.iloc[-1] == next(iter(frames.values()))["close_time"].iloc[-1]


def test_symbols_that_the_run_does_not_know_are_named(work, tmp_path, capsys):
    frames = read_bars(work / "bars")
    first = next(iter(frames))
    renamed = {("ZZZ" if symbol == first else symbol): f for symbol, f in frames.items()}
    write_bars(renamed, tmp_path / "other")
    words = ["predict", "--run", str(work / "run"), "--data", str(tmp_path / "other")]
    assert main([*words, "--out", str(tmp_path / "x.csv")]) == 2
    assert first in capsys.readouterr().err and not (tmp_path / "x.csv").exists()


def test_a_damaged_run_is_refused(work, tmp_path, capsys):
    shutil.copytree(work / "run", tmp_path / "run")
    weights = tmp_path / "run" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    words = ["predict", "--run", str(tmp_path / "run"), "--data", str(work / "bars")]
    assert main([*words, "--out", str(tmp_path / "x.csv")]) == 2
    assert capsys.readouterr().err.startswith("error:")
