"""Training losses, each with the returns that it takes.

Every loss takes the prediction and a :class:`~crossattn.model.batch.Batch` and gives a scalar.
Unknown targets are skipped; errors are in volatilities known before the bar. For a loss of your own
see :func:`resolve_loss`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from crossattn._validation import check_choice
from crossattn.errors import InvalidInputError
from crossattn.model.batch import Batch


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp_min(1)


def mse_loss(forecast: Tensor, batch: Batch) -> Tensor:
    """Mean squared error of forecasts ``(B, N)``, in squared volatilities."""
    return _mean((forecast / batch.noise - batch.standardised).square(), batch.known)


def huber_loss(forecast: Tensor, batch: Batch) -> Tensor:
    """Half the squared error of forecasts ``(B, N)`` within one volatility, linear beyond."""
    size = (forecast / batch.noise - batch.standardised).abs()
    return _mean(torch.where(size < 1, 0.5 * size.square(), size - 0.5), batch.known)


def cross_entropy_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of logits ``(B, N, 3)`` with the labels down, neutral, up."""
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.label.flatten(), ignore_index=-1, reduction="sum"
    )
    return total / (batch.label >= 0).sum().clamp_min(1)


def ic_loss(forecast: Tensor, batch: Batch) -> Tensor:
    """Minus the information coefficient: correlation of forecasts and targets over the batch.

    It has no opinion on the forecast's size, which the squared error must teach.
    """
    return -_correlation(forecast / batch.noise, batch.standardised, batch.known, (0, 1))


def rank_loss(forecast: Tensor, batch: Batch) -> Tensor:
    """Minus the mean correlation, across assets at each moment, of forecasts and target ranks."""
    known = batch.known
    above = batch.standardised[:, :, None] > batch.standardised[:, None, :]
    ranks = (above & known[:, None, :]).sum(-1).to(forecast.dtype)
    return -_correlation(forecast / batch.noise, ranks, known, (1,))


def quantile_loss(quantiles: Tensor, batch: Batch) -> Tensor:
    """Mean pinball loss of quantiles ``(B, N, Q)``, in volatilities."""
    error = batch.standardised[..., None] - quantiles / batch.noise[..., None]
    level = torch.tensor(batch.quantiles, device=error.device, dtype=error.dtype)
    pinball = torch.maximum(level * error, (level - 1) * error).mean(-1)
    return _mean(pinball, batch.known)


def portfolio_path(positions: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the gross return of each bar and its turnover, both ``(B,)``.

    ``positions`` (B, N) are weights set at consecutive closes; each earns the *next* bar's simple
    return, drifts with it, and is traded to the next row's weights. An asset whose return is
    unknown earns nothing. The first row's trade is not counted: the path has no past.
    """
    gains = positions * batch.next_return.nan_to_num(0.0)
    gross = gains.sum(-1)
    drifted = (positions + gains) / (1 + gross)[:, None].clamp_min(0.01)
    traded = (positions[1:] - drifted[:-1]).abs().sum(-1)
    return gross, torch.cat([traded.new_zeros(1), traded])


def mean_return_loss(positions: Tensor, batch: Batch) -> Tensor:
    """Minus the mean gross return of the next bar, without any measure of risk."""
    return -portfolio_path(positions, batch)[0].mean() / batch.noise.mean()


def sharpe_loss(positions: Tensor, batch: Batch) -> Tensor:
    """Minus the Sharpe ratio, a bar, of the portfolio's gross path through the batch."""
    return -_sharpe(portfolio_path(positions, batch)[0])


def sharpe_cost_loss(positions: Tensor, batch: Batch) -> Tensor:
    """Minus the Sharpe ratio, a bar, of the path after the cost of its turnover."""
    gross, turnover = portfolio_path(positions, batch)
    return -_sharpe(gross - batch.transaction_cost * turnover)


def mean_variance_loss(positions: Tensor, batch: Batch) -> Tensor:
    """Minus mean net return plus half risk aversion times variance, plus a price on concentration.

    In units of the assets' mean volatility; concentration is the mean sum of squared positions.
    """
    gross, turnover = portfolio_path(positions, batch)
    unit = batch.noise.mean()
    net = (gross - batch.transaction_cost * turnover) / unit
    crowding = batch.concentration * positions.square().sum(-1).mean()
    variance = net.var() if len(net) > 1 else 0.0
    return -net.mean() + 0.5 * batch.risk_aversion * unit * variance + crowding


def _sharpe(returns: Tensor) -> Tensor:
    if len(returns) < 2:
        return returns.sum() * 0.0
    return returns.mean() / (returns.std() + 1e-8)


def _correlation(forecast: Tensor, target: Tensor, known: Tensor, over: tuple[int, ...]) -> Tensor:
    count = known.sum(over, keepdim=True).clamp_min(1)

    def centred(x: Tensor) -> Tensor:
        x = torch.where(known, x, 0.0)
        return torch.where(known, x - x.sum(over, keepdim=True) / count, 0.0)

    forecast, target = centred(forecast), centred(target)
    size = (forecast.square().sum(over) * target.square().sum(over) + 1e-12).sqrt()
    return ((forecast * target).sum(over) / size).mean()


Loss = Callable[[Tensor, Batch], Tensor]
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


def resolve_loss(loss: str | Callable[[Tensor, Tensor], Tensor], output_type: str) -> Loss:
    """Return the loss that a name or a function of prediction and target stands for.

    Parameters
    ----------
    loss : str or callable
        A name; empty: the first one that suits the output. Or ``f(prediction, target) -> scalar``,
        such as ``torch.nn.functional.l1_loss``. It gets the K entries of the batch whose target is
        known: for "regression" forecasts and returns (K,), both in volatilities; for
        "distribution" quantiles (K, Q) and returns (K,) likewise; for "classification" logits
        (K, 3) and classes (K,). For "portfolio" it gets weights and next-bar simple returns
        (B, N), at consecutive bars, 0 where unknown.
    output_type : str
    """
    if callable(loss):

        def own(prediction: Tensor, batch: Batch) -> Tensor:
            value = loss(*_pair(prediction, batch, output_type))
            if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
                got = type(value).__name__
                if isinstance(value, Tensor):
                    got = f"{tuple(value.shape)} of {value.dtype}"
                raise InvalidInputError(f"loss must give a tensor of one number, got {got}")
            if prediction.requires_grad and not value.requires_grad:
                raise InvalidInputError("loss must depend on the prediction, got a constant")
            return value

        return own
    suitable = LOSSES[output_type]
    unset = loss is None or (isinstance(loss, str) and not loss)
    name = next(iter(suitable)) if unset else loss
    return suitable[check_choice(f"loss for output_type={output_type!r}", name, suitable)]


def _pair(prediction: Tensor, batch: Batch, output_type: str) -> tuple[Tensor, Tensor]:
    """Return what a user's loss gets; see :func:`resolve_loss`."""
    if output_type == "portfolio":
        return prediction, batch.next_return.nan_to_num(0.0)
    if output_type == "classification":
        return prediction[batch.label >= 0], batch.label[batch.label >= 0]
    noise = batch.noise if output_type == "regression" else batch.noise[..., None]
    return (prediction / noise)[batch.known], batch.standardised[batch.known]
