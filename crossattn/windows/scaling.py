"""Location and scale of features and targets, learned from the training part and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from crossattn.errors import DamagedFileError, InvalidInputError
from crossattn.windows.dataset import CrossAttentionData

# The standard deviation of a normal variable, in interquartile ranges.
DEVIATIONS_PER_QUARTILE_RANGE = 1 / 1.3489795003921634


@dataclass(frozen=True, eq=False)
class Scaler:
    """What brings features and targets to a common scale: plain arrays that travel with a model.

    A model stores the arrays as buffers, so that X stays raw everywhere and predictions come back
    in y's units.

    Attributes
    ----------
    center, scale : ndarray of shape (n_assets, n_features), float64
        ``(x - center) / scale``; rows are equal unless fitted per asset.
    y_center, y_scale : ndarray of shape (n_assets,), float64
        The same for targets, in y's units (simple returns over the horizon).
    symbols, features : tuple of str
        Names along the two axes.
    """

    center: np.ndarray
    scale: np.ndarray
    y_center: np.ndarray
    y_scale: np.ndarray
    symbols: tuple[str, ...]
    features: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        train: CrossAttentionData,
        *,
        per_asset: bool = False,
        robust: bool = False,
        center_y: bool = False,
    ) -> Scaler:
        """Measure location and scale on the bars of the training windows.

        Parameters
        ----------
        train : CrossAttentionData
            The training part only. Every bar that one of its windows shows counts once.
        per_asset : bool
            One location and scale for each asset and feature, rather than for each feature. With
            few bars it is noise; it also hides that one asset moves more than another.
        robust : bool
            Median and interquartile range (in units of a normal deviation) rather than mean and
            standard deviation: a single absurd bar then changes nothing.
        center_y : bool
            Subtract the mean target of the training part. Off by default: a mean return of a few
            thousand bars is mostly luck, and it would be forecast for ever.

        Returns
        -------
        Scaler

        Raises
        ------
        InvalidInputError
            `train` is not a CrossAttentionData, has no window, or no valid value of a feature.

        Notes
        -----
        NaN is left out. A feature that never varies gets scale 1. Targets are scaled per asset
        always; an asset without any known target takes the median scale of the others.

        Built in chapter: Windows, splits and leaks.

        Examples
        --------
        >>> from crossattn import prepare_cross_attention_data, simulate_market
        >>> bars = simulate_market(n_assets=3, n_steps=300).frames
        >>> train, _, _ = prepare_cross_attention_data(bars, lookback=8, horizon=2).split()
        >>> scaler = Scaler.fit(train)
        >>> bool(abs(scaler.transform(train.X).mean()) < 0.2)
        True
        """
        if not isinstance(train, CrossAttentionData):
            raise InvalidInputError(
                f"train must be a CrossAttentionData, got {type(train).__name__}"
            )
        if len(train) == 0:
            raise InvalidInputError("train must hold at least one window, got none")
        first, last = int(train.ends[0]) - train.lookback + 1, int(train.ends[-1])
        bars = train.panel[first : last + 1].astype(np.float64)  # (rows, N, F)
        n_assets, n_features = bars.shape[1:]
        if not per_asset:
            bars = bars.reshape(-1, 1, n_features)
        center, scale = _location_and_scale(bars, robust)
        silent = np.isnan(center)
        if silent.all(axis=0).any():
            name = train.features[int(np.flatnonzero(silent.all(axis=0))[0])]
            raise InvalidInputError(f"train: feature {name!r} has no valid value")
        center = np.where(silent, np.nanmean(center, axis=0), center)
        scale = np.where(silent, np.nanmean(scale, axis=0), scale)
        y_center, y_scale = _location_and_scale(train.y, robust)
        known = ~np.isnan(y_center)
        if not known.any():
            raise InvalidInputError("train: no target is known")
        y_scale = np.where(known, y_scale, np.median(y_scale[known]))
        y_center = np.where(known & center_y, y_center, 0.0)
        shape = (n_assets, n_features)
        return cls(
            center=np.broadcast_to(center, shape).copy(),
            scale=np.broadcast_to(scale, shape).copy(),
            y_center=y_center,
            y_scale=y_scale,
            symbols=train.symbols,
            features=train.features,
        )

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return windows (..., n_assets, T, n_features) on the common scale; NaN stays NaN."""
        return ((X - self.center[:, None]) / self.scale[:, None]).astype(np.float32)

    def transform_y(self, y: np.ndarray) -> np.ndarray:
        """Return targets (..., n_assets) in units of each asset's training scale."""
        return (y - self.y_center) / self.y_scale

    def inverse_transform_y(self, y: np.ndarray) -> np.ndarray:
        """Return scaled targets or predictions (..., n_assets) in y's own units."""
        return y * self.y_scale + self.y_center

    def to_json(self) -> str:
        """Return the scaler as JSON text; numbers read back exactly."""
        return json.dumps(
            {
                "symbols": list(self.symbols),
                "features": list(self.features),
                "center": self.center.tolist(),
                "scale": self.scale.tolist(),
                "y_center": self.y_center.tolist(),
                "y_scale": self.y_scale.tolist(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Scaler:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        DamagedFileError
            The text is no scaler: not JSON, a part missing, shapes that disagree, a scale that is
            not positive.
        """
        try:
            parts = json.loads(text)
            symbols, features = tuple(parts["symbols"]), tuple(parts["features"])
            arrays = {
                name: np.array(parts[name], dtype=np.float64)
                for name in ("center", "scale", "y_center", "y_scale")
            }
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"this is no scaler: {error!r}") from None
        by_bar, by_asset = (len(symbols), len(features)), (len(symbols),)
        expected = {"center": by_bar, "scale": by_bar, "y_center": by_asset, "y_scale": by_asset}
        for name, array in arrays.items():
            if array.shape != expected[name] or not np.isfinite(array).all():
                raise DamagedFileError(f"this is no scaler: {name} is not finite or ill-shaped")
        if (arrays["scale"] <= 0).any() or (arrays["y_scale"] <= 0).any():
            raise DamagedFileError("this is no scaler: a scale is not positive")
        return cls(symbols=symbols, features=features, **arrays)


def _location_and_scale(values: np.ndarray, robust: bool) -> tuple[np.ndarray, np.ndarray]:
    """Location and scale over the first axis; NaN where there is no valid value."""
    flat = values.reshape(len(values), -1)
    location, scale = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    for column in range(flat.shape[1]):
        valid = flat[:, column][~np.isnan(flat[:, column])]
        if valid.size == 0:
            continue
        location[column], spread = valid.mean(), valid.std()
        if robust:
            lower, location[column], upper = np.quantile(valid, [0.25, 0.5, 0.75])
            if upper > lower:
                spread = (upper - lower) * DEVIATIONS_PER_QUARTILE_RANGE
        varies = spread > 1e-12 * max(1e-12, abs(location[column]))
        scale[column] = spread if varies else 1.0
    return location.reshape(values.shape[1:]), scale.reshape(values.shape[1:])
