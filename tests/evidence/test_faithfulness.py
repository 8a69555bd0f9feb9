"""Faithfulness: interventions agree with arithmetic, expose idle attention, retrain the heads."""

import numpy as np
import pytest
import torch
from standin.windows import simulated_windows

from crossattn import (
    CrossAttentionForecaster,
    CrossAttentionMultiAsset,
    predict,
    train_cross_attention_model,
)
from crossattn.baselines.linear import VAR
from crossattn.evidence.contributions import measure_contributions, without_source
from crossattn.evidence.faithfulness import (
    _with_new_heads,
    attributions,
    audit_faithfulness,
    frozen_attention,
    shuffled_histories,
    with_uniform_attention,
    zeroed_edges,
)
from crossattn.evidence.maps import attention_maps


@pytest.fixture(scope="module")
def data():
    options = {"n_assets": 4, "n_steps": 4000, "predictability": 0.1, "seed": 1}
    return simulated_windows(lookback=12, **options)[1].split()


@pytest.fixture(scope="module")
def network(data):
    model = CrossAttentionMultiAsset(4, 1, features=("log_return",), lookback=12, seed=0)
    train_cross_attention_model(model, *data[:2], epochs=6, progress=False, device="cpu")
    return model


def test_zeroed_edges_of_a_linear_model_are_its_contributions(data):
    train, _, test = data
    model = VAR(max_lag=2, own_lags=False).fit(train)
    parts = model.contributions(test).sum(axis=3)
    mean = np.nanmean(test.panel[:, :, 0], axis=0)
    at_mean = model.coefficient_.sum(axis=2) * mean
    expected = np.sqrt(((parts - at_mean) ** 2).mean(axis=0))
    np.testing.assert_allclose(zeroed_edges(model, test), expected, rtol=1e-4, atol=1e-9)


def test_shuffling_a_leader_costs_its_follower(data):
    train, _, test = data
    model = VAR(penalty="lasso").fit(train)
    cost = shuffled_histories(model, test)
    size = np.abs(model.coefficient_).sum(axis=2)
    np.fill_diagonal(size, 0.0)
    assert np.corrcoef(cost.ravel(), size.ravel())[0, 1] > 0.6
    assert cost.max() > 0.02


def test_attributions_add_up_to_the_forecast(network, data):
    x = torch.from_numpy(np.array(data[2].X[:40]))
    parts = attributions(network, x, n_steps=40)
    start = x.mean(dim=(0, 2), keepdim=True).expand_as(x)
    with torch.no_grad():
        gap = (network(x) - network(start)).numpy()
    np.testing.assert_allclose(parts.sum(axis=2), gap, atol=0.15 * np.abs(gap).max())
    assert np.corrcoef(parts.sum(axis=2).ravel(), gap.ravel())[0, 1] > 0.99


def test_uniform_attention_is_uniform_and_leaves_the_model_alone(network, data, refuse_input):
    test = data[2][:50]
    before = attention_maps(network, test).values
    even = attention_maps(with_uniform_attention(network), test).values
    others = even.sum(axis=-1)[:, :, ~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(others, 1 / 3, atol=1e-6)
    np.testing.assert_array_equal(attention_maps(network, test).values, before)
    refuse_input(lambda: with_uniform_attention(VAR()), "no attention")


def test_report_on_a_network_that_learned(network, data):
    report = audit_faithfulness(network, data[2])
    influence = report.tests[report.tests["map"] == "influence"]
    assert (influence["verdict"] == "explains").all(), report.tests
    names = {"zeroed edge", "shuffled history", "integrated gradients", "uniform attention"}
    assert set(report.tests["test"]) == names
    assert "<table" in report._repr_html_()
    assert len(report.plot().patches) == len(report.tests)


def test_a_forecaster_is_tested_without_gradients(data):
    train, val, test = data
    model = CrossAttentionForecaster(max_lag=7, varying=False, content=False).fit(train, val)
    report = audit_faithfulness(model, test)
    assert set(report.tests["test"]) == {"zeroed edge", "shuffled history"}
    assert (report.tests["verdict"] == "explains").all(), report.tests


def test_attention_of_a_network_that_learned_nothing_does_not_explain(data):
    test = data[2][:400]
    model = CrossAttentionMultiAsset(4, 1, features=("log_return",), seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("gain", "content_gain")):
                parameter.mul_(torch.rand_like(parameter) * 0.01)
    assert not audit_faithfulness(model, test).attention_explains


def test_the_learned_map_carries_the_skill(network, data):
    before = predict(network, data[2])
    skill = frozen_attention(network, *data, epochs=6)
    assert skill["learned"] > 0.8 * skill["trained together"] > 0.1
    assert skill[["uniform", "shuffled"]].max() < 0.6 * skill["learned"]
    np.testing.assert_array_equal(predict(network, data[2]), before)


def test_attention_is_not_trained_with_the_heads(network, data):
    new = _with_new_heads(network, torch.clone, seed=5)
    layer, own = new.body.layers[-1], network.body.layers[-1]
    assert not torch.equal(layer.gain, own.gain), "heads start anew"
    train_cross_attention_model(new, *data[:2], epochs=1, progress=False)
    assert torch.equal(layer.attention(), own.attention())


def test_refusals(network, data, refuse_input):
    for examine in (audit_faithfulness, measure_contributions):
        refuse_input(lambda examine=examine: examine(network, 3), "data must be CrossAttentionData")
        refuse_input(lambda examine=examine: examine(network, data[2][:0]), "no window")
    other = CrossAttentionMultiAsset(4, 1, preset="inverted", lookback=12)
    refuse_input(lambda: frozen_attention(other, *data), "lag preset")
    refuse_input(lambda: measure_contributions(network, data[2], followers=["zz"]), "followers")
    for source in (99, "A00", -1):
        refuse_input(lambda at=source: without_source(data[2], at), "source must be")
    refuse_input(lambda: zeroed_edges(network, data[2].X), "data must be CrossAttentionData")
    x = torch.zeros(2, 4, 12, 1)
    refuse_input(lambda: attributions(VAR(), x), "model must be CrossAttentionMultiAsset")
    refuse_input(lambda: attributions(network, x.numpy()), "x must be Tensor, got ndarray")
    refuse_input(lambda: attributions(network, x, n_steps=0), "n_steps")
    refuse_input(lambda: audit_faithfulness(network, data[2], seed=-1), "seed")
    refuse_input(lambda: frozen_attention(network, *data, seed="x"), "seed")
    pair = CrossAttentionMultiAsset(2, 1, features=("log_return",))
    two = data[2].select(symbols=data[2].symbols[:2])
    refuse_input(lambda: audit_faithfulness(pair, two), "data must hold 3 assets or more, got 2")
    refuse_input(
        lambda: audit_faithfulness(CrossAttentionForecaster(target="volatility"), data[2]),
        r"model must forecast returns, got CrossAttentionForecaster \(volatility\)",
    )
    for kind in ("classification", "distribution", "portfolio"):
        model = CrossAttentionMultiAsset(4, 1, output_type=kind, features=("log_return",))
        for call in (audit_faithfulness, lambda m, test: frozen_attention(m, *data)):
            refuse_input(lambda m=model, call=call: call(m, data[2]), f"must forecast.*{kind}")
