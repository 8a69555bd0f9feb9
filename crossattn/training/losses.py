"""What training minimises, each loss saying which returns it takes.

Every loss is a function of the model's answer and a :class:`Truth` and gives a scalar. Targets that
are unknown are skipped; errors are counted in volatilities known before the bar, so that a calm
night and a crash teach alike.

Built in chapter: Training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class Truth:
    """What a batch is held against.

    Attributes
    ----------
    target : Tensor of shape (B, N)
        Simple return over the horizon, a fraction, known at its end; NaN unknown.
    noise : Tensor of shape (B, N)
        Volatility of that return, known before it.
    next_return : Tensor of shape (B, N)
        Simple return of the next bar: what a position earns. NaN unknown.
    label : Tensor of shape (B, N)
        0 down, 1 neutral, 2 up, -1 unknown.
    quantiles : tuple of float
        Probabilities of a distribution head.
    clip : float
        Targets are cut at this many volatilities.
    transaction_cost : float
        Fraction of traded notional.
    risk_aversion, concentration : float
        Weights of variance and of the sum of squared positions in :func:`mean_variance_loss`.
    """

    target: Tensor
    noise: Tensor
    next_return: Tensor
    label: Tensor
    quantiles: tuple[float, ...] = ()
    clip: float = 6.0
    transaction_cost: float = 0.001
    risk_aversion: float = 10.0
    concentration: float = 0.0

    @property
    def known(self) -> Tensor:
        """Where the target is known, ``(B, N)``."""
        return self.target.isfinite()

    @property
    def standardised(self) -> Tensor:
        """Targets in volatilities, clipped, 0 where unknown."""
        ratio = torch.where(self.known, self.target, 0.0) / self.noise
        return ratio.clamp(-self.clip, self.clip)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp_min(1)


def mse_loss(forecast: Tensor, truth: Truth) -> Tensor:
    """Mean squared error of forecasts ``(B, N)``, in squared volatilities."""
    return _mean((forecast / truth.noise - truth.standardised).square(), truth.known)


def huber_loss(forecast: Tensor, truth: Truth) -> Tensor:
    """Half the squared error of forecasts ``(B, N)`` within one volatility, linear beyond."""
    size = (forecast / truth.noise - truth.standardised).abs()
    return _mean(torch.where(size < 1, 0.5 * size.square(), size - 0.5), truth.known)


def cross_entropy_loss(logits: Tensor, truth: Truth) -> Tensor:
    """Cross-entropy of logits ``(B, N, 3)`` with the labels down, neutral, up."""
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), truth.label.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / (truth.label >= 0).sum().clamp_min(1)


def ic_loss(forecast: Tensor, truth: Truth) -> Tensor:
    """Minus the information coefficient: correlation of forecasts and targets over the batch.

    It has no opinion on the forecast's size, which the squared error must teach.
    """
    return -_correlation(forecast / truth.noise, truth.standardised, truth.known, (0, 1))


def rank_loss(forecast: Tensor, truth: Truth) -> Tensor:
    """Minus the mean correlation, across assets at each moment, of forecasts and target ranks."""
    known = truth.known
    above = truth.standardised[:, :, None] > truth.standardised[:, None, :]
    ranks = (above & known[:, None, :]).sum(-1).to(forecast.dtype)
    return -_correlation(forecast / truth.noise, ranks, known, (1,))


def quantile_loss(quantiles: Tensor, truth: Truth) -> Tensor:
    """Mean pinball loss of quantiles ``(B, N, Q)``, in volatilities."""
    error = truth.standardised[..., None] - quantiles / truth.noise[..., None]
    level = torch.tensor(truth.quantiles, device=error.device, dtype=error.dtype)
    pinball = torch.maximum(level * error, (level - 1) * error).mean(-1)
    return _mean(pinball, truth.known)


def portfolio_path(positions: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """Return the gross return of each bar and its turnover, both ``(B,)``.

    ``positions`` (B, N) are weights set at consecutive closes; each earns the *next* bar's simple
    return, drifts with it, and is traded to the next row's weights. An asset whose return is
    unknown earns nothing. The first row's trade is not counted: the path has no past.
    """
    gains = positions * truth.next_return.nan_to_num(0.0)
    gross = gains.sum(-1)
    drifted = (positions + gains) / (1 + gross)[:, None].clamp_min(0.01)
    traded = (positions[1:] - drifted[:-1]).abs().sum(-1)
    return gross, torch.cat([traded.new_zeros(1), traded])


def mean_return_loss(positions: Tensor, truth: Truth) -> Tensor:
    """Minus the mean gross return of the next bar: it knows no risk and corners one asset."""
    return -portfolio_path(positions, truth)[0].mean() / truth.noise.mean()


def sharpe_loss(positions: Tensor, truth: Truth) -> Tensor:
    """Minus the Sharpe ratio, a bar, of the portfolio's gross path through the batch."""
    return -_sharpe(portfolio_path(positions, truth)[0])


def sharpe_cost_loss(positions: Tensor, truth: Truth) -> Tensor:
    """Minus the Sharpe ratio, a bar, of the path after the cost of its turnover."""
    gross, turnover = portfolio_path(positions, truth)
    return -_sharpe(gross - truth.transaction_cost * turnover)


def mean_variance_loss(positions: Tensor, truth: Truth) -> Tensor:
    """Minus mean net return plus half risk aversion times variance, plus a price on concentration.

    In units of the assets' mean volatility; concentration is the mean sum of squared positions.
    """
    gross, turnover = portfolio_path(positions, truth)
    unit = truth.noise.mean()
    net = (gross - truth.transaction_cost * turnover) / unit
    crowding = truth.concentration * positions.square().sum(-1).mean()
    return -net.mean() + 0.5 * truth.risk_aversion * unit * net.var() + crowding


def _sharpe(returns: Tensor) -> Tensor:
    if len(returns) < 2:
        return returns.sum() * 0.0
    return returns.mean() / (returns.std() + 1e-8)


def _correlation(guess: Tensor, fact: Tensor, known: Tensor, over: tuple[int, ...]) -> Tensor:
    count = known.sum(over, keepdim=True).clamp_min(1)

    def centred(x: Tensor) -> Tensor:
        x = torch.where(known, x, 0.0)
        return torch.where(known, x - x.sum(over, keepdim=True) / count, 0.0)

    guess, fact = centred(guess), centred(fact)
    size = (guess.square().sum(over) * fact.square().sum(over) + 1e-12).sqrt()
    return ((guess * fact).sum(over) / size).mean()


Loss = Callable[[Tensor, Truth], Tensor]
LOSSES: dict[str, dict[str, Loss]] = {
    "regression": {"mse": mse_loss, "huber": huber_loss, "ic": ic_loss, "rank": rank_loss},
    "classification": {"cross_entropy": cross_entropy_loss},
    "distribution": {"quantile": quantile_loss},
    "portfolio": {
        "sharpe_cost": sharpe_cost_loss,
        "sharpe": sharpe_loss,
        "mean_variance": mean_variance_loss,
        "mean_return": mean_return_loss,
    },
}


def loss_for(output_type: str, name: str = "") -> Loss:
    """Return the loss called ``name``; the first one that suits the output where it is empty.

    Raises
    ------
    InvalidInputError
        No such loss, or it does not take this output.
    """
    suitable = LOSSES[output_type]
    name = name or next(iter(suitable))
    if name not in suitable:
        raise InvalidInputError(
            f"loss for output_type={output_type!r} must be one of {', '.join(suitable)}, "
            f"got {name!r}"
        )
    return suitable[name]
