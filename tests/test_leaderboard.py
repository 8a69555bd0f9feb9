"""LeadLagBench: scores by independent arithmetic, restarts, refusals, and the command."""

import json

import numpy as np
import pandas as pd
import pytest

from crossattn.cli import main
from crossattn.evidence.leadlag import make_report
from crossattn.leaderboard import (
    MODELS,
    SEEDS,
    Protocol,
    _edge_scores,
    lead_lag_bench,
    leaderboard,
    read_results,
)
from crossattn.simulate.market import simulate_market

SMALL = Protocol(n_assets=3, n_steps=900)
MARKET = {"n_assets": 3, "n_steps": 900, "predictability": SMALL.predictability}


class Oracle:
    """Knows the planted truth: the best possible entry."""

    scenario = "static"

    def __init__(self, seed):
        self.market = simulate_market(self.scenario, **MARKET, seed=seed)

    def fit(self, train, val):
        return self

    def predict(self, data):
        return self.market.oracle[data.ends]

    def lead_lag(self, data, alpha):
        symbols, edges = list(self.market.frames), self.market.edges
        p, lag = np.ones((3, 3)), np.ones((3, 3), int)
        for edge in edges.itertuples():
            place = symbols.index(edge.follower), symbols.index(edge.leader)
            p[place], lag[place] = 1e-6, edge.lag
        facts = {"effect": -p, "alpha": alpha, "method": "oracle", "n_windows": len(data)}
        return make_report(tuple(symbols), lag=lag, p_value=p, **facts)


class OfVariance(Oracle):
    scenario = "spillover"


class Broken(Oracle):
    def predict(self, data):
        raise RuntimeError("no forecast today")


class Constant:
    def __init__(self, value):
        self.value = value

    def fit(self, train, val):
        return self

    def predict(self, data):
        return np.full(data.y.shape, self.value)


def test_the_oracle_scores_best_and_a_failure_is_a_row():
    models = {"oracle": Oracle, "zero": MODELS["zero"], "broken": Broken}
    table = lead_lag_bench(models, ["static"], seeds=2, protocol=SMALL)
    oracle = table[table["model"] == "oracle"]
    assert (oracle["fidelity"] == 1).all()
    assert (oracle["r_squared"] > 0.01).all() and oracle["r_squared_error"].between(0, 0.03).all()
    assert (oracle[["lags_right", "power"]] == 1).all(axis=None)
    assert (oracle["false_discovery"] == 0).all()
    assert (oracle["error"] == "").all() and tuple(oracle["seed"]) == SEEDS[:2]
    broken = table[table["model"] == "broken"]
    assert (broken["error"] == "RuntimeError: no forecast today").all()
    assert broken["fidelity"].isna().all()
    assert leaderboard(table).index[0] == "oracle"
    assert leaderboard(table, "false_discovery").index[0] in ("oracle", "zero")


@pytest.mark.parametrize(("value", "error"), [(np.inf, "infinite"), ("x", "ValueError")])
def test_forecasts_that_cannot_be_scored_are_a_row_too(value, error):
    models = {"wrong": lambda seed: Constant(value), "zero": MODELS["zero"]}
    table = lead_lag_bench(models, ["static"], seeds=1, protocol=SMALL)
    assert error in table["error"][0] and table["error"][1] == ""
    assert table.loc[0, ["r_squared", "net_sharpe", "cpu_seconds"]].isna().all()


def test_edges_of_variance_are_no_leads_of_returns():
    (row,) = lead_lag_bench(
        {"variance": OfVariance}, ["spillover"], seeds=1, protocol=SMALL
    ).itertuples()
    assert row.error == "" and row.edges_named > 0 and row.false_discovery == 1.0
    assert np.isnan([row.power, row.edge_auroc, row.lags_right]).all()


def test_a_model_that_failed_on_a_market_has_no_mean():
    rows = [("whole", "easy", 0.9), ("whole", "hard", 0.5), ("failed", "easy", 0.95)]
    rows += [("failed", "hard", np.nan), ("half", "easy", 0.8)]
    table = pd.DataFrame(rows, columns=["model", "scenario", "fidelity"])
    table["error"] = np.where(table["fidelity"].isna(), "too few windows", "")
    board = leaderboard(table)
    assert board.index.tolist() == ["half", "whole", "failed"]
    np.testing.assert_allclose(board["mean"], [0.8, 0.7, np.nan])
    assert board["scenarios"].tolist() == [1, 2, 1]


