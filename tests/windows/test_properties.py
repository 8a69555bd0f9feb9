"""What holds for windows and folds of any size, tried on many."""

import numpy as np
import pandas as pd
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crossattn.errors import InvalidInputError
from crossattn.windows.prepare import windows_of_features
from crossattn.windows.splits import combinatorial_folds, walk_forward_folds

sizes = st.integers(1, 12)


def windows(rows: int, lookback: int, horizon: int, n_assets: int = 2, seed: int = 0):
    """Windows of white noise with holes: two features, `n_assets` assets; rows must suffice."""
    assume(rows >= lookback + horizon)
    rng = np.random.default_rng(seed)
    clock = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC", name="close_time")
    symbols = [f"S{i}" for i in range(n_assets)]
    columns = pd.MultiIndex.from_product([["a", "b"], symbols], names=["feature", "symbol"])
    cells = rng.normal(size=(rows, 2 * n_assets))
    cells[rng.random(cells.shape) < 0.1] = np.nan
    closes = rng.lognormal(size=(rows, n_assets))
    closes[rng.random(closes.shape) < 0.1] = np.nan
    features, closes = pd.DataFrame(cells, clock, columns), pd.DataFrame(closes, clock, symbols)
    return windows_of_features(features, closes, lookback, horizon)


def answered_before(earlier, later) -> bool:
    """Every target of `earlier` is known before the first forecast of `later` is made."""
    return earlier.ends[-1] + earlier.horizon < later.ends[0]


@settings(max_examples=60)
@given(st.integers(14, 60), sizes, sizes, st.integers(1, 4))
def test_every_window_ends_where_its_target_begins(rows, lookback, horizon, n_assets):
    data = windows(rows, lookback, horizon, n_assets, seed=rows)
    assert len(data) == rows - lookback - horizon + 1
    assert data.X.shape == (len(data), n_assets, lookback, 2)
    k = len(data) // 2
    last = data.panel[data.ends[k]]
    np.testing.assert_array_equal(data.X[k, :, -1], last)
    np.testing.assert_array_equal(data.X[k, :, 0], data.panel[data.ends[k] - lookback + 1])
    np.testing.assert_array_equal(data.mask[k, :, -1], ~np.isnan(last).any(axis=1))
    np.testing.assert_array_equal(data.step_targets[k, :, -1], data.y[k])
    if horizon == 1:
        np.testing.assert_array_equal(data.y, data.bar_returns)


@settings(max_examples=100)
@given(st.integers(14, 120), sizes, sizes, st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_a_split_is_ordered_purged_and_whole_or_refused(rows, lookback, horizon, train, val):
    data = windows(rows, lookback, horizon)
    try:
        parts = data.split(train, val)
    except InvalidInputError:
        return
    assert all(len(part) for part in parts)
    assert answered_before(parts[0], parts[1]) and answered_before(parts[1], parts[2])
    assert len(data) - sum(map(len, parts)) == 2 * horizon
    assert parts[0].ends[0] == data.ends[0] and parts[2].ends[-1] == data.ends[-1]


@settings(max_examples=100)
@given(st.integers(30, 120), sizes, sizes, sizes, sizes, st.integers(0, 9), st.booleans())
def test_walk_forward_tests_each_window_once(
    rows, lookback, horizon, train_size, test_size, embargo, expanding
):
    data = windows(rows, lookback, horizon)
    assume(len(data) > train_size + horizon + embargo)
    options = {"train_size": train_size, "test_size": test_size, "expanding": expanding}
    folds = walk_forward_folds(data, **options, embargo=embargo)
    tested = [end for fold in folds for block in fold.test for end in block.ends]
    assert tested == list(data.ends[train_size + horizon + embargo :])
    for fold in folds:
        (train,), (test,) = fold.train, fold.test
        assert answered_before(train, test)
        assert test.ends[0] - train.ends[-1] == horizon + embargo + 1
        assert len(train) == train_size or (expanding and train.ends[0] == data.ends[0])


@settings(max_examples=60)
@given(st.integers(40, 120), sizes, sizes, st.integers(2, 6), st.integers(1, 5))
def test_combinatorial_folds_share_no_open_answer_and_no_bar(
    rows, lookback, horizon, n_blocks, n_test_blocks
):
    data = windows(rows, lookback, horizon)
    try:
        folds = combinatorial_folds(data, n_blocks=n_blocks, n_test_blocks=n_test_blocks)
    except InvalidInputError:
        return
    for fold in folds:
        for test in fold.test:
            for train in fold.train:
                if train.ends[0] < test.ends[0]:
                    assert answered_before(train, test)
                else:
                    assert answered_before(test, train)
                    assert train.ends[0] - lookback + 1 > test.ends[-1]
