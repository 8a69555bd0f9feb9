"""Neural baselines: who can see across, repeatability, and gaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from standin.windows import simulated_windows

from crossattn.baselines.neural import (
    Crossformer,
    DLinear,
    MarketGatedTransformer,
    MultiAssetRNN,
    PatchTST,
    SingleAssetLSTM,
    VariateTokenTransformer,
)

CROSS = [MultiAssetRNN, VariateTokenTransformer, Crossformer, MarketGatedTransformer]
ALL = [*CROSS, SingleAssetLSTM, DLinear, PatchTST]


@pytest.fixture(scope="module")
def simulated():
    options = {"n_assets": 4, "n_steps": 1500, "predictability": 0.3}
    return simulated_windows(lookback=12, features=["log_return", "range"], **options)


@pytest.fixture(scope="module")
def data(simulated):
    return simulated[1]


@pytest.fixture(scope="module", params=ALL, ids=lambda c: c.__name__)
def fitted(request, data):
    train, val, _ = data.split()
    return request.param(epochs=2, width=8, device="cpu").fit(train, val)


def test_who_looks_across(fitted, data):
    """Changing one asset's past moves the others' forecasts where the network looks across."""
    test = data.split()[2]
    panel = np.array(test.panel)
    panel[:, 1] += 0.05
    moved = np.abs(fitted.predict(replace(test, panel=panel)) - fitted.predict(test)).max(axis=0)
    assert moved[1] > 0
    assert ((moved[[0, 2, 3]] > 0) == (type(fitted) in CROSS)).all()


def test_same_seed_same_forecast_and_no_trace_in_the_global_state(fitted, data):
    train, val, test = data.split()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = type(fitted)(epochs=2, width=8, device="cpu").fit(train, val)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(again.predict(test), fitted.predict(test))


def test_order_slices_and_gaps(fitted, data, check_forecast):
    test = data.split()[2]
    check_forecast(fitted, test, atol=1e-9)
    panel = np.array(test.panel)
    panel[::3, 2] = np.nan
    assert np.isfinite(fitted.predict(replace(test, panel=panel))).all()


def test_targets_that_are_missing_teach_nothing(data):
    train, val, _ = data.split()
    targets = np.array(data.targets)
    targets[:, 3] = np.nan
    blind = [replace(part, targets=targets) for part in (train, val)]
    model = MultiAssetRNN(epochs=2, width=8, device="cpu").fit(*blind)
    assert np.isfinite(model.history_).all()


@pytest.mark.parametrize("network", [MultiAssetRNN, Crossformer, PatchTST, SingleAssetLSTM])
def test_a_planted_lead_is_learnt_by_networks_that_look_across(network, simulated):
    market, data = simulated
    train, val, test = data.split()
    options = {"width": 16, "epochs": 25, "device": "cpu", "volatility_weights": True, "lr": 5e-3}
    forecast = network(**options).fit(train, val).predict(test)
    fidelity = np.corrcoef(forecast.ravel(), market.oracle[test.ends].ravel())[0, 1]
    assert fidelity > 0.3 if network in CROSS else fidelity < 0.25


def test_attention_of_the_variate_transformer_sums_to_one(data):
    train, val, test = data.split()
    model = VariateTokenTransformer(epochs=1, width=8, device="cpu").fit(train, val)
    maps = model.attention(test[:50])
    assert maps.shape == (50, 4, 4)
    np.testing.assert_allclose(maps.sum(axis=2), 1.0, atol=1e-5)


def test_an_asset_that_lists_after_training_is_forecast_as_zero(data):
    panel, targets = np.array(data.panel), np.array(data.targets)
    train, val, test = data.split()
    panel[: test.ends[0] - 5, 2], targets[: test.ends[0] - 5, 2] = np.nan, np.nan
    train, val, test = (replace(part, panel=panel, targets=targets) for part in (train, val, test))
    forecast = DLinear(epochs=2, device="cpu").fit(train, val).predict(test)
    assert not forecast[:, 2].any() and forecast[:, [0, 1, 3]].all()


@pytest.mark.parametrize("name", ["width", "window", "seed", "volatility_weights"])
@pytest.mark.parametrize("wrong", [-1, "x"])
def test_wrong_parameters_are_named(data, name, wrong, refuse_input):
    refuse_input(lambda: DLinear(**{name: wrong}).fit(data), f"{name} must be .* got {wrong!r}")


def test_a_numpy_size_is_a_size(data):
    given = {"width": np.int32(8), "window": np.int64(8), "seed": np.int64(3)}
    model = MultiAssetRNN(**given, epochs=1, device="cpu").fit(data[:200])
    assert model.network_.lstm.hidden_size == model.bars_ == 8
