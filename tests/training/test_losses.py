"""Every loss against arithmetic by hand or another library."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata

from crossattn.model.batch import Batch
from crossattn.training import losses

B, N = 6, 4
QUANTILES = (0.1, 0.5, 0.9)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    names = ("target", "forecast", "next_return")
    made = {name: 0.01 * rng.standard_normal((B, N)) for name in names}
    made["target"][1, 2] = made["next_return"][3, 1] = np.nan
    made["noise"] = 0.01 * np.exp(0.3 * rng.standard_normal((B, N)))
    made["label"] = rng.integers(-1, 3, (B, N))
    return made


def batch_of(arrays, **options):
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items() if k != "forecast"}
    return Batch(**tensors, quantiles=QUANTILES, **options)


def test_squared_and_huber_errors(arrays):
    forecast = torch.from_numpy(arrays["forecast"])
    clipped = np.clip(arrays["target"] / arrays["noise"], -1.5, 1.5)
    error = arrays["forecast"] / arrays["noise"] - clipped
    batch = batch_of(arrays, clip=1.5)
    squared = losses.mse_loss(forecast, batch).item()
    assert squared == pytest.approx(np.nanmean(error**2), abs=1e-12)
    known = torch.from_numpy(error[~np.isnan(error)])
    reference = torch.nn.functional.huber_loss(known, 0 * known)
    assert losses.huber_loss(forecast, batch).item() == pytest.approx(reference.item(), abs=1e-12)


def test_cross_entropy_skips_unknown_labels(arrays):
    logits = torch.randn(B, N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    known = arrays["label"] >= 0
    chance = logits.log_softmax(-1).numpy()[known]
    expected = -chance[np.arange(known.sum()), arrays["label"][known]].mean()
    loss = losses.cross_entropy_loss(logits, batch_of(arrays))
    assert loss.item() == pytest.approx(expected)


def test_information_coefficient(arrays):
    known = ~np.isnan(arrays["target"])
    ratio = (arrays["forecast"] / arrays["noise"])[known]
    fact = (arrays["target"] / arrays["noise"])[known]
    loss = losses.ic_loss(torch.from_numpy(arrays["forecast"]), batch_of(arrays))
    assert loss.item() == pytest.approx(-pearsonr(ratio, fact).statistic, abs=1e-6)


def test_rank_loss_correlates_with_ranks_across_assets(arrays):
    expected = []
    ratios, facts = (arrays[name] / arrays["noise"] for name in ("forecast", "target"))
    for ratio, fact in zip(ratios, facts, strict=True):
        known = ~np.isnan(fact)
        expected.append(pearsonr(ratio[known], rankdata(fact[known])).statistic)
    loss = losses.rank_loss(torch.from_numpy(arrays["forecast"]), batch_of(arrays))
    assert loss.item() == pytest.approx(-np.mean(expected), abs=1e-6)


def test_pinball_loss_agrees_with_scikit_learn(arrays):
    from sklearn.metrics import mean_pinball_loss

    quantiles = np.sort(0.01 * np.random.default_rng(2).standard_normal((B, N, 3)), axis=-1)
    known = ~np.isnan(arrays["target"])
    ratio = (arrays["target"] / arrays["noise"])[known]
    guess = (quantiles / arrays["noise"][..., None])[known]
    by_level = [mean_pinball_loss(ratio, guess[:, k], alpha=q) for k, q in enumerate(QUANTILES)]
    loss = losses.quantile_loss(torch.from_numpy(quantiles), batch_of(arrays))
    assert loss.item() == pytest.approx(np.mean(by_level))


def path_by_hand(positions, following, cost):
    """Follow one unit of wealth through bars, share by share."""
    net, turnover, held = [], [], None
    for weights, returns in zip(positions, np.nan_to_num(following), strict=True):
        traded = 0.0 if held is None else np.abs(weights - held).sum()
        gain = (weights * returns).sum()
        net.append(gain - cost * traded)
        turnover.append(traded)
        held = weights * (1 + returns) / (1 + gain)
    return np.array(net), np.array(turnover)


def test_the_portfolio_path_drifts_and_pays(arrays):
    positions = np.random.default_rng(4).uniform(-0.3, 0.3, (B, N))
    batch = batch_of(arrays, transaction_cost=0.002, risk_aversion=3.0, concentration=0.5)
    net, turnover = path_by_hand(positions, arrays["next_return"], 0.002)
    gross, traded = losses.portfolio_path(torch.from_numpy(positions), batch)
    np.testing.assert_allclose(traded, turnover, atol=1e-12)
    np.testing.assert_allclose(gross.numpy() - 0.002 * turnover, net, atol=1e-12)
    held = torch.from_numpy(positions)
    plain, unit = gross.numpy(), arrays["noise"].mean()
    crowding = 0.5 * (positions**2).sum(1).mean()
    cautious = -net.mean() / unit + 1.5 * net.var(ddof=1) / unit + crowding
    for loss, expected, tolerance in (
        (losses.sharpe_cost_loss, -net.mean() / net.std(ddof=1), 1e-4),
        (losses.sharpe_loss, -plain.mean() / plain.std(ddof=1), 1e-4),
        (losses.mean_return_loss, -plain.mean() / unit, 1e-6),
        (losses.mean_variance_loss, cautious, 1e-6),
    ):
        assert loss(held, batch).item() == pytest.approx(expected, rel=tolerance)
    one = batch.take(torch.tensor([0]))  # the last batch of an epoch may be one bar: no variance
    assert losses.mean_variance_loss(held[:1], one).isfinite()


def test_losses_suit_their_outputs(refuse_input):
    assert losses.resolve_loss("", "regression") is losses.mse_loss
    assert losses.resolve_loss("huber", "regression") is losses.huber_loss
    refuse_input(lambda: losses.resolve_loss("mse", "portfolio"), "portfolio")
    refuse_input(lambda: losses.resolve_loss("sharpe", "regression"), "regression")
