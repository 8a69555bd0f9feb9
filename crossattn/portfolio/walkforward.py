"""Walk-forward evaluation: refit, forecast the next windows, move on.

Built in chapter: Regimes and walk-forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crossattn._validation import check_int, check_jobs, check_type
from crossattn.config import DEFAULT_QUANTILES
from crossattn.errors import InvalidInputError
from crossattn.figures import Axes, new_axes
from crossattn.portfolio._predictor import as_predictor
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.splits import Fold, walk_forward_folds


@dataclass(frozen=True, eq=False)
class WalkForwardResult:
    """Out-of-sample predictions of all folds, in time order, and the folds side by side.

    Attributes
    ----------
    predictions : ndarray of shape (n_test, N) or more
        Prediction for each window of a model fitted on earlier windows only; NaN for windows that
        lie between two folds' test parts, the newer model's where two folds overlap.
    data : CrossAttentionData of n_test windows
        From the first test window to the last one.
    folds : DataFrame, a row a fold
        ``train_start``, ``train_end``, ``test_start``, ``test_end`` (times, ends included),
        ``train_windows``, ``test_windows``, ``correlation`` of prediction and target (pooled) and
        ``mse_ratio``: squared error over that of forecasting zero; NaN where there is no target or
        the predictions are not one number an asset.
    fold : ndarray of int, shape (n_test,)
        Fold that predicted each window, -1 for none.
    output_type : str or None
    quantiles : tuple of float
        What the models say that they predict, as :class:`crossattn.CrossAttentionBacktest` reads
        it.
    target : str
        "volatility" where the folds are scored against ``realised_volatility``, "covariance"
        where they are not, else "return".

    Notes
    -----
    The result can be handed to :class:`crossattn.CrossAttentionBacktest` as a model.
    """

    predictions: np.ndarray
    data: CrossAttentionData
    folds: pd.DataFrame
    fold: np.ndarray
    output_type: str | None = None
    quantiles: tuple[float, ...] = DEFAULT_QUANTILES
    target: str = "return"

    @property
    def timestamps(self) -> pd.DatetimeIndex:
        """When each prediction was made."""
        return self.data.timestamps

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Predictions for windows between the first and the last that a fold tested."""
        if tuple(data.symbols) != tuple(self.data.symbols):
            raise InvalidInputError(
                f"data must have the symbols {self.data.symbols}, got {data.symbols}"
            )
        if data.panel is self.data.panel:  # also windows of arrays, which have no times
            rows = pd.Index(self.data.ends).get_indexer(data.ends)
        elif data.clock.hasnans or self.data.clock.hasnans:
            raise InvalidInputError("data without times must be windows of what the folds tested")
        else:
            rows = self.timestamps.get_indexer(data.timestamps)
        if (rows < 0).any():
            first = data.timestamps[rows < 0][0]
            raise InvalidInputError(f"data holds windows that no fold predicted, first {first}")
        return self.predictions[rows]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw each fold's training and test part over time, and return the axes."""
        ax = new_axes(ax)
        for name, colour in (("train", "C0"), ("test", "C1")):
            start, end = self.folds[f"{name}_start"], self.folds[f"{name}_end"]
            ax.hlines(self.folds.index, start, end, lw=5, color=colour, label=name)
        ax.set(xlabel="close time of the windows", ylabel="fold")
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.invert_yaxis()
        ax.legend()
        return ax

    def _repr_html_(self) -> str:
        return self.folds.to_html(float_format=lambda value: f"{value:.4g}")