def test_edge_scores_by_hand():
    """Planted: A to B at lag 2, C to A at lag 1. Named: A to B at lag 3, B to C."""
    p, lag = np.full((3, 3), 0.9), np.ones((3, 3), int)
    (p[1, 0], lag[1, 0]), p[2, 1], p[0, 2] = (1e-9, 3), 1e-8, 0.5
    facts = {"effect": p, "alpha": 0.05, "method": "", "n_windows": 9}
    report = make_report(("A", "B", "C"), lag=lag, p_value=p, **facts)
    truth = pd.DataFrame({"leader": ["A", "C"], "follower": ["B", "A"], "lag": [2, 1]})
    scores = _edge_scores(report, truth)
    right_pairs = 4 + 3  # A to B above all four others; C to A above all but B to C
    shares = {"false_discovery": 0.5, "lags_right": 0.0, "power": 0.5}
    assert scores == {"edges_named": 2, **shares, "edge_auroc": right_pairs / 8}
    nothing_planted = _edge_scores(report, truth[:0])
    assert nothing_planted["false_discovery"] == 1.0
    assert "power" not in nothing_planted


def test_an_interrupted_benchmark_goes_on_where_it_stopped(tmp_path, refuse_input):
    done, place = [], {"out": tmp_path, "protocol": SMALL}
    first = lead_lag_bench(["zero"], ["static"], 1, **place, echo=done.append)
    both = lead_lag_bench(["zero"], ["static"], 2, **place, echo=done.append)
    assert len(done) == 2
    pd.testing.assert_frame_equal(both.head(1), first)
    pd.testing.assert_frame_equal(read_results(tmp_path / "results", SMALL), both)
    held = json.loads((tmp_path / "results" / "zero.json").read_text())
    assert held["version"] == "1" and held["protocol"]["n_steps"] == 900 and len(held["rows"]) == 2
    refuse_input(lambda: lead_lag_bench(["zero"], ["static"], 1, out=tmp_path), "another protocol")
    refuse_input(lambda: read_results(tmp_path), "no results file")
    (tmp_path / "results" / "zero.json").write_text('{"rows": 1')
    refuse_input(lambda: lead_lag_bench(["zero"], ["static"], 1, **place), "no results file")


def test_side_by_side_gives_the_same_scores():
    one, two = (
        lead_lag_bench(["lasso_var", "zero"], ["static", "null"], 1, protocol=SMALL, n_jobs=n)
        for n in (1, 2)
    )
    costs = ["cpu_seconds", "peak_memory_mb"]
    pd.testing.assert_frame_equal(one.drop(columns=costs), two.drop(columns=costs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["zero", "nought"]}, "'nought' is none of"),
        ({"models": []}, "at least one"),
        ({"models": {"../up": MODELS["zero"]}}, "'../up'"),
        ({"scenarios": ["statics"]}, "'statics' is none of"),
        ({"seeds": 0}, "got 0"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [-1]}, "-1"),
        ({"seeds": 1.0}, "seeds .* got 1.0"),
        ({"n_jobs": 0}, "n_jobs .* got 0"),
    ],
)
def test_refusals(arguments, message, refuse_input):
    arguments = {"models": ["zero"], "scenarios": ["static"]} | arguments
    refuse_input(lambda: lead_lag_bench(**arguments), message)


def test_command(tmp_path, capsys):
    words = ["--models", "zero,lasso_var", "--scenarios", "static,null", "--seeds", "1"]
    size = ["--assets", "3", "--steps", "900", "--out", str(tmp_path)]
    assert main(["bench", *words, *size]) == 0
    assert "1. lasso_var: mean fidelity" in capsys.readouterr().out
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["model"].tolist() == ["zero", "zero", "lasso_var", "lasso_var"]
    assert pd.read_csv(tmp_path / "leaderboard.csv")["model"].tolist() == ["lasso_var", "zero"]
    assert "LeadLagBench 1" in (tmp_path / "report.html").read_text()
    assert main(["bench", "--models", "nought", "--out", str(tmp_path)]) == 2
