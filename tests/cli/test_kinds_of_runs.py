"""Runs of every kind: folds, classes, networks, volatility, exogenous series."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from standin.commands import copy_run, predicted, read_closes, run, simulate, train_words

from crossattn import align_panel, simulate_market
from crossattn.cli import main
from crossattn.data.files import read_bars


@pytest.fixture
def linked(work, tmp_path):
    """A folder with the bars and no run yet."""
    (tmp_path / "bars").symlink_to(work / "bars")
    return tmp_path


def trained(folder, *words):
    """Train in a folder and return what the command printed."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        assert main(train_words(folder, *words)) == 0
    return told.getvalue()


@pytest.fixture(scope="module")
def walked(work, tmp_path_factory):
    """A run with its walk-forward folds, and what the command printed."""
    folder = copy_run(work, tmp_path_factory.mktemp("walked"), "untouched")
    return folder, trained(folder, "--resume", "--walk-forward")


def test_walk_forward_refits_and_writes_its_folds(walked):
    work, told = walked
    folds = pd.read_csv(work / "run" / "folds.csv", parse_dates=["train_end", "test_start"])
    assert len(folds) == 5 and (folds["train_end"] < folds["test_start"]).all()
    forecasts = pd.read_csv(work / "run" / "walk_forward.csv", index_col="close_time")
    assert list(forecasts) == sorted(read_bars(work / "bars"))
    assert np.isfinite(forecasts.to_numpy()).all()
    assert "5 folds" in told


def test_the_folds_are_traded(walked, tmp_path, refused):
    work, _ = walked
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
    (copy_run(work, tmp_path) / "run" / "walk_forward.csv").unlink()
    again = run(tmp_path, "backtest", "--walk-forward", "--out", tmp_path / "other")
    refused(again, "train --walk-forward")


def test_class_probabilities_are_scored(linked, tmp_path, refused):
    assert main(train_words(linked, "--output-type", "classification", "--epochs", "2")) == 0
    path, page = tmp_path / "run" / "class_scores.csv", tmp_path / "page.html"
    table = pd.read_csv(path, index_col="forecast")
    assert table.index.tolist() == ["network", "frequencies in training"]
    assert table["log_loss"].between(0.8, 1.3).all() and (table["ece"] < 0.3).all()
    assert run(tmp_path, "report", "--out", page) == 0
    text = page.read_text()
    assert "Class probabilities" in text and "<th>ece_by_chance</th>" in text
    path.write_bytes(b"")
    refused(run(tmp_path, "report", "--out", page), "class_scores.csv is damaged")