def walk_forward(
    data: CrossAttentionData,
    make_model: Callable[..., Any],
    *,
    train_size: int,
    test_size: int,
    step: int | None = None,
    expanding: bool = False,
    embargo: int = 0,
    n_jobs: int = 1,
    val_size: int = 0,
) -> WalkForwardResult:
    """Walk-forward evaluation: fit on the past, predict the next windows, step forward, repeat.

    Parameters
    ----------
    data : CrossAttentionData
        Windows in time order.
    make_model : callable
        Returns a fresh object with ``fit(train, val)`` (or ``fit(train)``) and ``predict(data)``:
        a class will do.
    train_size : int
        Windows to learn from, in the first fold where ``expanding``.
    test_size : int
        Windows that each fold predicts.
    step : int, optional
        Windows from one fold's test part to the next one's; None: ``test_size``.
    expanding : bool
        Train on everything since the start, not only on the last ``train_size`` windows.
    embargo : int
        Windows left out between the two parts, beyond the purge.
    n_jobs : int
        Folds fitted at the same time, in processes (joblib); -1: all cores.
    val_size : int
        Windows at the end of each training part that are handed over as ``val``, purged alike.

    Returns
    -------
    WalkForwardResult

    Raises
    ------
    InvalidInputError
        A size is out of range, the data is too short for one fold, or a prediction has a wrong
        length.

    Notes
    -----
    The last windows before the test part are *purged*: their targets are still open
    when the first test forecast is made. The embargo adds to that distance. The last fold may be
    shorter.

    Built in chapter: Regimes and walk-forward.

    References
    ----------
    López de Prado (2018), "Advances in Financial Machine Learning", chapter 7.

    Examples
    --------
    >>> from crossattn import prepare_cross_attention_data, simulate_market
    >>> market = simulate_market(n_assets=3, n_steps=400)
    >>> data = prepare_cross_attention_data(market.frames, lookback=5, horizon=2)
    >>> class Mean:
    ...     def fit(self, train):
    ...         self.mean = train.y.mean(axis=0)
    ...         return self
    ...
    ...     def predict(self, data):
    ...         return np.tile(self.mean, (len(data), 1))
    >>> result = walk_forward(data, Mean, train_size=200, test_size=50)
    >>> bool((result.folds["train_end"] < result.folds["test_start"]).all())
    True
    """
    folds = walk_forward_folds(
        data,
        train_size=train_size,
        test_size=test_size,
        step=step,
        expanding=expanding,
        embargo=embargo,
    )
    n_jobs = check_jobs(n_jobs)
    if check_int("val_size", val_size, at_least=0) and train_size <= val_size + data.horizon:
        raise InvalidInputError(f"val_size must leave some of {train_size=}, got {val_size!r}")
    check_type("make_model", make_model, Callable, "callable")
    parts = [_parts(fold, val_size) for fold in folds]
    from joblib import Parallel, delayed

    tasks = (delayed(_fit_and_predict)(part, make_model) for part in parts)
    outcomes, kinds = zip(*Parallel(n_jobs=n_jobs)(tasks), strict=True)
    origin = np.searchsorted(data.ends, [part[2].ends[0] for part in parts])
    stop = max(int(start) + len(part[2]) for start, part in zip(origin, parts, strict=True))
    tested = data[int(origin[0]) : stop]
    shape = (len(tested), *outcomes[0].shape[1:])
    predictions, number = np.full(shape, np.nan), np.full(len(tested), -1)
    for k, (start, prediction) in enumerate(zip(origin - origin[0], outcomes, strict=True)):
        predictions[start : start + len(prediction)] = prediction
        number[start : start + len(prediction)] = k
    kind = kinds[0]
    rows = [
        _row_of_fold(*part, each, kind["target"])
        for part, each in zip(parts, outcomes, strict=True)
    ]
    return WalkForwardResult(
        predictions=predictions,
        data=tested,
        folds=pd.DataFrame(rows).rename_axis("fold"),
        fold=number,
        **kind,
    )


def _parts(fold: Fold, val_size: int) -> tuple:
    """Training, validation (or None) and test windows of a fold."""
    (train,), (test,) = fold.train, fold.test
    if not val_size:
        return train, None, test
    first_val = len(train) - val_size
    return train[: train.count_known_before(first_val)], train[first_val:], test


def _fit_and_predict(part: tuple, make_model: Callable) -> tuple[np.ndarray, dict[str, Any]]:
    """Predictions of the test windows, and what the model says that they are."""
    train, val, test = part
    model = make_model()
    if not (hasattr(model, "fit") and hasattr(model, "predict")):
        raise InvalidInputError(f"make_model must give fit and predict, got {type(model).__name__}")
    known = (train, val) if _takes_validation(model) else (train,)
    fitted = model.fit(*known)
    model = model if fitted is None else fitted
    prediction = np.asarray(model.predict(test))
    if prediction.shape[:1] != (len(test),):
        raise InvalidInputError(
            f"make_model: predict must give a row a window, {len(test)}, got {prediction.shape}"
        )
    said = as_predictor(model)
    return prediction, {
        "output_type": said.output_type,
        "quantiles": said.quantiles,
        "target": getattr(model, "target", "return"),
    }


def _takes_validation(model: Any) -> bool:
    try:
        inspect.signature(model.fit).bind("train", "val")
    except TypeError:
        return False
    return True


def _row_of_fold(train, val, test, prediction: np.ndarray, target: str) -> dict[str, Any]:
    last = val if val is not None else train
    observed = test.realised_volatility if target == "volatility" else test.y
    correlation, mse_ratio = _scores(prediction, np.asarray(observed, dtype=float))
    return {
        "train_start": train.timestamps[0],
        "train_end": last.timestamps[-1],
        "test_start": test.timestamps[0],
        "test_end": test.timestamps[-1],
        "train_windows": len(train) + (len(val) if val is not None else 0),
        "test_windows": len(test),
        "correlation": correlation,
        "mse_ratio": mse_ratio,
    }


def _scores(prediction: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Correlation with the target, and squared error over that of zero; NaN where undefined."""
    if prediction.shape != target.shape:
        return np.nan, np.nan
    known = np.isfinite(target) & np.isfinite(prediction)
    predicted, observed = prediction[known], target[known]
    if len(observed) < 3 or not observed.any():
        return np.nan, np.nan
    varies = np.ptp(predicted) > 0 and np.ptp(observed) > 0
    correlation = float(np.corrcoef(predicted, observed)[0, 1]) if varies else np.nan
    return correlation, float(((observed - predicted) ** 2).mean() / (observed**2).mean())
