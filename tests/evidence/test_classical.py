"""Classical references: against statsmodels, against a slow loop, on planted and null markets."""

import functools
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from standin.windows import simulated_windows
from statsmodels.tsa.api import VAR as StatsmodelsVAR

from crossattn.errors import MissingDependencyError
from crossattn.evidence import classical

windows = functools.partial(simulated_windows, lookback=8, n_assets=4, n_steps=6000)


@pytest.fixture(scope="module")
def planted():
    return windows(predictability=0.05)


def lags_of(edges):
    return {(e.leader, e.follower): e.lag for e in edges.itertuples()}


@pytest.mark.parametrize(
    "method", [classical.granger, classical.lagged_correlation, classical.pcmci]
)
def test_planted_pairs_are_found_at_their_lags(planted, method):
    market, data = planted
    found = lags_of(method(data).edges.query("significant"))
    assert lags_of(market.edges).items() <= found.items()


def test_pcmci_names_none_of_three_assets_without_leaders_and_skips_gaps():
    _, data = windows("null", n_assets=3, n_steps=1500, seed=3)
    assert classical.pcmci(data, max_lag=2).nobody_leads
    panel = np.array(data.panel)
    panel[700:720, 1] = np.nan
    assert classical.pcmci(replace(data, panel=panel), max_lag=2).nobody_leads


@pytest.mark.parametrize(
    "method", [classical.granger, classical.lagged_correlation, classical.pcmci]
)
def test_few_or_no_returns_leave_nothing_to_test(method):
    _, data = windows("null", n_assets=3, n_steps=700, seed=3)
    for known in (0, 30):  # of A00's targets
        targets, panel = data.targets.copy(), np.array(data.panel)
        targets[known + data.ends[0] :, 0] = np.nan
        panel[:, 2] = 0.0  # a price that is pegged
        report = method(replace(data, targets=targets, panel=panel), max_lag=1)
        edges = report.edges.set_index(["leader", "follower"])
        untested = edges.query("not tested")
        assert set(untested.index) == {("A01", "A00"), ("A02", "A00"), ("A02", "A01")}
        assert (untested[["p_value", "q_value"]] == 1).all(axis=None)
        assert "3 tested, 3 not testable" in str(report)


def test_pcmci_without_tigramite_says_what_to_install(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "tigramite.pcmci", None)
    with pytest.raises(MissingDependencyError, match="tigramite"):
        classical.pcmci(planted[1])


def test_textbook_granger_equals_statsmodels():
    _, data = windows(n_assets=3, n_steps=900)
    returns = np.asarray(data.panel[:, :, 0], float)
    first = int(data.ends[0])
    mine = classical.granger(data, max_lag=2, robust=False).edges
    theirs = StatsmodelsVAR(returns[first - 2 :]).fit(3)
    names = list(data.symbols)
    for row in mine.itertuples():
        follower, leader = names.index(row.follower), names.index(row.leader)
        test = theirs.test_causality(follower, [leader], kind="wald")
        assert row.p_value == pytest.approx(test.pvalue, rel=0.2, abs=2e-3)


def test_textbook_errors_claim_leaders_under_shared_volatility_and_robust_ones_do_not():
    _, data = windows("factor", n_assets=6, seed=2)
    naive = classical.lagged_correlation(data, robust=False)
    robust = classical.lagged_correlation(data)
    assert naive.edges["significant"].sum() > robust.edges["significant"].sum()
    assert robust.nobody_leads


