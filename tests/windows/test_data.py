"""Windows, targets and masks against slow loops; what is shared, what is refused."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from crossattn import align_panel, create_multi_asset_features
from crossattn import prepare_cross_attention_data as prepare
from crossattn.errors import CrossAttentionWarning
from crossattn.features import warm_up_of
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.prepare import VOLATILITY_ESTIMATORS, windows_of_features

NAMES = ["log_return", "rsi", "range"]


@pytest.fixture
def data(make_frames):
    return prepare(make_frames(150, 4), lookback=11, horizon=5, features=NAMES)


def slow_windows(frames, lookback, horizon, names):
    """One window after the other by label, as a person would cut them out."""
    panel = align_panel(frames)
    table, close = create_multi_asset_features(panel, names), panel["close"]
    warm_up = warm_up_of(names)
    X, y, next_bar, times = [], [], [], []
    for last in range(warm_up + lookback - 1, len(panel) - horizon):
        rows = panel.index[last - lookback + 1 : last + 1]
        X.append([[[table.loc[r, (f, s)] for f in names] for r in rows] for s in frames])
        y.append([close[s].iloc[last + horizon] / close[s].iloc[last] - 1 for s in frames])
        next_bar.append([close[s].iloc[last + 1] / close[s].iloc[last] - 1 for s in frames])
        times.append(panel.index[last])
    return np.array(X, dtype=np.float32), np.array(y), np.array(next_bar), times


def test_windows_equal_a_slow_loop_on_ragged_bars(ragged_frames):
    frames = {symbol: frame.iloc[:110] for symbol, frame in ragged_frames.items()}
    X, y, next_bar, times = slow_windows(frames, lookback=7, horizon=3, names=NAMES)
    data = prepare(frames, lookback=7, horizon=3, features=NAMES)
    assert data.X.shape == X.shape == (len(times), 4, 7, 3) and data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_allclose(data.y, y, rtol=1e-12)
    np.testing.assert_allclose(data.bar_returns, next_bar, rtol=1e-12)
    assert list(data.timestamps) == times
    np.testing.assert_array_equal(data.mask, ~np.isnan(X).any(axis=3))
    assert not data.mask.all() and data.mask.any()
    assert np.isnan(y).any()


def test_windows_of_whole_bars_iterate_over_four_parts(data):
    X, y, symbols, timestamps = data
    n = 150 - 14 - 11 - 5 + 1  # rows less warm-up, lookback and horizon
    assert X.shape == (n, 4, 11, 3) and y.shape == (n, 4) and data.mask.all()
    assert np.isfinite(X).all() and np.isfinite(y).all()
    assert (symbols, data.features) == (("S0", "S1", "S2", "S3"), tuple(NAMES))
    assert timestamps.equals(data.timestamps) and timestamps.tz is not None


def variance_of_bar(estimator, before, bar):
    """By Parkinson (1980) and Garman and Klass (1980), plus the squared gap from the last close."""
    gap, body = np.log(bar.open / before.close), np.log(bar.close / bar.open)
    range_ = np.log(bar.high / bar.low)
    return {
        "close": (gap + body) ** 2,
        "parkinson": gap**2 + range_**2 / (4 * np.log(2)),
        "garman_klass": gap**2 + 0.5 * range_**2 - (2 * np.log(2) - 1) * body**2,
    }[estimator]


@pytest.mark.parametrize("estimator", VOLATILITY_ESTIMATORS)
@pytest.mark.parametrize("horizon", [1, 3])
def test_realised_volatility_equals_a_slow_loop_on_ragged_bars(ragged_frames, horizon, estimator):
    frames = {symbol: frame.iloc[:110] for symbol, frame in ragged_frames.items()}
    options = {"features": NAMES, "include_latest": True, "volatility_estimator": estimator}
    data = prepare(frames, 7, horizon, **options)
    panel = align_panel(frames)
    wanted = np.full(data.y.shape, np.nan)
    for i, symbol in enumerate(frames):
        bars = panel.xs(symbol, axis=1, level=1)
        for k, last in enumerate(data.ends):
            ahead = bars.iloc[last : last + horizon + 1]
            if len(ahead) == horizon + 1 and ahead["close"].iloc[[0, -1]].notna().all():
                own = list(ahead.dropna(subset="close").itertuples())
                sizes = [variance_of_bar(estimator, *pair) for pair in pairwise(own)]
                wanted[k, i] = np.sqrt(np.sum(sizes))
    np.testing.assert_allclose(data.realised_volatility, wanted, rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(np.isnan(wanted), np.isnan(data.y))
    known = data.until(int(data.ends[-20]))
    np.testing.assert_array_equal(np.isnan(known.realised_volatility), np.isnan(known.y))
    turned = data.select(symbols=data.symbols[::-1])
    np.testing.assert_array_equal(turned.realised_volatility, data.realised_volatility[:, ::-1])


def with_volatility(frames, estimator):
    return prepare(frames, 4, 1, ["log_return"], volatility_estimator=estimator)


@pytest.mark.parametrize("estimator", VOLATILITY_ESTIMATORS[1:])
def test_ranges_measure_what_squared_returns_do_with_less_noise(estimator):
    """On bars of 400 random steps, half of the variance overnight."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0, 0.001, (3000, 400))
    steps[:, 0] = rng.normal(0, 0.02, 3000)
    path = np.exp(np.cumsum(steps).reshape(steps.shape))
    times = pd.date_range("2020-01-01", periods=3000, freq="D", tz="UTC")
    prices = {"open": path[:, 0], "high": path.max(1), "low": path.min(1), "close": path[:, -1]}
    frame = pd.DataFrame({**prices, "volume": 1.0}, pd.Index(times, name="time"))
    both = (with_volatility({"A": frame}, name) for name in ("close", estimator))
    of_returns, of_ranges = (data.realised_volatility**2 for data in both)
    assert of_ranges.mean() == pytest.approx(of_returns.mean(), rel=0.1)
    assert of_ranges.var() < 0.7 * of_returns.var()


