"""Predictions of a window are the same bit for bit, whatever else is predicted beside it."""

import numpy as np
import pytest
import torch

from crossattn import CrossAttentionMultiAsset, prepare_cross_attention_data, simulate_market
from crossattn.config import OUTPUT_TYPES
from crossattn.training.batches import fit_scaling
from crossattn.training.prediction import attention_batches, predict

LABELS = {"sectors": ["a", "a", "b"], "markets": ["c"] * 3}
NETWORKS = {
    "lag": {},
    "encoder, lagged": {"preset": "encoder"},
    "encoder, asset": {"preset": "encoder", "cross": "asset"},
    "encoder, routed": {"preset": "encoder", "cross": "routed"},
    "encoder, hierarchical": {"preset": "encoder", "cross": "hierarchical", **LABELS},
    "inverted": {"preset": "inverted", "lookback": 12},
}


@pytest.fixture(scope="module")
def data():
    frames = dict(simulate_market(n_assets=3, n_steps=330, seed=6).frames)
    late = next(iter(frames))
    frames[late] = frames[late].drop(frames[late].index[[120, 200]])
    return prepare_cross_attention_data(frames, lookback=12, horizon=1)


def network(data, output_type="regression", **options):
    model = CrossAttentionMultiAsset(
        3, len(data.features), 16, output_type=output_type, max_lag=4, seed=0, **options
    )
    fit_scaling(model, data, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():  # away from an initial readout of nearly nothing
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("output_type", OUTPUT_TYPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_do_not_depend_on_the_rest_of_the_batch(data, name, output_type):
    model = network(data, output_type, **NETWORKS[name])
    whole = predict(model, data)
    assert np.isfinite(whole[data.has_bar]).all()
    for first, stop, batch_size in (
        *((90, 150, 1), (0, None, 7), (0, None, 64), (0, 1, 256)),
        *((-1, None, 256), (3, 200, 256), (50, 51, 3)),
    ):
        part = predict(model, data[first:stop], batch_size=batch_size)
        np.testing.assert_array_equal(part, whole[first:stop])
    order = np.random.default_rng(2).permutation(len(data))
    shuffled = predict(model, np.array(data.X)[order], batch_size=50)
    known = data.has_bar[order]
    np.testing.assert_array_equal(shuffled[known], whole[order][known])


@pytest.mark.parametrize(
    "X", [[[1], [1, 2]], np.full((2, 3, 12, 7), "high"), np.zeros((2, 3, 12, 7), complex)]
)
def test_what_holds_no_numbers_is_refused(data, X, refuse_input):
    refuse_input(lambda: predict(network(data), X), "X must hold numbers")


def test_predict_leaves_the_model_as_it_was(data):
    model = network(data).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = next(iter(attention_batches(model, data, batch_size=50)))[-1]["cross_asset"]
    assert first.dtype == torch.float32 and model.training
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name])
