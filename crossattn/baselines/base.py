"""Base class of the baselines: fit, predict, and the check that data are those fitted on."""

from typing import Self

import numpy as np

from crossattn._estimator import ForecastEstimator
from crossattn.windows.checks import check_later, check_windows, match_training
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.exogenous import warn_unread


class Baseline(ForecastEstimator):
    """A forecaster to beat: ``fit(train, val)``, ``predict(data)``, by scikit-learn's conventions.

    Subclasses implement ``_fit(train, val)`` and ``_predict(data)``: what these get has the symbols
    and features of the training data, in their order.
    """

    _warns_of_series = True  # exogenous ones, which no baseline reads

    def fit(self, train: CrossAttentionData, val: CrossAttentionData | None = None) -> Self:
        """Learn from ``train``; ``val`` chooses penalties or the epoch to stop at.

        Parameters
        ----------
        train : CrossAttentionData
            Windows to learn from. NaN targets are skipped.
        val : CrossAttentionData, optional
            Later windows. Without it, what needs a choice takes the last fifth of ``train``.

        Warns
        -----
        CrossAttentionWarning
            Names exogenous series of the data, which a baseline does not read.
        """
        check_windows("train", train)
        if self._warns_of_series:
            warn_unread("train", type(self).__name__, train, stacklevel=2)
        self._remember(train)
        if val is not None:
            check_later("val", val, "train", train)
            val = self._as_fitted(val, "val")
        self._fit(train, val)
        return self

    def predict(self, data: CrossAttentionData) -> np.ndarray:
        """Forecast the target of every window.

        Parameters
        ----------
        data : CrossAttentionData
            Windows of the symbols and features that the baseline was fitted on, in any order.

        Returns
        -------
        ndarray of shape (n, n_assets)
            Simple returns over the horizon, in the units and the column order of ``data.y``; each
            row uses only its own window. NaN where the asset has no bar at the window's end.
        """
        own = self._as_fitted(data)
        return np.where(own.has_bar, self._predict(own), np.nan)[:, self._places(data)]

    def _fit(self, train, val) -> None:
        """Learn; by default there is nothing to learn."""

    def _as_fitted(self, data, name: str = "data") -> CrossAttentionData:
        """Return the data with the symbols and features of the training data, in their order."""
        self._check_fitted()
        if not isinstance(data, CrossAttentionData):
            check_windows(name, data)
        self._check_spans(name, data)
        return match_training(name, data, self.symbols_, self.features_)

    def _places(self, data: CrossAttentionData) -> list[int]:
        """Where each symbol of ``data`` stands in the order of the training data."""
        return [self.symbols_.index(symbol) for symbol in data.symbols]