def flatten(frame):
    return frame.assign(open=frame["close"], high=frame["close"], low=frame["close"])


def lose_a_high(frame):
    return frame.assign(high=frame["high"].where(frame.index != frame.index[20]))


NO_RANGES = [
    (flatten, "S1 has its high equal to its low in 100%"),
    (lambda f: flatten(f).pipe(lambda g: g.attrs.update(close_only=True) or g), "closes only"),
    (lose_a_high, "S1 lacks open, high or low in 1 of"),
    (lambda frame: frame.assign(high=frame["low"] * 0.9), "S1: high must be at least low"),
]


@pytest.mark.parametrize(("fault", "words"), NO_RANGES)
def test_bars_without_ranges_and_unknown_estimators_are_refused_by_name(
    make_frames, refuse, fault, words
):
    frames = make_frames(60, 2)
    frames["S1"] = fault(frames["S1"])
    for estimator in VOLATILITY_ESTIMATORS[1:]:
        refuse(lambda name=estimator: with_volatility(frames, name), words)
    words = "volatility_estimator must be one of .*'yang_zhang'"
    refuse(lambda: with_volatility(frames, "yang_zhang"), words)


def test_realised_volatility_of_arrays_is_the_size_of_their_log_return():
    y = np.array([[0.1, np.nan], [-0.1, 0.0]])
    data = CrossAttentionData.from_arrays(np.zeros((2, 2, 3, 1)), y, features=["log_return"])
    wanted = [[np.log(1.1), np.nan], [-np.log(0.9), 0.0]]
    np.testing.assert_allclose(data.realised_volatility, wanted)


def test_the_newest_windows_come_when_asked_for_and_have_no_target_yet(make_frames, data):
    latest = prepare(make_frames(150, 4), 11, 5, NAMES, include_latest=True)
    assert len(latest) == len(data) + 5
    assert np.isnan(latest.y[-5:]).all() and np.isfinite(latest.y[:-5]).all()
    assert np.isfinite(latest.bar_returns[:-1]).all() and np.isnan(latest.bar_returns[-1]).all()
    assert latest.timestamps[-1] == latest.clock[-1]
    np.testing.assert_array_equal(latest[: len(data)].X, data.X)


def test_windows_are_read_only_views_of_one_panel(data):
    X = data.X
    assert np.shares_memory(X, data.panel)
    assert X.nbytes > 5 * data.panel.nbytes
    assert data.panel.flags.c_contiguous and data.panel.dtype == np.float32
    for array in (X, data.y, data.bar_returns, data.panel, data.targets, data.next_returns):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_step_targets_give_every_bar_of_a_window_its_target(data):
    steps = data.step_targets
    assert steps.shape == (len(data), 4, 11) and np.shares_memory(steps, data.targets)
    np.testing.assert_array_equal(steps[:, :, -1], data.y)
    for k in (0, 17):
        for back in range(11):
            np.testing.assert_array_equal(steps[k, :, -1 - back], data.targets[data.ends[k] - back])
    assert data[:0].step_targets.shape == (0, 4, 11)


