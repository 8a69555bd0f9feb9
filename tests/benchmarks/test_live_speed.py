"""One new bar of every symbol: ``update`` beside a pass over the whole history."""

import numpy as np
import pytest
from benchmarks.measure import seconds

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market

pytestmark = pytest.mark.slow
N_BARS = 200_000  # five months of minutes; the cost of a bar does not grow with them


def test_an_update_is_a_hundred_times_faster_than_a_pass(compared):
    frames = simulate_market("gated", n_assets=8, n_steps=N_BARS, seed=0).frames
    begun = {symbol: frame[:6000] for symbol, frame in frames.items()}
    data = prepare_cross_attention_data(begun, 48, 1)
    forecaster = CrossAttentionForecaster(n_models=1, epochs=1, progress=False)
    forecaster.fit(*data.split()[:2])
    forecaster.update({symbol: frame[:-50] for symbol, frame in frames.items()})
    rows = iter(range(N_BARS - 50, N_BARS))

    def one_bar():
        row = next(rows)
        return forecaster.update({s: frame.iloc[row : row + 1] for s, frame in frames.items()})

    def whole():
        data = prepare_cross_attention_data(frames, 48, 1, include_latest=True)
        return forecaster.predict(data)[-1]

    for _ in range(5):
        one_bar()
    bar, history = seconds({"bar": one_bar, "whole": whole}, 5).values()
    assert np.allclose(forecaster.update(frames), whole(), atol=1e-9, rtol=0)
    name = "one new bar of 8 assets"
    assert compared(name, bar, history, beside=f"a pass over {N_BARS:,} bars", asked=100) > 100
