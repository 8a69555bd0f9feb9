"""LeadLagBench: a benchmark of lead-lag models on markets with known truth and on real bars.

One protocol for any object with ``fit(train, val)`` and ``predict(data)``, with ``lead_lag(data)``,
or with both. Built in chapter: Scale.
"""

import ctypes
import gc
import json
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import roc_auc_score

from crossattn._io import write_file
from crossattn._validation import check_choice, check_int, check_jobs
from crossattn.baselines import neural
from crossattn.baselines.linear import VAR
from crossattn.baselines.naive import OwnLagAR, Zero
from crossattn.baselines.trees import BoostedTrees
from crossattn.errors import InvalidInputError
from crossattn.evidence.classical import granger, lagged_correlation, pcmci
from crossattn.evidence.leadlag import LeadLagReport, analyze_lead_lag_relationships
from crossattn.evidence.scores import score_forecasts
from crossattn.forecaster import CrossAttentionForecaster
from crossattn.portfolio.strategy import CrossAttentionBacktest
from crossattn.simulate.market import simulate_market
from crossattn.simulate.scenarios import SCENARIOS
from crossattn.sources.samples import load_sample, sample_names
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.prepare import prepare_cross_attention_data

VERSION = "1"
SEEDS = tuple(range(90_001, 90_011))  # of version 1, frozen: nothing was tuned on them
SCORES = {  # and whether more is better
    "fidelity": True,
    "r_squared": True,
    "r_squared_error": None,
    "edge_auroc": True,
    "lags_right": True,
    "power": True,
    "false_discovery": False,
    "edges_named": None,
    "net_sharpe": True,
    "cpu_seconds": False,
    "peak_memory_mb": False,
}


@dataclass(frozen=True)
class Protocol:
    """Settings of the benchmark; results of different settings do not mix."""

    n_assets: int = 10
    n_steps: int = 20_000  #: of a simulated market
    predictability: float = 0.02  #: R² of the oracle
    lookback: int = 48  #: bars of a window; the horizon is one bar
    train: float = 0.7  #: share of the windows, as ``val``; all scores are of the rest
    val: float = 0.1
    alpha: float = 0.05  #: false discovery rate asked for
    transaction_cost: float = 1e-4  #: fraction of traded notional, for ``net_sharpe``


class EdgeTest:
    """A classical lead-lag test in the place of a model: it names edges and forecasts nothing."""

    def __init__(self, test: Callable[..., LeadLagReport], **options):
        self.test, self.options = test, options

    def fit(self, train: CrossAttentionData, val: CrossAttentionData) -> Self:
        """Nothing is fitted."""
        return self

    def lead_lag(self, data: CrossAttentionData, alpha: float) -> LeadLagReport:
        """Test the pairs."""
        return self.test(data, alpha=alpha, **self.options)


def _network(network: type[neural.NeuralBaseline], seed: int) -> neural.NeuralBaseline:
    return network(volatility_weights=True, seed=seed, device="cpu")


MODELS: dict[str, Callable[[int], Any]] = {
    "forecaster": lambda seed: CrossAttentionForecaster(seed=seed, device="cpu", progress=False),
    "static_part": lambda seed: CrossAttentionForecaster(varying=False, content=False),
    "lasso_var": lambda seed: VAR(23, penalty="lasso", volatility_weights=True),
    "ridge_var": lambda seed: VAR(23, penalty="ridge", volatility_weights=True),
    "own_lags": lambda seed: OwnLagAR(),
    "zero": lambda seed: Zero(),
    "boosted_trees": lambda seed: BoostedTrees(seed=seed),
    "lstm": partial(_network, neural.MultiAssetRNN),
    "dlinear": partial(_network, neural.DLinear),
    "patchtst": partial(_network, neural.PatchTST),
    "crossformer": partial(_network, neural.Crossformer),
    "itransformer": partial(_network, neural.VariateTokenTransformer),
    "master": partial(_network, neural.MarketGatedTransformer),
    "lagged_correlation": lambda seed: EdgeTest(lagged_correlation, max_lag=23),
    "granger": lambda seed: EdgeTest(granger),
    "pcmci": lambda seed: EdgeTest(pcmci),
}


