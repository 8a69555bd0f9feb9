"""What bad input gets, as a table: a CrossAttentionError that names what is wrong, nothing else.

One row a case: what is called, and words that the message must hold.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    align_panel,
    compute_macd,
    compute_rsi,
    create_multi_asset_features,
    load_sample,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.windows.dataset import windows_of_features
from crossattn.windows.scaling import Scaler
from crossattn.windows.splits import combinatorial_folds, walk_forward_folds

NAN, INF = float("nan"), float("inf")


def bars(n: int = 60) -> pd.DataFrame:
    return simulate_market("null", n_assets=2, n_steps=n).frames["A00"]


def panel(n: int = 60) -> pd.DataFrame:
    return align_panel({"A": bars(n), "B": bars(n) * 2})


def panel_with(field: str, value: float) -> pd.DataFrame:
    changed = panel()
    changed.iloc[9, changed.columns.get_loc((field, "B"))] = value
    return changed


def windows(**options):
    return prepare_cross_attention_data({"A": bars(), "B": bars() * 3}, **options)


def data():
    return windows(lookback=4, horizon=2, features=["log_return"])


def table():
    return create_multi_asset_features(panel(), ["log_return"])


def market(**options):
    return simulate_market(**{"n_assets": 4, "n_steps": 200, **options})


CASES = {
    # frames and panels
    "frames: nothing": (lambda: align_panel({}), "frames must hold at least one symbol"),
    "frames: None": (lambda: align_panel(None), "frames must be a dict"),
    "frames: a list": (lambda: align_panel([bars()]), "frames must be a dict"),
    "frames: a frame": (lambda: align_panel(bars()), "symbols|frames"),
    "frames: number as symbol": (lambda: align_panel({7: bars()}), "symbols must be .*got 7"),
    "frames: blank symbol": (lambda: align_panel({"  ": bars()}), "symbols must be"),
    "how: unknown": (lambda: align_panel({"A": bars()}, how="left"), "how must be .*'left'"),
    "how: None": (lambda: align_panel({"A": bars()}, how=None), "how must be"),
    "how: nothing shared": (
        lambda: align_panel({"A": bars(), "B": bars().shift(freq="365D")}, how="inner"),
        "frames share no close time",
    ),
    "panel: one frame": (lambda: create_multi_asset_features(bars()), "data: a Panel has columns"),
    "panel: text": (lambda: create_multi_asset_features("BTC"), "data must be"),
    "panel: None": (lambda: create_multi_asset_features(None), "data must be"),
    "panel: a tuple": (lambda: create_multi_asset_features((bars(),)), "data must be"),
    "panel: no rows": (lambda: create_multi_asset_features(panel().iloc[:0]), "data: .* no rows"),
    "panel: no volume": (
        lambda: create_multi_asset_features(panel().drop(columns="volume", level=0)),
        "data: the panel lacks .*volume",
    ),
    "panel: one symbol short": (
        lambda: create_multi_asset_features(panel().drop(columns=[("high", "B")])),
        "data: the panel lacks .*high.*B",
    ),
    "panel: repeated column": (
        lambda: create_multi_asset_features(pd.concat([panel(), panel()], axis=1)),
        "data: the panel's columns repeat",
    ),
    "panel: naive clock": (
        lambda: create_multi_asset_features(panel().tz_localize(None)),
        "data: close_time must be UTC",
    ),
    "panel: newest first": (
        lambda: create_multi_asset_features(panel().iloc[::-1]),
        "data: close_time must increase",
    ),
    "panel: row numbers": (
        lambda: create_multi_asset_features(panel().reset_index(drop=True)),
        "data: the index must hold close_time",
    ),
    "panel: text cells": (
        lambda: create_multi_asset_features(
            panel().astype(object).replace(panel().iloc[3, 3], "x")
        ),
        "data: the panel's cells must be numbers",
    ),
    "panel: zero price": (
        lambda: create_multi_asset_features(panel_with("close", 0.0)),
        "B: close",
    ),
    "panel: infinite": (lambda: create_multi_asset_features(panel_with("high", INF)), "B: high"),
    "panel: negative volume": (
        lambda: create_multi_asset_features(panel_with("volume", -2.0)),
        "B: volume",
    ),
    "panel: high below low": (
        lambda: create_multi_asset_features(panel_with("high", 0.1)),
        "B: high must be at least low",
    ),
    "panel: NaN-only asset": (
        lambda: create_multi_asset_features(panel().assign(**{}).where(panel() < 0)),
        "every close is missing",
    ),
    # features
    "features: unknown": (
        lambda: create_multi_asset_features(panel(), ["log_returns"]),
        "features: unknown 'log_returns'; known are log_return",
    ),
    "features: seed's name": (
        lambda: create_multi_asset_features(panel(), ["volume_ratio"]),
        "features: unknown 'volume_ratio'",
    ),
    "features: none": (lambda: create_multi_asset_features(panel(), []), "features must name"),
    "features: None": (lambda: create_multi_asset_features(panel(), None), "features must be"),
    "features: number": (lambda: create_multi_asset_features(panel(), 3), "features must be"),
    "features: twice": (
        lambda: create_multi_asset_features(panel(), ["rsi", "rsi"]),
        "features: 'rsi' is named more than once",
    ),
    "features: a list inside": (
        lambda: create_multi_asset_features(panel(), [["rsi"]]),
        "features: unknown",
    ),
    "features: NaN": (lambda: create_multi_asset_features(panel(), [NAN]), "features: unknown nan"),
    "rsi: list": (lambda: compute_rsi([1.0, 2.0]), "prices must be a pandas"),
    "rsi: text": (lambda: compute_rsi(pd.Series(["a"])), "prices must be numbers"),
    "rsi: zero": (lambda: compute_rsi(pd.Series([1.0, 0.0])), "prices must be positive"),
    "rsi: infinite": (lambda: compute_rsi(pd.Series([1.0, INF])), "prices must be positive"),
    "rsi: period 0": (lambda: compute_rsi(bars()["close"], 0), "period must be .*got 0"),
    "rsi: period 2.5": (lambda: compute_rsi(bars()["close"], 2.5), "period must be .*got 2.5"),
    "rsi: period text": (lambda: compute_rsi(bars()["close"], "14"), "period must be .*'14'"),
    "rsi: period true": (lambda: compute_rsi(bars()["close"], True), "period must be .*True"),
    "macd: negative": (lambda: compute_macd(pd.Series([1.0, -1.0])), "prices must be positive"),
    "macd: an array": (lambda: compute_macd(np.ones(50)), "prices must be a pandas"),
    "macd: fast 0": (lambda: compute_macd(bars()["close"], fast=0), "fast must be"),
    "macd: slow below fast": (lambda: compute_macd(bars()["close"], slow=5), "fast must be below"),
    "macd: slow text": (lambda: compute_macd(bars()["close"], slow="26"), "slow must be"),
    "macd: signal None": (lambda: compute_macd(bars()["close"], signal=None), "signal must be"),
    # windows
    "lookback: 0": (lambda: windows(lookback=0), "lookback must be .*got 0"),
    "lookback: negative": (lambda: windows(lookback=-4), "lookback must be .*got -4"),
    "lookback: 2.5": (lambda: windows(lookback=2.5), "lookback must be .*got 2.5"),
    "lookback: text": (lambda: windows(lookback="168"), "lookback must be .*'168'"),
    "lookback: None": (lambda: windows(lookback=None), "lookback must be .*None"),
    "lookback: true": (lambda: windows(lookback=True), "lookback must be .*True"),
    "lookback: NaN": (lambda: windows(lookback=NAN), "lookback must be .*nan"),
    "lookback: too long": (lambda: windows(lookback=90, horizon=2), "60 rows .* lookback=90"),
    "horizon: 0": (lambda: windows(lookback=3, horizon=0), "horizon must be .*got 0"),
    "horizon: negative": (lambda: windows(lookback=3, horizon=-1), "horizon must be .*got -1"),
    "horizon: 1.0": (lambda: windows(lookback=3, horizon=1.0), "horizon must be .*got 1.0"),
    "horizon: text": (lambda: windows(lookback=3, horizon="1d"), "horizon must be .*'1d'"),
    "horizon: the whole data": (
        lambda: windows(lookback=3, horizon=60),
        "horizon must be shorter than the data .*got 60",
    ),
    "rows: defaults on few": (lambda: windows(), "60 rows are too few for lookback=168"),
    "rows: warm-up eats all": (
        lambda: windows(lookback=20, horizon=10),
        "60 rows are too few .*warm-up of 33 .*at least 63",
    ),
    "windows: unknown feature": (
        lambda: windows(lookback=3, horizon=1, features=["returns"]),
        "features: unknown 'returns'",
    ),
    "windows: not bars": (lambda: prepare_cross_attention_data(np.ones((9, 2))), "data must be"),
    "windows: empty": (lambda: prepare_cross_attention_data({}), "frames must hold"),
    "own: features an array": (
        lambda: windows_of_features(table().to_numpy(), panel()["close"]),
        "features must be a DataFrame",
    ),
    "own: closes a list": (lambda: windows_of_features(table(), [1.0]), "closes must be"),
    "own: flat columns": (
        lambda: windows_of_features(table()["log_return"], panel()["close"]),
        "features must have columns",
    ),
    "own: other rows": (
        lambda: windows_of_features(table(), panel()["close"].iloc[2:]),
        "closes must have the rows",
    ),
    "own: other symbols": (
        lambda: windows_of_features(table(), panel()["close"].rename(columns={"A": "C"})),
        "closes must have the symbols",
    ),
    "own: negative closes": (
        lambda: windows_of_features(table(), -panel()["close"], 4, 2),
        "closes must be positive",
    ),
    "own: warm-up negative": (
        lambda: windows_of_features(table(), panel()["close"], 4, 2, warm_up=-1),
        "warm_up must be .*got -1",
    ),
    "select: unknown symbol": (lambda: data().select(["C"]), "symbols: no 'C' in the data"),
    "select: none": (lambda: data().select([]), "symbols must be one or more"),
    "select: twice": (lambda: data().select(["A", "A"]), "symbols must be .*different"),
    "select: a number": (lambda: data().select(4), "symbols must be .*got 4"),
    "select: unknown feature": (lambda: data().select(None, ["rsi"]), "features: no 'rsi'"),
    "slice: one position": (lambda: data()[3], "data takes slices .*got 3"),
    "slice: a symbol": (lambda: data()["A"], "data takes slices .*'A'"),
    "slice: every other": (lambda: data()[::2], "data's slices .*step 2"),
    "slice: backwards": (lambda: data()[::-1], "data's slices .*step -1"),
    "slice: text": (lambda: data()["a":"b"], "data's slices"),
    "slice: fractions": (lambda: data()[0.1:0.5], "data's slices"),
    # splits and the scaler
    "split: train 0": (lambda: data().split(train=0), "train must be a share .*got 0"),
    "split: train 1": (lambda: data().split(train=1), "train must be a share .*got 1"),
    "split: train 60": (lambda: data().split(train=60), "train must be a share .*got 60"),
    "split: train text": (lambda: data().split(train="60%"), "train must be .*'60%'"),
    "split: train None": (lambda: data().split(train=None), "train must be .*None"),
    "split: val NaN": (lambda: data().split(val=NAN), "val must be a share .*nan"),
    "split: val negative": (lambda: data().split(val=-0.1), "val must be a share .*-0.1"),
    "split: no test": (lambda: data().split(0.8, 0.2), "train \\+ val must leave"),
    "split: too few rows": (lambda: data()[:8].split(), "8 windows are too few to split"),
    "split: nothing at all": (lambda: data()[:0].split(), "0 windows are too few to split"),
    "walk: train_size 0": (
        lambda: walk_forward_folds(data(), train_size=0, test_size=3),
        "train_size must be .*got 0",
    ),
    "walk: train_size share": (
        lambda: walk_forward_folds(data(), train_size=0.6, test_size=3),
        "train_size must be .*got 0.6",
    ),
    "walk: test_size negative": (
        lambda: walk_forward_folds(data(), train_size=9, test_size=-3),
        "test_size must be",
    ),
    "walk: step 0": (
        lambda: walk_forward_folds(data(), train_size=9, test_size=3, step=0),
        "step must be",
    ),
    "walk: embargo text": (
        lambda: walk_forward_folds(data(), train_size=9, test_size=3, embargo="1d"),
        "embargo must be",
    ),
    "walk: too long": (
        lambda: walk_forward_folds(data(), train_size=500, test_size=3),
        "windows are too few for train_size=500",
    ),
    "folds: one block": (lambda: combinatorial_folds(data(), n_blocks=1), "n_blocks must be"),
    "folds: all tested": (
        lambda: combinatorial_folds(data(), n_blocks=3, n_test_blocks=3),
        "n_test_blocks must be below",
    ),
    "folds: none tested": (
        lambda: combinatorial_folds(data(), n_blocks=3, n_test_blocks=0),
        "n_test_blocks must be",
    ),
    "folds: more than windows": (
        lambda: combinatorial_folds(data(), n_blocks=99),
        "too few for n_blocks=99",
    ),
    "folds: embargo negative": (
        lambda: combinatorial_folds(data(), embargo=-1),
        "embargo must be .*got -1",
    ),
    "folds: embargo eats all": (
        lambda: combinatorial_folds(data(), n_blocks=2, n_test_blocks=1, embargo=99),
        "nothing is left to learn from",
    ),
    "scaler: an array": (lambda: Scaler.fit(np.ones((3, 2))), "train must be .*ndarray"),
    "scaler: no window": (lambda: Scaler.fit(data()[:0]), "train must hold"),
    "scaler: not JSON": (lambda: Scaler.from_json("scaler"), "no scaler"),
    "scaler: JSON of something": (lambda: Scaler.from_json('{"center": []}'), "no scaler"),
    "scaler: None": (lambda: Scaler.from_json(None), "no scaler"),
    # simulated markets
    "simulate: unknown scenario": (lambda: market(scenario="bull"), "scenario must be .*'bull'"),
    "simulate: scenario None": (lambda: market(scenario=None), "scenario must be"),
    "simulate: scenario list": (lambda: market(scenario=["null"]), "scenario must be"),
    "simulate: one asset": (lambda: market(n_assets=1), "n_assets must be .*got 1"),
    "simulate: 3.5 assets": (lambda: market(n_assets=3.5), "n_assets must be"),
    "simulate: assets text": (lambda: market(n_assets="ten"), "n_assets must be .*'ten'"),
    "simulate: no steps": (lambda: market(n_steps=0), "n_steps must be .*got 0"),
    "simulate: steps negative": (lambda: market(n_steps=-9), "n_steps must be"),
    "simulate: too many bars": (lambda: market(n_steps=10**9), "n_assets times n_steps"),
    "simulate: predictability 0": (lambda: market(predictability=0), "predictability must be"),
    "simulate: predictability 1": (lambda: market(predictability=1.0), "predictability must be"),
    "simulate: predictability NaN": (lambda: market(predictability=NAN), "predictability must be"),
    "simulate: seed negative": (lambda: market(seed=-1), "seed must be .*got -1"),
    "simulate: seed text": (lambda: market(seed="lucky"), "seed must be .*'lucky'"),
    "simulate: seed None": (lambda: market(seed=None), "seed must be"),
    "simulate: unknown option": (lambda: market(lags=3), "unknown option 'lags'"),
    "simulate: max_lag 0": (lambda: market(max_lag=0), "max_lag must be"),
    "simulate: correlation 1": (lambda: market(correlation=1.0), "correlation must be"),
    "simulate: correlation NaN": (lambda: market(correlation=NAN), "correlation must be"),
    "simulate: tail 2": (lambda: market(tail=2), "tail must be"),
    "simulate: tail infinite text": (lambda: market(tail="fat"), "tail must be"),
    "simulate: volatility": (lambda: market(volatility="rough"), "volatility must be .*'rough'"),
    "simulate: bar_volatility 0": (lambda: market(bar_volatility=0), "bar_volatility must be"),
    "simulate: sectors": (lambda: market(n_sectors=9), "n_sectors must be at most"),
    "simulate: leaders": (lambda: market(leaders_per_follower=4), "leaders_per_follower must be"),
    "simulate: change": (lambda: market(scenario="regimes", change="both"), "change must be"),
    "simulate: durations": (
        lambda: market(scenario="regimes", regime_durations=(0, 5)),
        "regime_durations must be",
    ),
    "simulate: one duration": (
        lambda: market(scenario="regimes", regime_durations=400),
        "regime_durations must be",
    ),
    "simulate: bar": (lambda: market(bar="an hour"), "bar and start must be .*'an hour'"),
    "simulate: bar negative": (lambda: market(bar="-1h"), "bar and start must be"),
    "simulate: start": (lambda: market(start="yesterday-ish"), "bar and start must be"),
    "simulate: gate": (lambda: market(scenario="gated", gate_share=0), "gate_share must be"),
    "simulate: threshold": (
        lambda: market(scenario="threshold", threshold=-1),
        "threshold must be",
    ),
    "sample: unknown": (lambda: load_sample("us_bonds"), "sample must be one of .*'us_bonds'"),
    "sample: None": (lambda: load_sample(None), "sample must be one of"),
    "sample: a path": (lambda: load_sample("../us_stocks"), "sample must be one of"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_an_error_that_names_it(case, refuse):
    refuse(*CASES[case])


def test_the_table_is_long_enough():
    assert len(CASES) >= 120  # with the bad frames and the loaders' arguments over 200
