"""Attention maps: selections add up, dates are those of the windows, row means are 1/N."""

import functools

import numpy as np
import pandas as pd
import pytest

from crossattn import (
    CrossAttentionForecaster,
    CrossAttentionMultiAsset,
    predict,
    predict_and_visualize,
    prepare_cross_attention_data,
    simulate_market,
    train_cross_attention_model,
)
from crossattn.baselines.naive import Zero
from crossattn.evidence.explorer import explore_attention
from crossattn.evidence.maps import attention_maps, information_flow, leadership_scores, rollout
from crossattn.figures import signed_heatmap


@pytest.fixture(scope="module")
def market():
    return simulate_market(n_assets=4, n_steps=900, predictability=0.2, seed=0)


@pytest.fixture(scope="module")
def data(market):
    return prepare_cross_attention_data(market.frames, lookback=16, horizon=1)


@pytest.fixture(scope="module")
def forecaster(data):
    train, val, _ = data.split()
    return CrossAttentionForecaster(
        max_lag=7, n_models=1, epochs=2, varying=False, progress=False, device="cpu"
    ).fit(train, val)


@pytest.fixture(scope="module")
def network(data):
    train, val, _ = data.split()
    model = CrossAttentionMultiAsset(4, 7, features=data.features, lookback=16, seed=0)
    train_cross_attention_model(model, train, val, epochs=2, progress=False, device="cpu")
    return model


def test_map_selections_add_up(network, data):
    maps = attention_maps(network, data[:70])
    n, heads, n_assets, _, n_lags = maps.values.shape
    assert (n, n_assets, n_lags) == (70, 4, 8)
    whole = maps.map()
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, atol=1e-5)
    by_head = np.mean([maps.map(head=h) for h in range(heads)], axis=0)
    np.testing.assert_allclose(by_head, whole, atol=1e-6)
    by_lag = np.sum([maps.map(lag=lag) for lag in range(1, n_lags + 1)], axis=0)
    np.testing.assert_allclose(by_lag, whole, atol=1e-6)
    np.testing.assert_allclose(maps.by_lag().sum(axis=1), 1.0, atol=1e-5)
    follower = data.symbols[2]
    path = maps.through_time(follower)
    np.testing.assert_allclose(path.mean(), whole.loc[follower], atol=1e-5)
    assert (path.index == data.timestamps[:70]).all()


def test_thinning_takes_every_nth_window(network, data):
    every, seventh = (attention_maps(network, data[:600], every=k).values for k in (1, 7))
    np.testing.assert_array_equal(seventh, every[::7])


def test_exogenous_series_are_columns_of_a_map(market, data, rng):
    series = pd.DataFrame({"RATE": rng.normal(size=len(data.clock))}, index=data.clock)
    both = prepare_cross_attention_data(market.frames, lookback=16, horizon=1, exogenous=series)
    model = CrossAttentionForecaster(max_lag=7, varying=False, content=False).fit(both)
    turned = both[:30].select(symbols=both.symbols[::-1])
    maps = attention_maps(model, turned)
    assert list(maps.map().columns) == [*both.symbols, "RATE"]
    assert list(maps.through_time(both.symbols[0]).columns) == list(maps.sources)
    _, figure = predict_and_visualize(model, turned, turned.symbols)
    names = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert names == [*both.symbols[::-1], "RATE"]
    assert '"RATE"' in explore_attention(maps).html


def test_as_follower_is_one_over_n_and_influence_is_not(forecaster, data):
    scores = leadership_scores(forecaster, data)
    np.testing.assert_allclose(scores["as_follower"], 0.25, atol=1e-5)
    assert scores["influence"].std() > 0.01
    np.testing.assert_allclose((scores[["influence", "influenced"]] ** 2).mean(), 1.0)


def test_rollout_is_the_product_with_residuals(refuse_input, rng):
    layers = [rng.dirichlet(np.ones(3), size=(5, 3)) for _ in range(2)]
    total = rollout(layers)
    np.testing.assert_allclose(total.sum(axis=-1), 1.0)
    first, second = (0.5 * np.eye(3) + 0.5 * a[2] for a in layers)
    np.testing.assert_allclose(total[2], second @ first)
    refuse_input(lambda: rollout([]), "at least one")
    refuse_input(lambda: rollout([np.eye(3), np.eye(4)]), r"of one size, got \[3, 4\]")


def test_predict_and_visualize_predicts_what_predict_does(network, forecaster, data, tmp_path):
    X = np.asarray(data.X[:9])
    path = tmp_path / "map.png"
    predictions, figure = predict_and_visualize(network, X, data.symbols, device="cpu", path=path)
    np.testing.assert_allclose(predictions, predict(network, X, device="cpu"))
    assert path.stat().st_size > 5000
    texts = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert texts == list(data.symbols)
    again, _ = predict_and_visualize(forecaster, data[:9], data.symbols, device="cpu")
    assert again.shape == (9, 4)


@pytest.mark.parametrize("output_type", ["classification", "portfolio", "distribution"])
def test_every_head_can_be_drawn(data, output_type):
    model = CrossAttentionMultiAsset(4, 7, features=data.features, output_type=output_type, seed=0)
    X = np.asarray(data.X[:3])
    predictions, figure = predict_and_visualize(model, X, list("ABCD"), device="cpu")
    assert len(predictions) == 3
    label = figure.axes[2].get_xlabel()
    assert label.startswith("probability" if output_type == "classification" else "prediction")


def test_refusals(network, forecaster, data, refuse_input):
    draw = functools.partial(predict_and_visualize, network, X=data[:3], symbols=list("ABCD"))
    refuse_input(lambda: draw(symbols=["A"]), "symbols must name 4")
    refuse_input(lambda: draw(symbols=3), "symbols must be a sequence")
    refuse_input(lambda: draw(X=None), "X must")
    refuse_input(lambda: draw(path="map.foo"), "path map.foo cannot be written: Format 'foo'")
    refuse_input(lambda: draw(path="no/map.png"), "path no/map.png cannot be written")
    refuse_input(lambda: attention_maps(Zero().fit(data), data), "no attention")
    refuse_input(lambda: leadership_scores(np.eye(4), "ABCD"), "data must be CrossAttentionData")
    refuse_input(lambda: information_flow(network), "report must be LeadLagReport")
    refuse_input(lambda: attention_maps(forecaster, np.asarray(data.X[:3])), "CrossAttentionData")
    refuse_input(lambda: attention_maps(forecaster, data[:3]).map(head=9), "head")
    refuse_input(lambda: attention_maps(forecaster, data[:3]).map(lag=0), "lag")


def test_the_drawn_map_is_in_the_order_of_the_windows(forecaster, data, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "crossattn.evidence.maps.attention_heatmap",
        lambda table, symbols, sources, **options: drawn.append((table, symbols)),
    )
    turned = data[:40].select(symbols=[*data.symbols[1:], data.symbols[0]])
    predict_and_visualize(forecaster, turned, turned.symbols)
    table, symbols = drawn[0]
    expected = attention_maps(forecaster, data[:40]).map()
    np.testing.assert_allclose(table, expected.loc[list(symbols), list(symbols)], rtol=1e-6)


def test_a_map_prints_no_negative_zero():
    values = np.array([[0.0, -0.001], [0.25, -0.0]])
    shown = [text.get_text() for text in signed_heatmap(values, ["A", "B"], label="weight").texts]
    assert shown == ["0.00", "0.00", "0.25", "0.00"]
