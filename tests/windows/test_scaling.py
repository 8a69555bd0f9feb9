"""The scaler sees the training part only, skips NaN, and survives a trip through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossattn import prepare_cross_attention_data
from crossattn.errors import DamagedFileError, InvalidInputError
from crossattn.windows.scaling import Scaler

NAMES = ["log_return", "rsi", "range"]


@pytest.fixture
def data(ragged_frames):
    return prepare_cross_attention_data(ragged_frames, lookback=6, horizon=2, features=NAMES)


def training_bars(train):
    """All bars that a training window shows, each once: (rows, N, F)."""
    shown = sorted({row for end in train.ends for row in range(end - train.lookback + 1, end + 1)})
    return train.panel[shown].astype(np.float64)


@pytest.mark.parametrize("per_asset", [False, True])
def test_fit_is_mean_and_deviation_of_the_training_bars(data, per_asset):
    train, _, _ = data.split()
    scaler = Scaler.fit(train, per_asset=per_asset)
    bars = training_bars(train)
    for asset in range(4):
        for feature in range(3):
            values = bars[:, asset, feature] if per_asset else bars[:, :, feature].ravel()
            values = values[~np.isnan(values)]
            assert scaler.center[asset, feature] == pytest.approx(values.mean(), rel=1e-12)
            assert scaler.scale[asset, feature] == pytest.approx(values.std(), rel=1e-12)
        target = train.y[:, asset][~np.isnan(train.y[:, asset])]
        assert scaler.y_scale[asset] == pytest.approx(target.std(), rel=1e-12)
    assert (scaler.y_center == 0).all()


def test_nothing_after_the_training_part_moves_the_scaler(ragged_frames, data):
    train, val, _ = data.split()
    changed = {symbol: frame.copy() for symbol, frame in ragged_frames.items()}
    for frame in changed.values():
        late = frame.index >= val.timestamps[0]
        frame.loc[late, ["open", "high", "low", "close"]] *= 7.0
    other, _, _ = prepare_cross_attention_data(
        changed, lookback=6, horizon=2, features=NAMES
    ).split()
    assert Scaler.fit(other).to_json() == Scaler.fit(train).to_json()
    assert Scaler.fit(data).to_json() != Scaler.fit(train).to_json()


def test_transform_brings_training_bars_to_zero_and_one(data):
    train, _, _ = data.split()
    scaler = Scaler.fit(train, per_asset=True)
    scaled = (training_bars(train) - scaler.center) / scaler.scale
    np.testing.assert_allclose(np.nanmean(scaled, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(scaled, axis=0), 1, rtol=1e-12)
    X = scaler.transform(train.X)
    assert X.shape == train.X.shape and X.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(X), np.isnan(train.X))
    np.testing.assert_allclose(
        X[3, 2, 4], (train.X[3, 2, 4] - scaler.center[2]) / scaler.scale[2], rtol=1e-5
    )


def test_targets_go_there_and_back(data):
    train, _, _ = data.split()
    scaler = Scaler.fit(train, center_y=True)
    np.testing.assert_allclose(scaler.y_center, np.nanmean(train.y, axis=0), rtol=1e-12)
    there = scaler.transform_y(train.y)
    np.testing.assert_allclose(np.nanstd(there, axis=0), 1, rtol=1e-12)
    np.testing.assert_allclose(scaler.inverse_transform_y(there), train.y, rtol=1e-9, atol=1e-15)


def test_robust_scaling_shrugs_at_one_absurd_bar(make_frames):
    frames = make_frames(200, 2)
    calm = Scaler.fit(
        prepare_cross_attention_data(frames, lookback=3, horizon=1, features=["log_return"]),
        robust=True,
    )
    frames["S0"].iloc[100, :4] *= 50.0
    data = prepare_cross_attention_data(frames, lookback=3, horizon=1, features=["log_return"])
    robust, plain = Scaler.fit(data, robust=True), Scaler.fit(data)
    assert robust.scale[0, 0] == pytest.approx(calm.scale[0, 0], rel=0.05)
    assert plain.scale[0, 0] > 5 * calm.scale[0, 0]
    assert calm.scale[0, 0] == pytest.approx(0.01, rel=0.15)  # the walk's own deviation


def test_what_never_varies_gets_scale_one(make_frames):
    frames = make_frames(60, 2)
    frames["S0"].loc[:, ["open", "high", "low", "close"]] = 5.0
    data = prepare_cross_attention_data(frames, lookback=3, horizon=1, features=["log_return"])
    scaler = Scaler.fit(data, per_asset=True)
    assert scaler.scale[0, 0] == 1 and scaler.center[0, 0] == 0 and scaler.y_scale[0] == 1
    assert np.isfinite(scaler.transform(data.X)).all()


def test_an_asset_that_is_not_listed_yet_borrows_the_others_scale(make_frames):
    frames = make_frames(200, 3)
    frames["S1"] = frames["S1"].iloc[170:]
    data = prepare_cross_attention_data(frames, lookback=3, horizon=1, features=["log_return"])
    train, _, _ = data.split()
    scaler = Scaler.fit(train, per_asset=True)
    assert scaler.scale[1, 0] == pytest.approx((scaler.scale[0, 0] + scaler.scale[2, 0]) / 2)
    assert scaler.y_scale[1] == pytest.approx((scaler.y_scale[0] + scaler.y_scale[2]) / 2)


def test_json_reads_back_exactly(data):
    scaler = Scaler.fit(data, per_asset=True, center_y=True)
    back = Scaler.from_json(scaler.to_json())
    for name in ("center", "scale", "y_center", "y_scale"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scaler, name))
    assert back.symbols == data.symbols and back.features == data.features
    json.loads(scaler.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda parts: "{",
        lambda parts: "[]",
        lambda parts: json.dumps({k: v for k, v in parts.items() if k != "scale"}),
        lambda parts: json.dumps({**parts, "scale": parts["scale"][:-1]}),
        lambda parts: json.dumps({**parts, "y_scale": [0.0] * 4}),
        lambda parts: json.dumps({**parts, "y_scale": [-1.0] * 4}),
        lambda parts: json.dumps({**parts, "center": "none"}),
        lambda parts: json.dumps({**parts, "y_center": [None] * 4}),
        lambda parts: json.dumps({**parts, "symbols": 3}),
    ],
)
def test_a_damaged_scaler_is_noticed(data, damage):
    parts = json.loads(Scaler.fit(data).to_json())
    with pytest.raises(DamagedFileError, match="no scaler"):
        Scaler.from_json(damage(parts))


def test_fit_refuses_what_it_cannot_learn_from(data):
    with pytest.raises(InvalidInputError, match="train must be a CrossAttentionData, got ndarray"):
        Scaler.fit(data.X)
    with pytest.raises(InvalidInputError, match="at least one window"):
        Scaler.fit(data[:0])
