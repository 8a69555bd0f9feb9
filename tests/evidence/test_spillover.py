"""Volatility edges: a planted hub is found, nothing else, and the p-values have their size."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from standin.windows import simulated_windows

from crossattn import CrossAttentionForecaster, analyze_lead_lag_relationships
from crossattn.evidence.spillover import _scores


def lead_lag(**options):
    market, data = simulated_windows("spillover", lookback=24, n_assets=6, **options)
    train, val, test = data.split()
    model = CrossAttentionForecaster(7, target="volatility", progress=False).fit(train, val)
    return market, model, test, model.lead_lag(test)


@pytest.fixture(scope="module")
def planted():
    return lead_lag(n_steps=10_000, seed=4)


def test_the_hub_is_found(planted):
    market, model, test, report = planted
    edges = report.edges
    true = set(zip(market.edges["leader"], market.edges["follower"], strict=True))
    found = [pair in true for pair in zip(edges["leader"], edges["follower"], strict=True)]
    assert roc_auc_score(found, -edges["p_value"]) > 0.95
    named = edges[edges["significant"]]
    assert len(named) >= 4 and np.isin(named["leader"], market.edges["leader"]).mean() > 0.75
    hub = model.symbols_.index(market.edges["leader"][0])
    followers = np.delete(np.arange(6), hub)
    assert (model.leaders(test)[:, followers] == hub).mean() > 0.9
    assert (named["effect"] > 0).all() and "break_even_cost" not in edges


def test_some_symbols_are_the_same_rows(planted):
    _, model, test, report = planted
    some = analyze_lead_lag_relationships(model, test, list(model.symbols_[:3]))
    part, whole = (r.edges.set_index(["leader", "follower"])["p_value"] for r in (some, report))
    np.testing.assert_allclose(part, whole.loc[part.index])
    assert len(part) == 6


def test_nobody_leads_where_nothing_spreads():
    assert lead_lag(n_steps=5000, spillover=0.0, seed=1)[3].nobody_leads


def test_score_has_its_size_and_finds_what_is_there(rng):
    small, found = [], []
    for _ in range(300):
        own, idle, true = 0.3 * rng.normal(size=(3, 1500))
        variance = np.exp(2 * (own + true))
        parts = np.c_[own, 0.2 * idle, 0.5 * true]
        shocks = rng.standard_t(6, 1500) * np.sqrt(4 / 6)
        ratio = variance * shocks**2 / np.exp(2 * parts.sum(axis=1))
        logs = 2 * np.stack([own, idle, true], axis=1)[:, :, None]
        relative = np.exp(logs - 2 * parts.sum(axis=1)[:, None, None])
        row = _scores(ratio, parts, logs, relative, 0, 1)
        small.append(row["p_value"][1] < 0.05)
        found.append(row["p_value"][2] < 0.05)
    assert 0.02 < np.mean(small) < 0.09
    assert np.mean(found) > 0.95
    still = _scores(np.zeros(1500), parts, logs, relative, 0, 1)
    assert (still["p_value"] >= 0.5).all(), "nothing spreads to a price that never moves"