def test_slices_share_the_panel_and_agree_with_the_whole_or_are_empty(data):
    part = data[20:33]
    assert len(part) == 13 and part.panel is data.panel
    for name in ("X", "y", "mask", "bar_returns"):
        np.testing.assert_array_equal(getattr(part, name), getattr(data, name)[20:33])
    assert part.timestamps.equals(data.timestamps[20:33])
    np.testing.assert_array_equal(data[-4:].X, data.X[-4:])
    np.testing.assert_array_equal(part[2:5].X, data.X[22:25])
    empty = data[5:5]
    assert len(empty) == 0 and empty.X.shape == (0, 4, 11, 3) and empty.y.shape == (0, 4)
    assert empty.mask.shape == (0, 4, 11) and len(empty.timestamps) == 0
    assert "no window" in repr(empty)


def test_select_reorders_by_name(data):
    chosen = data.select(symbols=["S2", "S0"], features=["rsi", "log_return"])
    assert chosen.symbols == ("S2", "S0") and chosen.features == ("rsi", "log_return")
    np.testing.assert_array_equal(chosen.X, data.X[:, [2, 0]][..., [1, 0]])
    for name in ("y", "mask", "bar_returns"):
        np.testing.assert_array_equal(getattr(chosen, name), getattr(data, name)[:, [2, 0]])
    assert chosen.panel.flags.c_contiguous and not chosen.panel.flags.writeable
    assert data.select() is data
    assert data.select(symbols=data.symbols) is data


def test_a_target_whose_end_is_missing_is_nan_and_the_row_stays(make_frames):
    frames = make_frames(80, 2)
    gone = frames["S1"].index[60]
    frames["S1"] = frames["S1"].drop(gone)
    data = prepare(frames, lookback=4, horizon=3, features=["log_return"])
    unknown = data.clock[np.isnan(data.targets[:, 1])]
    # the row without a bar, the one whose target ends there, the last three of the data
    assert list(unknown) == [data.clock[57], data.clock[60], *data.clock[-3:]]
    assert np.isnan(data.targets[:, 0]).sum() == 3
    np.testing.assert_array_equal(np.isnan(data.next_returns[:, 1]).nonzero()[0], [59, 60, 79])


def test_split_is_in_time_order_and_purged_by_the_horizon(data):
    train, val, test = data.split(train=0.5, val=0.2)
    assert (len(train), len(val), len(test)) == (60 - 5, 24 - 5, 121 - 84)
    for before, after in ((train, val), (val, test)):
        last_known = before.ends[-1] + before.horizon
        assert last_known < after.ends[0]
        assert after.ends[0] - before.ends[-1] == before.horizon + 1
    assert train.ends[0] == data.ends[0] and test.ends[-1] == data.ends[-1]
    assert train.panel is test.panel is data.panel


NO_SHARES = (0.0, 1.0, -0.2, "most", True, np.nan)


NO_PARTS = [
    *((lambda d, k=k: d[k], "data takes slices") for k in (3, "S0", [1, 2], np.ones(2))),
    (lambda d: d[::2], "data's slices .*step 2"),
    (lambda d: d["a":"b"], "data's slices"),
    (lambda d: d.select(symbols=["S9"]), "symbols: no 'S9' in the data"),
    (lambda d: d.select(symbols=["S1", "S1"]), "different"),
    (lambda d: d.select(symbols=[]), "a sequence of names"),
    (lambda d: d.select(symbols=3), "symbols"),
    (lambda d: d.select(features=["macd"]), "features: no 'macd' in the data"),
    (lambda d: d.select(features=[None]), "features must be a sequence of names"),
    *((lambda d, k=k: d.split(train=k), "train must be a finite number") for k in NO_SHARES),
    (lambda d: d.split(val=0), "val must be a finite number"),
    (lambda d: d.split(train=0.7, val=0.3), "train \\+ val must be .* below 1"),
    (lambda d: d.split(train=0.9, val=0.04), "too few to split .*the val part would be empty"),
    (lambda d: d.split(train=0.02), "too few to split .*the train part would be empty"),
]


@pytest.mark.parametrize(("call", "words"), NO_PARTS)
def test_parts_that_are_not_there_are_refused(data, refuse_input, call, words):
    refuse_input(lambda: call(data), words)


def test_spans_longer_than_the_data_are_refused(make_frames, refuse_input):
    frames = make_frames(60, 2)
    refuse_input(lambda: prepare(frames, 3, 60), "horizon must be shorter than .* \\(60 rows")
    refuse_input(lambda: prepare(frames, 28, 10), "60 rows are too few .* at least 71 are needed")
    assert len(prepare(make_frames(71, 2), 28, 10)) == 1


