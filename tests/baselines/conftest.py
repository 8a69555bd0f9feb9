"""A check that holds for every baseline: a forecast goes with its symbols and its past."""

import functools

import numpy as np
import pytest


@pytest.fixture
def check_forecast():
    """Give a check: symbols and windows in any order, without later rows, change no forecast."""

    def check(model, data, atol=0.0) -> None:
        close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=atol)
        forecast = model.predict(data)
        order = np.roll(np.arange(len(data.symbols)), 1)
        turned = model.predict(data.select(symbols=[data.symbols[k] for k in order]))
        expected = forecast[:, order] if forecast.ndim == 2 else forecast[:, order][:, :, order]
        close(turned, expected)
        close(model.predict(data.until(int(data.ends[20]))), forecast[:21])
        close(model.predict(data[9:30]), forecast[9:30])

    return check