def lead_lag_bench(
    models: Sequence[str] | Mapping[str, Callable[[int], Any]] = tuple(MODELS),
    scenarios: Sequence[str] | None = None,
    seeds: int | Sequence[int] = 3,
    *,
    out: str | Path | None = None,
    protocol: Protocol = Protocol(),
    n_jobs: int = 1,
    echo: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Benchmark lead-lag models: fit each on each market, score forecasts, edges and money.

    Parameters
    ----------
    models : sequence of str or mapping of str to callable
        Names in ``MODELS``, or factories: ``make(seed)`` returns an object with
        ``fit(train, val)`` and with ``predict(data)`` of shape (n, N), ``lead_lag(data, alpha)``,
        or both. Forecasts of models without ``lead_lag`` are tested by their contributions, where
        they have them.
    scenarios : sequence of str, optional
        Scenarios of the simulator and names of packaged samples of real bars; by default all
        scenarios.
    seeds : int or sequence of int
        How many of the benchmark's frozen seeds, or seeds of your own.
    out : path, optional
        Folder for one results file a model, ``results/<model>.json``. Cells that it holds already
        are not run again, so that an interrupted benchmark goes on where it stopped.
    protocol : Protocol
    n_jobs : int
        Cells side by side, through joblib: within ``joblib.parallel_config(backend="dask")`` they
        run on a cluster, with the same results.
    echo : callable
        Receives a line per cell.

    Returns
    -------
    DataFrame
        A row per (model, scenario, seed): ``fidelity`` (correlation with the oracle; NaN on real
        bars), ``r_squared`` against forecasting zero and its standard error (Newey-West over bars),
        ``edge_auroc`` (ranking pairs by p-value), ``lags_right`` and ``power`` (NaN where no return
        can be forecast, even if variance spreads) and ``false_discovery`` at ``alpha``,
        ``edges_named``, ``net_sharpe`` (annual, after costs), ``cpu_seconds`` of fit, forecast and
        test, ``peak_memory_mb`` beyond the start (Linux), ``error`` ("" where all went well).

    Examples
    --------
    >>> table = lead_lag_bench(
    ...     ["zero", "lasso_var"], ["static"], seeds=1, protocol=Protocol(n_assets=3, n_steps=900)
    ... )
    >>> table["model"].tolist()
    ['zero', 'lasso_var']
    """
    models = _factories(models)
    scenarios = tuple(SCENARIOS) if scenarios is None else tuple(scenarios)
    _check_known("scenarios", scenarios, [*SCENARIOS, *sample_names()])
    seeds, n_jobs = _seeds(seeds), check_jobs(n_jobs)
    backend, _ = joblib.parallel.get_active_backend()  # Ray's has no generator
    how = "generator" if backend.supports_return_generator else "list"
    parts = []
    for name, make in models.items():
        path = None if out is None else Path(out) / "results" / f"{name}.json"
        done = _read(path, protocol)
        cells = [(s, seed) for s in scenarios for seed in seeds if (s, seed) not in done]
        run = joblib.Parallel(n_jobs, return_as=how)(
            joblib.delayed(run_cell)(name, make, scenario, seed, protocol)
            for scenario, seed in cells
        )
        for cell, row in zip(cells, run, strict=True):
            done[cell] = row
            _write(path, name, protocol, done)
            echo(_line(row))
        parts += [done[s, seed] for s in scenarios for seed in seeds]
    return pd.DataFrame(parts)


def read_results(folder: str | Path, protocol: Protocol = Protocol()) -> pd.DataFrame:
    """Read the folder ``results`` of a benchmark into the table of :func:`lead_lag_bench`.

    Files of another protocol are refused.
    """
    paths = sorted(Path(folder).glob("*.json"))
    tables = [pd.DataFrame(_read(path, protocol).values()) for path in paths]
    if not tables:
        raise InvalidInputError(f"{folder} holds no results file")
    return pd.concat(tables, ignore_index=True)


def run_cell(name: str, make: Callable[[int], Any], scenario: str, seed: int, protocol: Protocol):
    """Fit and score one model on one market; return a row of :func:`lead_lag_bench`.

    What a model raises becomes the row's ``error``: one failure does not end a benchmark.
    """
    row = {"model": name, "scenario": scenario, "seed": seed} | dict.fromkeys(SCORES, np.nan)
    market, data = _market_and_windows(scenario, seed, protocol)
    train, val, test = data.split(protocol.train, protocol.val)
    before, start = _peak_memory(reset=True), time.process_time()
    try:
        model = make(seed).fit(train, val)
        forecast = model.predict(test) if hasattr(model, "predict") else None
        report = _edges_of(model, test, protocol.alpha)
        scores = {"cpu_seconds": time.process_time() - start, "error": ""}
        scores["peak_memory_mb"] = _peak_memory() - before
        if forecast is not None:
            scores |= _forecast_scores(forecast, test, market, protocol)
        if report is not None:
            scores |= _edge_scores(report, _planted(market))
    except Exception as error:  # a model under test may fail in any way
        return row | {"error": f"{type(error).__name__}: {error}"}
    return row | scores


def leaderboard(table: pd.DataFrame, score: str = "fidelity") -> pd.DataFrame:
    """Rank models by the mean of a score over scenarios, best first.

    Parameters
    ----------
    table : DataFrame
        Of :func:`lead_lag_bench`.
    score : str
        One of its columns.

    Returns
    -------
    DataFrame
        A row per model: ``mean`` over its scenarios, NaN where it failed on one; ``scenarios``, of
        how many it has the score, as means over others do not compare; then for each scenario the
        mean over seeds, with its 95 % interval (t over seeds) as text where there are two seeds or
        more.
    """
    check_choice("score", score, SCORES)
    cells = table.groupby(["model", "scenario"], sort=False)[score].agg(["mean", "sem", "count"])
    cells["half"] = cells["sem"] * stats.t.ppf(0.975, np.maximum(cells["count"] - 1, 1))
    cells["text"] = [_interval(*cell) for cell in zip(cells["mean"], cells["half"], strict=True)]
    cells = cells.reset_index()
    board = cells.pivot_table("text", "model", "scenario", aggfunc="first")
    board = board.reindex(columns=table["scenario"].unique())
    means = cells.groupby("model")["mean"]
    failed = table.groupby("model")["error"].agg(lambda errors: (errors != "").any())
    board.insert(0, "mean", means.mean().where(~failed))
    board.insert(1, "scenarios", means.count())
    return board.sort_values("mean", ascending=SCORES[score] is False, na_position="last")


def _interval(mean: float, half: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.3g}" + (f" ± {half:.2g}" if half == half else "")


def _factories(models) -> dict[str, Callable[[int], Any]]:
    if isinstance(models, Mapping):
        chosen = dict(models)
    else:
        _check_known("models", models, MODELS)
        chosen = {name: MODELS[name] for name in models}
    for name in chosen:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise InvalidInputError(f"models: names are letters, digits, - and _, got {name!r}")
    if not chosen:
        raise InvalidInputError("models: at least one is needed")
    return chosen


def _check_known(argument: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise InvalidInputError(f"{argument}: {name!r} is none of {', '.join(known)}")


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if not np.iterable(seeds):
        seeds = check_int("seeds", seeds)
        if seeds > len(SEEDS):
            raise InvalidInputError(f"seeds must be 1 to {len(SEEDS)} or a list, got {seeds}")
        return SEEDS[:seeds]
    if not len(seeds):
        raise InvalidInputError("seeds: at least one is needed")
    return tuple(check_int("seeds", seed, at_least=0) for seed in seeds)


def _market_and_windows(scenario: str, seed: int, protocol: Protocol):
    """Return a simulated market and its windows, or None and those of a packaged sample."""
    if scenario not in SCENARIOS:
        return None, prepare_cross_attention_data(load_sample(scenario), protocol.lookback, 1)
    size = {k: getattr(protocol, k) for k in ("n_assets", "n_steps", "predictability")}
    market = simulate_market(scenario, **size, seed=seed)
    return market, prepare_cross_attention_data(market.frames, protocol.lookback, 1)


def _edges_of(model, test: CrossAttentionData, alpha: float) -> LeadLagReport | None:
    if hasattr(model, "lead_lag"):
        return model.lead_lag(test, alpha=alpha)
    if hasattr(model, "contributions"):
        return analyze_lead_lag_relationships(model, test, alpha=alpha)
    return None


def _forecast_scores(forecast, test: CrossAttentionData, market, protocol: Protocol) -> dict:
    forecast, target = np.asarray(forecast, float), test.y
    if forecast.shape != target.shape:
        raise InvalidInputError(f"predict gave {forecast.shape}, not {target.shape}")
    oracle = None if market is None else market.oracle[test.ends]
    if oracle is not None and not oracle.any():  # nothing is planted
        oracle = None
    found = score_forecasts({"forecast": forecast}, target, oracle=oracle).loc["forecast"]
    scores = found.filter(["r_squared", "fidelity"]).to_dict()
    scores["r_squared_error"] = abs(found["r_squared"] / found["t"]) if found["t"] else np.nan
    backtest = CrossAttentionBacktest(
        lambda data: forecast,
        transaction_cost=protocol.transaction_cost,
        rebalance_freq=1,
        allow_short=True,
    )
    scores["net_sharpe"] = backtest.compute_metrics(backtest.run(test))["sharpe_ratio"]
    return scores


def _planted(market) -> pd.DataFrame | None:
    """Return the edges by which returns can be forecast; None on real bars."""
    if market is None:
        return None
    return market.edges if market.oracle.any() else market.edges[:0]  # may be of variance


def _edge_scores(report: LeadLagReport, truth: pd.DataFrame | None) -> dict:
    edges = report.edges.set_index(["leader", "follower"])
    named = edges[edges["significant"]]
    scores = {"edges_named": len(named)}
    if truth is None:
        return scores
    lags = truth.groupby(["leader", "follower"])["lag"].agg(set)
    planted = edges.index.isin(lags.index)
    found = named["lag"][named.index.isin(lags.index)]
    right = [lag in lags[pair] for pair, lag in found.items()]
    scores["false_discovery"] = 1 - len(found) / len(named) if len(named) else 0.0
    scores["lags_right"] = np.mean(right) if right else np.nan
    if planted.any():
        scores["power"] = len(found) / planted.sum()
    if 0 < planted.sum() < len(planted):
        scores["edge_auroc"] = roc_auc_score(planted, -edges["p_value"])
    return scores


def _peak_memory(reset: bool = False) -> float:
    """Return the largest resident memory of this process since the last reset, in MB (Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return np.nan
    if reset:
        gc.collect()
        try:  # give back what earlier cells freed: it would hide what this one takes
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
        except (AttributeError, OSError):  # another C library, or not allowed
            return np.nan
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return float(fields["VmHWM"].split()[0]) / 1024


def _read(path: Path | None, protocol: Protocol) -> dict[tuple[str, int], dict]:
    """Return the rows of a results file by (scenario, seed); refuse one of another protocol."""
    if path is None or not path.exists():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        same = (held["version"], held["protocol"]) == (VERSION, asdict(protocol))
        rows = [{k: np.nan if v is None else v for k, v in row.items()} for row in held["rows"]]
        rows = {(row["scenario"], row["seed"]): row for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise InvalidInputError(f"{path} is no results file: move it away") from None
    if not same:
        raise InvalidInputError(f"{path} holds results of another protocol: choose another folder")
    return rows


def _write(path: Path | None, name: str, protocol: Protocol, rows: dict) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = [
        {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
        for row in pd.DataFrame(rows.values()).to_dict("records")
    ]
    packages = ("crossattn", "numpy", "pandas", "scikit-learn", "torch")
    held = {
        "benchmark": "LeadLagBench",
        "version": VERSION,
        "model": name,
        "protocol": asdict(protocol),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "machine": f"{platform.machine()}, {joblib.cpu_count()} cores",
        "rows": plain,
    }
    write_file(path, json.dumps(held, indent=1) + "\n")


def _line(row: dict) -> str:
    place = f"{row['model']} on {row['scenario']}, seed {row['seed']}"
    if row["error"]:
        return f"failed: {place}: {row['error']}"
    shown = [f"{k} {row[k]:.3g}" for k in SCORES if row[k] == row[k]]
    return f"done: {place}: {', '.join(shown)}"