def test_prices_from_the_edge_of_float64_do_not_become_infinite_windows(make_frames):
    frames = make_frames(80, 1)
    frames["S0"].iloc[60:70, :4] *= 1e300
    data = prepare(frames, lookback=3, horizon=2)
    assert not np.isinf(data.X).any() and not np.isinf(data.y).any()


def test_windows_of_features_are_those_of_the_bars(make_frames):
    panel = align_panel(make_frames(120, 3))
    features = create_multi_asset_features(panel, NAMES)
    whole = prepare(panel, lookback=6, horizon=4, features=NAMES)
    for order in (np.arange(9), np.random.default_rng(0).permutation(9)):
        given = features.iloc[:, order], panel["close"]
        ours = windows_of_features(*given, lookback=6, horizon=4, warm_up=warm_up_of(NAMES))
        back = ours.select(whole.symbols, whole.features)
        np.testing.assert_array_equal(back.X, whole.X)
        np.testing.assert_array_equal(back.y, whole.y)
        assert back.timestamps.equals(whole.timestamps)


@pytest.mark.parametrize("kind", ["Float64", "float64[pyarrow]", "object"])
def test_missing_cells_of_any_table_are_unknown(make_frames, kind):
    panel = align_panel(make_frames(60, 3))
    tables = create_multi_asset_features(panel, NAMES), panel["close"].copy()
    for table in tables:
        table.iloc[30, 1] = np.nan
    plain, given = (
        windows_of_features(*each, lookback=6, horizon=4, warm_up=14)
        for each in (tables, [table.astype(kind) for table in tables])
    )
    np.testing.assert_array_equal(given.panel, plain.panel)
    np.testing.assert_array_equal(given.closes, plain.closes)


DISAGREEING = [
    (lambda f, c: (f.to_numpy(), c), "features must be a DataFrame, got ndarray"),
    (lambda f, c: (f, c.to_numpy()), "closes must be a DataFrame, got ndarray"),
    (lambda f, c: (f["rsi"], c), "features must have columns \\(feature, symbol\\)"),
    (lambda f, c: (f, c.iloc[1:]), "closes must have the rows of features"),
    (lambda f, c: (f, c.shift(freq="1h")), "closes must have the rows"),
    (lambda f, c: (f, c[["S0", "S1"]]), "closes: symbols must be"),
    (lambda f, c: (f[::-1], c[::-1]), "features: close_time must increase"),
    (lambda f, c: (f.tz_localize(None), c.tz_localize(None)), "close_time must be UTC"),
    (lambda f, c: (f.iloc[:, 1:], c), "every feature once for every symbol"),
    (lambda f, c: (f.map(lambda v: "high"), c), "features must be numbers"),
    (lambda f, c: (f.astype("M8[ns]"), c), "features must be numbers"),
    (lambda f, c: (f, c.astype(str) + "x"), "closes must be numbers"),
    (lambda f, c: (f, c * 0), "closes must be positive and finite"),
    (lambda f, c: (f, c * np.inf), "closes must be positive and finite"),
]


@pytest.mark.parametrize(("change", "words"), DISAGREEING)
def test_windows_of_features_refuse_tables_that_disagree(make_frames, refuse_input, change, words):
    panel = align_panel(make_frames(60, 3))
    tables = change(create_multi_asset_features(panel, NAMES), panel["close"])
    refuse_input(lambda: windows_of_features(*tables, lookback=6, horizon=4, warm_up=14), words)


DAYS = pd.date_range("2024-01-01", periods=5, freq="D", tz="UTC")


@pytest.mark.parametrize(
    ("values", "words"),
    [(np.nan, "vix has no value at any close"), (3.0, "vix is the same at every close")],
)
def test_series_that_cannot_teach_anything_are_named(make_frames, values, words):
    table = pd.DataFrame({"vix": values, "rate": np.arange(5.0)}, DAYS)
    with pytest.warns(CrossAttentionWarning, match=words) as told:
        prepare(make_frames(120, 2), 8, 1, ["log_return"], exogenous=table)
    assert len(told) == 1


UNREADABLE = [
    ({}, "must have columns"),
    ({"vix": "high"}, "exogenous must be numbers"),
    ({"vix": 1.0, "day": pd.Timestamp("2024-01-01")}, "exogenous must be numbers: times"),
    ({"vix": 1e200}, r"vix must be within ±1e\+100: rescale it"),
]


@pytest.mark.parametrize(("table", "words"), UNREADABLE)
def test_series_that_cannot_be_read_are_refused(make_frames, refuse_input, table, words):
    bars, series = make_frames(120, 2), pd.DataFrame(table, DAYS)
    refuse_input(lambda: prepare(bars, 8, 1, ["log_return"], exogenous=series), words)
