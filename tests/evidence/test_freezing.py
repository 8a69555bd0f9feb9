"""Frozen attention: the learned map carries the skill, straw maps do not, and all stay frozen."""

import numpy as np
import pytest
import torch

from crossattn import (
    CrossAttentionMultiAsset,
    predict,
    prepare_cross_attention_data,
    simulate_market,
    train_cross_attention_model,
)
from crossattn.errors import InvalidInputError
from crossattn.evidence.freezing import _with_new_heads, frozen_attention


@pytest.fixture(scope="module")
def parts():
    market = simulate_market(n_assets=4, n_steps=3000, predictability=0.1, seed=1)
    data = prepare_cross_attention_data(market.frames, 12, 1, features=["log_return"])
    return data.split()


@pytest.fixture(scope="module")
def model(parts):
    model = CrossAttentionMultiAsset(4, 1, features=("log_return",), seed=2)
    train_cross_attention_model(model, *parts[:2], epochs=6, progress=False)
    return model


def test_the_learned_map_carries_the_skill(model, parts):
    before = predict(model, parts[2])
    skill = frozen_attention(model, *parts, epochs=6)
    assert skill["learned"] > 0.8 * skill["trained together"] > 0.1
    assert skill[["uniform", "shuffled"]].max() < 0.6 * skill["learned"]
    np.testing.assert_array_equal(predict(model, parts[2]), before)


def test_attention_is_not_trained_with_the_heads(model, parts):
    new = _with_new_heads(model, torch.clone, seed=5)
    layer, own = new.body.layers[-1], model.body.layers[-1]
    assert not torch.equal(layer.gain, own.gain), "heads start anew"
    train_cross_attention_model(new, *parts[:2], epochs=1, progress=False)
    assert torch.equal(layer.attention(), own.attention())


def test_other_presets_are_refused(parts):
    other = CrossAttentionMultiAsset(4, 1, preset="inverted", lookback=12)
    with pytest.raises(InvalidInputError, match="lag preset"):
        frozen_attention(other, *parts)
