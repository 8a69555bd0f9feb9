"""Faithfulness: interventions agree with arithmetic on a linear model and expose idle attention."""

import numpy as np
import pytest
import torch

from crossattn import (
    CrossAttentionForecaster,
    CrossAttentionMultiAsset,
    prepare_cross_attention_data,
    simulate_market,
)
from crossattn.baselines.linear import VAR
from crossattn.errors import InvalidInputError
from crossattn.evidence.faithfulness import (
    attributions,
    faithfulness,
    shuffled_histories,
    with_uniform_attention,
    zeroed_edges,
)
from crossattn.evidence.maps import attention_maps


@pytest.fixture(scope="module")
def data():
    market = simulate_market(n_assets=4, n_steps=4000, predictability=0.1, seed=1)
    return prepare_cross_attention_data(
        market.frames, lookback=12, horizon=1, features=["log_return"]
    ).split()


@pytest.fixture(scope="module")
def forecaster(data):
    train, val, _ = data
    return CrossAttentionForecaster(n_models=1, epochs=6, progress=False, device="cpu").fit(
        train, val
    )


def test_zeroed_edges_of_a_linear_model_are_its_contributions(data):
    train, _, test = data
    model = VAR(max_lag=2, own_lags=False).fit(train)
    parts = model.contributions(test).sum(axis=3)
    mean = np.nanmean(test.panel[:, :, 0], axis=0)
    at_mean = model.coefficient.sum(axis=2) * mean
    expected = np.sqrt(((parts - at_mean) ** 2).mean(axis=0))
    np.testing.assert_allclose(zeroed_edges(model, test), expected, rtol=1e-4, atol=1e-9)


def test_shuffling_a_leader_costs_its_follower(data):
    train, _, test = data
    model = VAR(penalty="lasso").fit(train)
    cost = shuffled_histories(model, test)
    size = np.abs(model.coefficient).sum(axis=2)
    np.fill_diagonal(size, 0.0)
    assert np.corrcoef(cost.ravel(), size.ravel())[0, 1] > 0.6
    assert cost.max() > 0.02


def test_attributions_add_up_to_the_forecast(forecaster, data):
    model = forecaster.models[0]
    x = torch.from_numpy(np.array(data[2].X[:40]))
    parts = attributions(model, x, n_steps=40)
    start = x.mean(dim=(0, 2), keepdim=True).expand_as(x)
    with torch.no_grad():
        gap = (model(x) - model(start)).numpy()
    np.testing.assert_allclose(parts.sum(axis=2), gap, atol=0.15 * np.abs(gap).max())
    assert np.corrcoef(parts.sum(axis=2).ravel(), gap.ravel())[0, 1] > 0.99


def test_uniform_attention_is_uniform_and_leaves_the_model_alone(forecaster, data):
    test = data[2][:50]
    before = attention_maps(forecaster.models[0], test).values
    even = attention_maps(with_uniform_attention(forecaster.models[0]), test).values
    others = even.sum(axis=-1)[:, :, ~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(others, 1 / 3, atol=1e-6)
    np.testing.assert_array_equal(attention_maps(forecaster.models[0], test).values, before)
    with pytest.raises(InvalidInputError, match="no attention"):
        with_uniform_attention(VAR())


def test_report_on_a_model_that_learned(forecaster, data):
    report = faithfulness(forecaster, data[2])
    influence = report.tests[report.tests["map"] == "influence"]
    assert (influence["verdict"] == "explains").all(), report.tests
    assert set(report.tests["test"]) == {
        "zeroed edge",
        "shuffled history",
        "integrated gradients",
        "uniform attention",
    }
    assert "<table" in report._repr_html_()
    assert len(report.plot().patches) == len(report.tests)


def test_attention_of_a_network_that_learned_nothing_does_not_explain(data):
    test = data[2][:400]
    model = CrossAttentionMultiAsset(4, 1, features=("log_return",), seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("gain", "content_gain")):
                parameter.mul_(torch.rand_like(parameter) * 0.01)
    assert not faithfulness(model, test).attention_explains
