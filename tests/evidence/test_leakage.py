"""The audit finds ten leaks and passes ten clean pipelines."""

import functools

import numpy as np
import pandas as pd
import pytest

from crossattn import create_multi_asset_features
from crossattn.data.frame import close_times
from crossattn.data.panel import align_panel
from crossattn.evidence.leakage import CHECKS, audit_leakage

N_BARS, HORIZON = 240, 6
SPLIT, END = pd.Timestamp("2024-01-07", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")


@pytest.fixture
def market(make_frames):
    return dict(zip("ABCD", make_frames(N_BARS, 4).values(), strict=True))


@pytest.fixture
def coin_and_stock(make_frames):
    """An hourly coin, and a stock whose daily bar opens at 14:30 and is known at 21:00."""
    stock = make_frames(10, 1, seed=9, start="2024-01-01 14:30", freq="D")["S0"]
    stock["close_time"] = stock.index + pd.Timedelta("6h30min")
    return {"COIN": make_frames(N_BARS, 1, seed=8)["S0"], "STOCK": stock}


def closes(frames):
    return align_panel(frames)["close"]


def returns(frames):
    return np.log(closes(frames)).diff()


def fit_slopes(frames, known_labels_only):
    """Momentum slopes fitted before SPLIT, forecasts from SPLIT on."""
    prices = closes(frames)
    past = np.log(prices).diff(3)
    label = prices.shift(-HORIZON) / prices - 1
    last = SPLIT - pd.Timedelta(hours=HORIZON if known_labels_only else 1)
    train = past.index <= last
    slope = (past[train] * label[train]).sum() / (past[train] ** 2).sum()
    return past[past.index >= SPLIT] * slope


def chosen_feature(frames, before):
    """The lag that correlates best with the next return, judged on rows before a date."""
    r = returns(frames)
    target = r["A"].shift(-1)
    judged = r.index < before
    candidates = {f"{s}{k}": r[s].shift(k) for s in "BCD" for k in range(4)}
    strength = {name: abs(c[judged].corr(target[judged])) for name, c in candidates.items()}
    return candidates[max(strength, key=strength.get)].loc[SPLIT:].rename("chosen")


def dated_by_open(frames):
    return pd.DataFrame({s: np.log(f["close"]).diff() for s, f in frames.items()})


def joined_by_date(frames):
    coin, stock = frames["COIN"], frames["STOCK"]
    daily = stock["close"].set_axis(stock.index.normalize())
    opens = coin.index.normalize()
    return pd.Series(daily.reindex(opens).to_numpy() / coin["close"].to_numpy(), close_times(coin))


def scaled(frames, fitted):
    r = returns(frames)
    part = r[r.index < SPLIT] if fitted == "before" else r
    return ((r - part.mean()) / part.std()).loc[SPLIT:]


LEAKS = {
    "shift(-1)": lambda f: returns(f).shift(-1),
    "centred window": lambda f: closes(f).rolling(5, center=True).mean(),
    "scaler fitted on everything": lambda f: scaled(f, "everything"),
    "backward fill": lambda f: closes(f).bfill(),
    "unclosed bar": dated_by_open,
    "labels overlap the split": lambda f: fit_slopes(f, known_labels_only=False),
    "close used before it is known": joined_by_date,
    "feature chosen on the test part": lambda f: chosen_feature(f, END),
    "global quantile": lambda f: (closes(f) > closes(f).quantile(0.8)).astype(int),
    "target inside X": lambda f: pd.concat({k: returns(f).shift(k) for k in range(-1, 3)}, axis=1),
}


CLEAN = {
    "returns": returns,
    "trailing window": lambda f: closes(f).rolling(5).mean(),
    "scaler fitted before the split": lambda f: scaled(f, "before"),
    "forward fill": lambda f: closes(f).ffill(),
    "labels dated when known": lambda f: closes(f).pct_change(HORIZON),
    "purged labels": lambda f: fit_slopes(f, known_labels_only=True),
    "close used once it is known": lambda f: closes(f)["STOCK"].ffill() / closes(f)["COIN"],
    "feature chosen before the split": lambda f: chosen_feature(f, SPLIT),
    "expanding quantile": lambda f: (closes(f) > closes(f).expanding().quantile(0.8)).astype(int),
    "features of the package": create_multi_asset_features,
}


def bars_for(name, market, coin_and_stock):
    return coin_and_stock if "known" in name and "close" in name else market


@pytest.mark.parametrize("name", LEAKS)
def test_finds_the_leak(name, market, coin_and_stock):
    report = audit_leakage(LEAKS[name], bars_for(name, market, coin_and_stock), cuts=4)
    assert not report.passed
    assert len(report.violations), str(report)
    moved = report.violations
    assert (moved["first_moved"] <= moved["last_moved"]).all()
    assert (moved["last_moved"] <= moved["cut"]).all()
    assert str(report).startswith("leak:")


@pytest.mark.parametrize("name", CLEAN)
def test_passes_the_clean_pipeline(name, market, coin_and_stock):
    report = audit_leakage(CLEAN[name], bars_for(name, market, coin_and_stock), cuts=4)
    assert report.passed, f"{report}\n{report.violations}\n{report.checks}"
    assert set(report.checks["check"]) == set(CHECKS)


def test_names_the_first_bar_that_moved(market):
    cut = pd.Timestamp("2024-01-05 12:00", tz="UTC")
    report = audit_leakage(lambda f: returns(f).shift(-3), market, cuts=[cut], checks=["perturb"])
    moved = report.violations[["first_moved", "last_moved", "n_moved"]]
    assert moved.to_numpy().tolist() == [[cut - pd.Timedelta("2h"), cut, 3]] * 4


@pytest.mark.parametrize("with_close_time", [False, True])
def test_a_symbol_that_ended_before_the_others_is_no_leak(market, with_close_time):
    ragged = {s: frame.iloc[: N_BARS - 3 * k] for k, (s, frame) in enumerate(market.items())}
    if with_close_time:
        late = pd.Timedelta("59min")
        ragged = {s: f.assign(close_time=f.index + late) for s, f in ragged.items()}
    assert audit_leakage(returns, ragged, cuts=2).passed
    assert not audit_leakage(lambda f: returns(f).shift(-1), ragged, cuts=2).passed
    by_length = audit_leakage(lambda f: returns(f).iloc[len(closes(f)) // 2 :], ragged, cuts=2)
    assert "extend" in set(by_length.violations["check"])


@pytest.mark.parametrize("relative", [1e-6, 1e-4])
def test_tells_rounding_from_a_leak_by_the_size_of_the_whole_column(market, relative):
    """The first rows are far smaller than the column: rounding is measured against all of it."""

    def quiet_start(frames):
        r = returns(frames)
        r.iloc[:40] *= 1e-6
        return r + relative * returns(market).abs().median() * (len(r) % 2)  # depends on length

    report = audit_leakage(quiet_start, market, checks=["delete"], cuts=4)
    assert report.passed == (relative < 1e-5)
    if not report.passed:
        worst = report.violations.iloc[0]
        assert worst["column"] in market and worst["column"] in str(report)
        assert worst["usual_size"] == quiet_start(market)[worst["column"]].abs().median()
        assert f"by {worst['largest_change']:.2g} (usual size" in str(report)


def test_works_on_a_panel(market):
    panel = align_panel(market)
    assert audit_leakage(lambda p: np.log(p["close"]).diff(), panel, cuts=3).passed
    assert not audit_leakage(lambda p: np.log(p["close"]).diff(-1), panel, cuts=3).passed


def test_a_check_that_cannot_run_is_not_a_pass(market):
    def needs_everything(frames):
        table = returns(frames)
        if len(table) < N_BARS:
            raise ValueError("too short")
        return table

    report = audit_leakage(needs_everything, market, cuts=3)
    assert report.violations.empty and not report.passed
    assert "delete" in str(report) and "too short" in str(report)


def test_a_split_by_fraction_depends_on_the_length_of_the_download(market):
    def by_fraction(frames):
        r = returns(frames)
        head = r.iloc[: int(0.6 * len(r))]
        return (r - head.mean()).iloc[len(head) :]

    report = audit_leakage(by_fraction, market, cuts=3)
    assert {"extend"} <= set(report.violations["check"]) <= {"delete", "extend", "gaps"}


def test_refuses_what_it_cannot_judge(market, refuse_input, rng):
    def audit(pipeline=returns, **options):
        return audit_leakage(pipeline, market, **options)

    refuse_input(lambda: audit(lambda f: returns(f) + rng.normal()), "different results")
    refuse_input(lambda: audit(lambda f: returns(f).reset_index(drop=True)), "date its rows")
    refuse_input(lambda: audit(lambda f: 1), "DataFrame or Series")
    refuse_input(lambda: audit(lambda f: 1 / 0), "pipeline fails on these bars: ZeroDivisionError")
    refuse_input(lambda: audit(checks=["guess"]), "checks must be")
    late = pd.Timestamp("2030-01-01", tz="UTC")  # nothing is known later that could be changed
    for cuts in ([], "never", [pd.Timestamp("2022-01-02")], 2.5, [late]):
        refuse_input(functools.partial(audit, cuts=cuts), "cuts must be a number or UTC times")


def test_the_pipeline_cannot_spoil_the_bars(market):
    before = {symbol: frame.copy() for symbol, frame in market.items()}

    def careless(frames):
        out = returns(frames)
        for frame in frames.values():
            frame["close"] = 1.0
        return out

    assert audit_leakage(careless, market, cuts=2).passed
    pd.testing.assert_frame_equal(pd.concat(market), pd.concat(before))


def test_report_draws_and_escapes(market):
    hostile = {"A": "<script>"}
    report = audit_leakage(lambda f: returns(f).rename(columns=hostile).shift(-1), market, cuts=2)
    assert "<script>" not in report._repr_html_()
    assert report.plot().get_yticklabels()[0].get_text() == "perturb"