@pytest.fixture(scope="module")
def network(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    (folder / "bars").symlink_to(work / "bars")
    told = trained(folder, "--d-model", "8", "--n-heads", "2")
    assert "--d-model and --n-heads given, so a network" in told
    return folder


class TestNetwork:
    def test_its_options_train_it(self, network):
        config = json.loads((network / "run" / "config.json").read_text())
        assert config["models"][0]["d_model"] == 8 and "scaler" in config
        assert len((network / "run" / "history.jsonl").read_text().splitlines()) == 3

    @pytest.mark.parametrize(
        "words", ["--d-model 8 --n-models 2", "--output-type portfolio --exogenous none.csv"]
    )
    def test_options_of_the_forecaster_are_refused_by_name(self, linked, refused, words):
        network, _, of_forecaster, _ = words.split()
        code = main(train_words(linked, *words.split()))
        refused(code, f"error: {of_forecaster} is of the forecaster, but {network}")
        assert not (linked / "run").exists()

    def test_a_forecaster_is_not_resumed_as_a_network(self, network, refused):
        refused(main(train_words(network, "--resume")), "another forecaster")


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volatility")
    simulate(folder / "bars", "--scenario", "spillover", "--steps", "6000", "--seed", "2")
    assert main(train_words(folder, "--target", "volatility")) == 0
    return folder


class TestVolatility:
    def test_leadlag_names_the_hub_and_the_report_scores_the_volatilities(
        self, spread, tmp_path, capsys
    ):
        hub = simulate_market("spillover", n_assets=4, n_steps=50, seed=2).edges["leader"][0]
        assert run(spread, "leadlag") == 0
        named = [line.split(" leads ")[0] for line in capsys.readouterr().out.splitlines()]
        assert named.count(hub) >= 2
        assert run(spread, "report", "--out", tmp_path / "r.html") == 0
        page = (tmp_path / "r.html").read_text()
        assert "log volatility" in page and hub in page
        assert "Volatility on unseen bars" in page and "exponential mean" in page
        scores = pd.read_csv(spread / "run" / "volatility.csv", index_col=0)
        table = predicted(spread, tmp_path)
        assert (table.to_numpy() > 0).all() and 0.003 < table.median().median() < 0.012
        closes = align_panel(read_bars(spread / "bars"))["close"]
        realised = np.log(closes).diff().shift(-1).abs().loc[table.index]
        ratio = (realised / table) ** 2
        unseen = ratio.iloc[int(0.7 * len(ratio)) :]
        wanted = (unseen - np.log(unseen) - 1).mean().mean()
        assert scores.loc["forecaster", "qlike"] == pytest.approx(wanted, rel=0.02)
        assert scores.loc["exponential mean", "gain"] < 0

    def test_it_is_verified_and_not_traded(self, spread, tmp_path, refused):
        assert run(spread, "verify") == 0
        refused(run(spread, "backtest", "--out", tmp_path / "out"), "forecasts volatility")

    @pytest.mark.parametrize("words", [("--d-model", "8"), ("--walk-forward",)])
    def test_what_has_no_volatility_is_refused(self, linked, words, refused):
        refused(main(train_words(linked, "--target", "volatility", *words)), "--target")


@pytest.fixture(scope="module")
def survey(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exogenous")
    (folder / "bars").symlink_to(work / "bars")
    following = np.log(read_closes(work / "bars")).diff().mean(axis=1).shift(-1).fillna(0.0)
    noise = np.random.default_rng(0).normal(size=len(following)) * following.std()
    table = pd.DataFrame({"survey": following + noise, "idle": noise[::-1]})
    table.index = (table.index + pd.Timedelta(hours=1)).rename("time")
    table.to_csv(folder / "x.csv", date_format="%Y-%m-%dT%H:%M:%SZ")
    assert main(train_words(folder, "--exogenous", str(folder / "x.csv"))) == 0
    return folder


WRONG_FILES = [
    ("survey\n1\n", "the header lacks time"),
    ("time\n2024-01-01T00:00:00Z\n", "is not a CSV file"),
    ("time,survey\n2024-01-01T09:00,1\n", "line 2: time must be ISO 8601 with a UTC"),
    ("time,survey\n2024-01-01T00:00:00Z,one\n", "line 2: survey must be a number"),
    ("time,other\n2024-01-01T00:00:00Z,1\n", "lacks the run's series survey, idle"),
]


class TestExogenous:
    def test_the_series_is_in_the_run_and_improves_the_forecast(self, survey, tmp_path):
        config = json.loads((survey / "run" / "config.json").read_text())
        assert config["sources"][-2:] == ["survey", "idle"]
        table = predicted(survey, tmp_path, "--exogenous", survey / "x.csv")
        following = read_closes(survey / "bars").pct_change().shift(-1)
        following.index += pd.Timedelta(hours=1)
        late = table.index[-800:-1]
        together = table.loc[late].mean(axis=1), following.loc[late].mean(axis=1)
        assert np.corrcoef(*together)[0, 1] > 0.4

    @pytest.mark.parametrize("last", [(), ("--last", "2")])
    def test_one_that_has_ended_is_named(self, survey, tmp_path, last, capsys):
        lines = (survey / "x.csv").read_text().splitlines(keepends=True)
        for gone, is_named in ((2, False), (3, True)):
            (tmp_path / "x.csv").write_text("".join(lines[:-gone]))
            predicted(survey, tmp_path, "--exogenous", tmp_path / "x.csv", *last)
            told = capsys.readouterr().out
            assert ("x.csv ends 3 h before the newest close" in told) == is_named

    def test_it_is_asked_for_by_name(self, work, survey, tmp_path, refused):
        out = ["--out", tmp_path / "out"]
        refused(run(survey, "predict", *out), "survey, idle: name their file by --exogenous")
        code = run(work, "predict", "--exogenous", survey / "x.csv", *out)
        refused(code, "leave out --exogenous")

    @pytest.mark.parametrize(("text", "reason"), WRONG_FILES)
    def test_a_wrong_file_is_refused(self, survey, tmp_path, text, reason, refused):
        (tmp_path / "x.csv").write_text(text)
        words = ["--exogenous", tmp_path / "x.csv", "--out", tmp_path / "out"]
        refused(run(survey, "predict", *words), reason)


@pytest.mark.parametrize("command", ["predict", "backtest", "leadlag", "verify", "report"])
@pytest.mark.parametrize("kind", ["network", "survey"])
def test_every_command_reads_it(kind, command, request, tmp_path):
    folder = request.getfixturevalue(kind)
    words = ["--out", tmp_path / "out"] if command != "verify" else []
    if kind == "survey" and command != "report":
        words += ["--exogenous", folder / "x.csv"]
    assert run(folder, command, *words) == 0
