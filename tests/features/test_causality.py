"""Changing any bar after t changes no bit of any feature or window at or before t."""

import numpy as np
import pandas as pd
import pytest

from crossattn import align_panel, create_multi_asset_features, prepare_cross_attention_data
from crossattn.features import FEATURES, FeatureSpec

pytestmark = pytest.mark.filterwarnings("ignore:features. momentum has no value")
PRICES = ["open", "high", "low", "close"]


def perturb(future, rng):
    """Every later price and volume is another one."""
    changed = future.copy()
    changed[PRICES] = changed[PRICES].mul(rng.lognormal(0, 0.2, len(future)), axis=0)
    changed["volume"] *= rng.lognormal(0, 1, len(future))
    return changed


def delete(future, rng):
    """About half of the later bars are not there."""
    return future[rng.random(len(future)) < 0.5]


def extend(future, rng):
    """Later bars are others, and there are more of them."""
    changed = perturb(future, rng)
    shift = future.index[-1] - future.index[0] + pd.Timedelta(hours=1)
    return pd.concat([changed, changed[:60].set_axis(future.index[:60] + shift)])


def shuffle(future, rng):
    """Later bars come in another order."""
    return future.iloc[rng.permutation(len(future))].set_axis(future.index)


def poison(future, rng):
    """Later bars are missing or absurd: prices and volumes of 1e±150."""
    changed = future.copy()
    kind = rng.integers(0, 4, len(future))
    factor = np.select([kind == 0, kind == 1, kind == 2], [1e150, 1e-150, np.nan], 1.0)
    changed[PRICES] = changed[PRICES].mul(factor, axis=0)
    changed["volume"] = np.select([kind == 0, kind == 1, kind == 2], [1e300, 0.0, np.nan], 1.0)
    return changed


def known_at(frames, moments):
    """For each moment, the bits of all features and windows at or before it."""
    panel = align_panel(frames)
    table = create_multi_asset_features(panel, list(FEATURES))
    data = prepare_cross_attention_data(panel, lookback=6, horizon=3, include_latest=True)
    for moment in moments:
        n = int((data.timestamps <= moment).sum())
        until = data[:n]
        targets = data.y[: max(0, n - data.horizon)]  # those that closed by then
        parts = (table.loc[:moment].to_numpy(), until.X, until.mask, targets)
        yield [np.ascontiguousarray(part).tobytes() for part in parts], list(until.timestamps)


def changed_after(frames, moment, change, rng):
    hour = pd.Timedelta(hours=1)  # a bar that opens an hour before the moment closes at it
    result = {}
    for symbol, frame in frames.items():
        past, future = frame[frame.index + hour <= moment], frame[frame.index + hour > moment]
        result[symbol] = pd.concat([past, change(future, rng)])
    return result


@pytest.fixture
def frames(ragged_frames):
    """One whole symbol, one with missing bars, one with zero volumes and NaN bars."""
    return {symbol: ragged_frames[symbol] for symbol in ("S0", "S1", "S3")}


@pytest.mark.parametrize("change", [perturb, delete, extend, shuffle, poison])
def test_no_change_of_the_future_reaches_the_past(frames, change):
    clock = frames["S0"].index + pd.Timedelta(hours=1)
    rng = np.random.default_rng(42)
    moments = clock[rng.choice(np.arange(50, len(clock) - 5), 25, replace=False)]
    for moment, before in zip(moments, known_at(frames, moments), strict=True):
        changed = changed_after(frames, moment, change, rng)
        (after,) = known_at(changed, [moment])
        assert after == before, f"{change.__name__} after {moment} changed the past"


@pytest.mark.parametrize("change", [perturb, delete, extend, shuffle, poison])
def test_a_feature_that_peeks_one_bar_ahead_is_caught(frames, change, monkeypatch):
    def peek(bars):
        ahead = np.full_like(bars.close, np.nan)
        ahead[:-1] = bars.close[1:]
        return ahead

    monkeypatch.setitem(FEATURES, "peek", FeatureSpec("peek", "tomorrow", 0, (), peek))
    rng = np.random.default_rng(3)
    for cut in (80, 150, 220):
        moment = frames["S0"].index[cut] + pd.Timedelta(hours=1)
        changed = changed_after(frames, moment, change, rng)
        if [*known_at(changed, [moment])] != [*known_at(frames, [moment])]:
            return
    pytest.fail("a feature made of the next close went unnoticed")