def random_quotes(n, seed, lead_of=None, delay=0):
    """Quotes of a random walk at random times; or of one that repeats another's path later."""
    generator = np.random.default_rng(seed)
    grid = np.arange(40_000)
    path = np.cumsum(np.random.default_rng(lead_of or seed).normal(0, 1e-3, len(grid)))
    own = np.cumsum(generator.normal(0, 5e-4, len(grid)))
    path = np.concatenate([np.full(delay, path[0]), path[: len(grid) - delay]]) + own
    at = np.sort(generator.choice(grid[1:-1], n, replace=False))
    at = np.concatenate([[0], at, [len(grid) - 1]])
    index = pd.to_datetime(at, unit="s", utc=True) + pd.Timedelta("365D")
    columns = dict.fromkeys(("open", "high", "low", "close"), 100 * np.exp(path[at]))
    columns |= {"volume": 1.0, "close_time": index + pd.Timedelta("1us")}
    return pd.DataFrame(columns, index)


def test_shifted_covariance_equals_a_slow_loop():
    a, b = random_quotes(60, 1), random_quotes(45, 2)
    quotes = [(f.index.as_unit("ns").asi8, np.log(f["close"].to_numpy())) for f in (a, b)]
    shift = 40 * 10**9
    edges = np.array([quotes[0][0][0], quotes[0][0][-1] + 1.0])
    excess, _ = classical._shifted_covariance(*quotes, np.array([shift]), edges)
    (lt, lx), (ft, fx) = quotes

    def loop(shift):
        product = overlap = 0.0
        for c, d, dy in zip(ft[:-1], ft[1:], np.diff(fx), strict=True):
            touched = [k for k in range(len(lt) - 1) if lt[k] + shift < d and lt[k + 1] + shift > c]
            if not touched or lt[0] > c - shift or lt[-1] < d - shift:
                continue
            product += dy * sum(lx[k + 1] - lx[k] for k in touched)
            overlap += max(0, min(lt[touched[-1] + 1], d) - max(lt[touched[0]], c))
        return product, overlap

    together, shifted = loop(0), loop(shift)
    expected = shifted[0] - together[0] / together[1] * shifted[1]
    np.testing.assert_allclose(excess[0, 0], expected, rtol=1e-9)


def test_hayashi_yoshida_finds_a_delay_and_no_lead_in_mere_asynchrony():
    lead = {"FAST": random_quotes(4000, 1), "SLOW": random_quotes(3000, 3, lead_of=1, delay=60)}
    options = {"step": pd.Timedelta("20s"), "max_lag": 5}
    report = classical.hayashi_yoshida(lead, **options)
    top = report.edges.iloc[0]
    assert (top["leader"], top["follower"], top["significant"]) == ("FAST", "SLOW", True)
    assert top["lag"] in (2, 3, 4)
    same = {"OFTEN": random_quotes(8000, 1), "RARELY": random_quotes(1500, 3, lead_of=1)}
    assert classical.hayashi_yoshida(same, **options).nobody_leads


def test_refusals(planted, refuse_input):
    data = planted[1]
    refuse_input(lambda: classical.granger(data[:100]), "too few")
    refuse_input(lambda: classical.lagged_correlation(data, max_lag=-1), "max_lag")
    refuse_input(lambda: classical.lagged_correlation(data.y), "data must be CrossAttentionData")
    refuse_input(lambda: classical.granger(data, alpha=5), "alpha")
    quotes = {"A": random_quotes(500, 1), "B": random_quotes(500, 2)}
    refuse_input(lambda: classical.hayashi_yoshida(quotes, max_lag=-1), "max_lag")
    refuse_input(lambda: classical.hayashi_yoshida(quotes, n_blocks=1), "n_blocks")
    refuse_input(lambda: classical.hayashi_yoshida(quotes, alpha=0), "alpha")
    refuse_input(lambda: classical.hayashi_yoshida(quotes, step="fast"), "step must be")
    short = {"A": random_quotes(50, 1), "B": random_quotes(50, 2)}
    refuse_input(lambda: classical.hayashi_yoshida(short), "blocks")
    later = quotes["B"].shift(freq="1D")
    later["close_time"] += pd.Timedelta("1D")
    refuse_input(lambda: classical.hayashi_yoshida(quotes | {"B": later}), "overlap in time")
