"""What every baseline shares: it remembers what it was fitted on, and refuses other data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.windows.lagged import RETURN_FEATURE

if TYPE_CHECKING:
    from crossattn.windows.dataset import CrossAttentionData


class Baseline:
    """A forecaster to beat: ``fit(train, val)``, ``predict(data)``, like all that is fitted here.

    Subclasses implement ``_fit(train, val)`` and ``_predict(data, order)``, where ``order`` holds,
    for each symbol of the training data, its position in ``data``.
    """

    symbols: tuple[str, ...] | None = None

    def fit(self, train: CrossAttentionData, val: CrossAttentionData | None = None) -> Baseline:
        """Learn from ``train``; ``val`` chooses penalties or the epoch to stop at.

        Parameters
        ----------
        train : CrossAttentionData
            Windows to learn from. NaN targets are skipped.
        val : CrossAttentionData, optional
            Later windows. Without it, what needs a choice takes the last fifth of ``train``.

        Returns
        -------
        Baseline
            This object.

        Raises
        ------
        InvalidInputError
            There is no window, or ``val`` holds other symbols or features, or another lookback or
            horizon.
        """
        if not len(train):
            raise InvalidInputError("train holds no window")
        self.symbols = tuple(train.symbols)
        self.features = tuple(train.features)
        self.lookback = int(train.lookback)
        self.horizon = int(train.horizon)
        if val is not None:
            val = self._with_my_features(val)
            self._order_of(val, name="val")
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
            row uses only its own window.

        Raises
        ------
        InvalidInputError
            The baseline is not fitted, or ``data`` is of other symbols, features, lookback or
            horizon.
        """
        data = self._with_my_features(data)
        order = self._order_of(data)
        forecast = np.empty((len(data), len(order)))
        forecast[:, order] = self._predict(data, order)
        return forecast

    def _fit(self, train, val) -> None:
        """Learn; by default there is nothing to learn."""

    def _with_my_features(self, data):
        """Return the data with the features of the training data, in their order, if it can."""
        if self.symbols is None or not set(self.features) <= set(data.features):
            return data  # refused by name in a moment
        return data.select(features=self.features)

    def _order_of(self, data, *, name: str = "data") -> np.ndarray:
        if self.symbols is None:
            raise InvalidInputError(f"{type(self).__name__} is not fitted: call fit first")
        for field in ("features", "lookback", "horizon"):
            mine, theirs = getattr(self, field), getattr(data, field)
            theirs = tuple(theirs) if field == "features" else int(theirs)
            if mine != theirs:
                raise InvalidInputError(f"{name}: fitted on {field} {mine}, got {theirs}")
        if set(data.symbols) != set(self.symbols):
            raise InvalidInputError(
                f"{name}: fitted on symbols {list(self.symbols)}, got {list(data.symbols)}"
            )
        position = {symbol: k for k, symbol in enumerate(data.symbols)}
        return np.array([position[symbol] for symbol in self.symbols])

    def _return_column(self) -> int:
        if RETURN_FEATURE not in self.features:
            raise InvalidInputError(
                f"{type(self).__name__} needs the feature {RETURN_FEATURE!r}, "
                f"got features {list(self.features)}"
            )
        return self.features.index(RETURN_FEATURE)
