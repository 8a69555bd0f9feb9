"""scikit-learn conventions for forecasters: parameters, score, errors, fitted attributes.

As there, constructors store their arguments and ``fit`` checks them; ``get_params``, ``set_params``
and a repr that shows what differs from the defaults make ``clone`` and searches work. scikit-learn
itself, a second of imports, is needed by none of it.
"""

import inspect
from typing import Self

import numpy as np

from crossattn.errors import InvalidInputError
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.spans import check_spans


class ForecastEstimator:
    """Base of what is fitted with ``fit(train, val)`` and forecasts with ``predict(data)``.

    Attributes
    ----------
    symbols_, features_ : tuple of str
        Of the training data, in order.
    lookback_, horizon_ : int
        Bars in a window, bars over which it forecasts.
    duration_ : Timedelta or None
        The horizon, where the training data has it as a duration.
    volatility_estimator_ : str
        Of the training data; what forecasts volatility refuses data of another one.
    """

    target = "return"  # or "volatility" or "covariance"

    def score(self, data: CrossAttentionData) -> float:
        """Return R² of the forecasts over all known targets of ``data``, pooled over assets.

        It is scikit-learn's, against the targets' own mean, so that forecasting zero scores a
        little below 0; ``score_forecasts`` gives R² against forecasting zero.
        """
        from sklearn.metrics import r2_score

        forecast, target = self.predict(data), self._target_of(data)
        known = np.isfinite(target) & np.isfinite(forecast)
        if known.sum() < 2:
            raise InvalidInputError(f"data must hold two known targets or more, got {known.sum()}")
        return float(r2_score(target[known], forecast[known]))

    def _target_of(self, data: CrossAttentionData) -> np.ndarray:
        """Return what is forecast, ``(n, n_assets)``."""
        return data.realised_volatility if self.target == "volatility" else data.y

    def get_params(self, deep: bool = True) -> dict:
        """Return the constructor's arguments by name.

        With ``deep`` also those of an argument that is an estimator, as ``argument__name``.
        """
        params = own = {name: getattr(self, name) for name in self._defaults()}
        for name, value in own.items() if deep else ():
            if _is_estimator(value):
                inner = value.get_params(deep=True)
                params = params | {f"{name}__{each}": x for each, x in inner.items()}
        return params

    def set_params(self, **params) -> Self:
        """Set arguments of the constructor by name, as ``get_params`` gives it; ``fit`` checks."""
        known = self._defaults()
        # estimators before what is set in them
        for name, value in sorted(params.items(), key=lambda each: each[0].count("__")):
            own, nested, inner = name.partition("__")
            if own not in known or (nested and not _is_estimator(getattr(self, own))):
                raise InvalidInputError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(known)}"
                )
            if nested:
                getattr(self, own).set_params(**{inner: value})
            else:
                setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        known = self._defaults().items()
        given = sorted(k for k, default in known if repr(getattr(self, k)) != repr(default))
        text = ", ".join(f"{name}={getattr(self, name)!r}" for name in given)
        return f"{type(self).__name__}({text})"

    @classmethod
    def _defaults(cls) -> dict:
        """Return the constructor's arguments with their defaults."""
        return {x.name: x.default for x in inspect.signature(cls).parameters.values()}

    def __sklearn_tags__(self):
        from sklearn.base import BaseEstimator

        return BaseEstimator().__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "symbols_")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            from crossattn.errors import NotFittedError

            raise NotFittedError(f"{type(self).__name__} is not fitted: call fit(train, val) first")

    def _remember(self, train: CrossAttentionData) -> None:
        """Set the fitted attributes that describe the training data."""
        self.symbols_, self.features_ = tuple(train.symbols), tuple(train.features)
        self.lookback_, self.horizon_ = int(train.lookback), int(train.horizon)
        self.duration_ = train.duration
        self.volatility_estimator_ = train.volatility_estimator

    def _check_spans(self, name: str, data: CrossAttentionData) -> None:
        """Refuse data of another lookback, horizon or volatility estimator than training's."""
        check_spans(name, data, self.lookback_, self.horizon_, self.duration_)
        known = self.volatility_estimator_
        if self.target == "volatility" and data.volatility_estimator != known:
            raise InvalidInputError(
                f"{name} must have the model's volatility_estimator={known!r}, got "
                f"{data.volatility_estimator!r}"
            )


def _is_estimator(value: object) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)
