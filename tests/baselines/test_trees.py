"""Boosted trees learn what a linear map cannot, and nothing that validation contradicts."""

import numpy as np
import pytest

from crossattn.baselines import VAR, BoostedTrees
from crossattn.windows.dataset import CrossAttentionData


def planted(response, n=4000):
    """Asset 1's return follows a function of asset 0's return one bar before."""
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.normal(size=(n, 2))
    returns[1:, 1] += 0.01 * response(returns[:-1, 0] / 0.01)
    X = np.lib.stride_tricks.sliding_window_view(returns[:-1], 4, axis=0)  # (n, N, T)
    data = CrossAttentionData.from_arrays(X[..., None], returns[4:], features=["log_return"])
    return data[:2500], data[2500:3000], data[3000:]


def test_an_even_response_is_learned_where_a_linear_map_finds_nothing():
    train, val, test = planted(lambda z: np.abs(z) - 0.8)
    trees = BoostedTrees(max_lag=1).fit(train, val)
    assert trees.score(test) > 0.09  # of .13 that can be known
    assert abs(VAR(max_lag=1, penalty="lasso").fit(train, val).score(test)) < 0.02


def test_no_tree_is_used_where_validation_contradicts_training():
    train, _, test = planted(lambda z: z)
    _, val, _ = planted(lambda z: -z)
    assert not BoostedTrees(max_lag=1, n_trees=20).fit(train, val).predict(test)[:, 1].any()


@pytest.mark.parametrize("name", ["max_lag", "n_trees", "max_depth", "learning_rate", "seed"])
@pytest.mark.parametrize("wrong", [-1, "x"])
def test_wrong_parameters_are_named(name, wrong, refuse_input):
    train, *_ = planted(np.abs, n=3100)
    words = f"{name} must be .* got {wrong!r}"
    refuse_input(lambda: BoostedTrees(**{name: wrong}).fit(train), words)


def test_a_large_seed_is_one():
    train, val, test = planted(np.abs, n=3100)
    assert np.isfinite(BoostedTrees(1, n_trees=2, seed=2**40).fit(train, val).predict(test)).all()
