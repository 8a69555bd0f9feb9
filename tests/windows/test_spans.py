"""Horizons and lookbacks in time: hand-made session clocks, regular clocks, coverage, purges."""

import datetime
import itertools

import numpy as np
import pandas as pd
import pytest

from crossattn import align_panel, prepare_cross_attention_data, simulate_market
from crossattn.errors import CrossAttentionWarning
from crossattn.windows.spans import own_bars_within
from crossattn.windows.splits import combinatorial_folds, walk_forward_folds

DAY = pd.Timedelta("24h")


def bars(opens, seed=0):
    """Random closes at the given opens, a bar of an hour each."""
    closes = 100 * np.exp(np.random.default_rng(seed).normal(0, 0.01, len(opens)).cumsum())
    columns = {**dict.fromkeys(("open", "high", "low", "close"), closes), "volume": 1.0}
    return pd.DataFrame(columns | {"close_time": opens + pd.Timedelta("1h")}, index=opens)


def session(zone, first_hour, n_bars, start="2024-02-26", end="2024-04-05"):
    """Weekday opens of an exchange, in its own time zone: summer time begins within."""
    days = pd.bdate_range(start, end, tz=zone)
    hours = range(first_hour, first_hour + n_bars)
    opens = [day + pd.DateOffset(hours=h, minutes=30) for day in days for h in hours]
    return pd.DatetimeIndex(opens).tz_convert("UTC").as_unit("us")


@pytest.fixture(scope="module")
def mixed():
    return {
        "COIN": bars(pd.date_range("2024-02-26", "2024-04-06", freq="h", tz="UTC"), 1),
        "SPY": bars(session("America/New_York", 9, 7), 2),
        "DAX": bars(session("Europe/Berlin", 9, 8), 3),
    }


def slow_target(frame, moment, span):
    """Return over ``span`` from the bar that closed at ``moment``, as a person would look it up."""
    closes = frame.set_index("close_time")["close"]
    if moment not in closes.index:
        return np.nan
    inside = closes[(closes.index > moment) & (closes.index <= moment + span)]
    return np.nan if inside.empty else inside.iloc[-1] / closes[moment] - 1


def prepare(frames, **options):
    return prepare_cross_attention_data(frames, features=["log_return"], **options)


@pytest.mark.parametrize("span", ["1h", "24h", "5d"])
def test_targets_on_mixed_sessions_equal_a_slow_look_up(mixed, span):
    data = prepare(mixed, lookback=10, horizon=span)
    ahead = pd.Timedelta(hours={"1h": 1, "24h": 24, "5d": 120}[span])
    wanted = [[slow_target(mixed[s], t, ahead) for s in data.symbols] for t in data.timestamps]
    np.testing.assert_allclose(data.y, wanted, rtol=1e-12)
    known = np.isfinite(data.y).sum(axis=0)
    assert (data.coverage["known_targets"] == known).all() and (known > 150).all()


def test_a_day_by_hand_on_a_stock_beside_a_coin(mixed):
    """A Thursday's bar ends on Friday at the same time, a Friday's at Friday's last close."""
    data = prepare(mixed, lookback=2, horizon="24h", include_latest=True)
    close = mixed["SPY"].set_index("close_time")["close"]
    y = pd.Series(data.y[:, 1], data.timestamps)
    thursday, friday = pd.Timestamp("2024-02-29 16:30Z"), pd.Timestamp("2024-03-01 16:30Z")
    last = pd.Timestamp("2024-03-01 21:30Z")
    assert y[thursday] == pytest.approx(close[friday] / close[thursday] - 1)
    assert y[friday] == pytest.approx(close[last] / close[friday] - 1)
    assert np.isnan(y[last]), "nothing can be traded on Saturday"
    assert np.isnan(y[pd.Timestamp("2024-03-02 12:00Z")]), "no bar to begin at"
    # New York's clocks went forward on the 10th: Friday 10:30 to Monday 10:30 are 71 hours there
    friday, monday = pd.Timestamp("2024-03-08 15:30Z"), pd.Timestamp("2024-03-11 14:30Z")
    long = prepare(mixed, lookback=2, horizon="71h")
    y = pd.Series(long.y[:, 1], long.timestamps)
    assert y[friday] == pytest.approx(close[monday] / close[friday] - 1)


def all_folds(data):
    forward = walk_forward_folds(data, train_size=100, test_size=50, embargo=3)
    return forward + combinatorial_folds(data, n_blocks=4)


@pytest.mark.parametrize("scenario", ["static", "asynchronous"])
def test_a_duration_on_an_hourly_clock_is_that_many_bars(scenario):
    frames = simulate_market(scenario, n_assets=4, n_steps=400, seed=1).frames
    in_bars = prepare(frames, lookback=48, horizon=24)
    spelled = ["24h", pd.Timedelta(hours=24), datetime.timedelta(days=1), np.timedelta64(1, "D")]
    for horizon, lookback in zip(spelled, ["48h", "2D", "2d", pd.offsets.Hour(48)], strict=True):
        in_time = prepare(frames, lookback=lookback, horizon=horizon)
        assert (in_time.lookback, in_time.horizon, in_time.is_steady) == (48, 24, True)
        for name in ("X", "bar_returns", "target_rows", "ends"):
            np.testing.assert_array_equal(getattr(in_time, name), getattr(in_bars, name))
        here = np.isfinite(in_bars.y)
        np.testing.assert_array_equal(in_time.y[here], in_bars.y[here])
        assert here.all() or scenario == "asynchronous"
        volatility = in_time.realised_volatility
        np.testing.assert_array_equal(volatility[here], in_bars.realised_volatility[here])
        for mine, theirs in zip(in_time.split(), in_bars.split(), strict=True):
            np.testing.assert_array_equal(mine.ends, theirs.ends)
        for mine, theirs in zip(all_folds(in_time), all_folds(in_bars), strict=True):
            assert [b.ends.tolist() for b in mine.train] == [b.ends.tolist() for b in theirs.train]


def test_bars_in_a_duration_are_those_of_the_weeks_before(mixed):
    data = prepare(mixed, lookback=2, horizon="24h", include_latest=True)
    found = pd.DataFrame(data.bars_in_horizon, data.timestamps, list(data.symbols))
    late = found.loc["2024-03-04":"2024-03-08 21:30"]  # from the second week on
    assert (late["COIN"] == 24).all()
    monday, friday = late["SPY"].loc["2024-03-04"], late["SPY"].loc["2024-03-08"]
    assert (monday[pd.Timestamp("2024-03-04 16:30Z") :] == 7).all()
    assert friday.loc[pd.Timestamp("2024-03-08 16:30Z") :].tolist()[:3:2] == [5, 4]
    assert (found >= 1).all(axis=None)
    longer = prepare(mixed, lookback=2, horizon="17D", include_latest=True)
    longer = pd.DataFrame(longer.bars_in_horizon, longer.timestamps, list(longer.symbols))
    friday = longer.loc[pd.Timestamp("2024-03-08 15:30Z")]
    assert friday.tolist() == [17 * 24, 2 * 35 + 6 + 1, 2 * 40 + 1 + 7]
    row = len(data) // 2
    np.testing.assert_array_equal(data.until(int(data.ends[row])).bars_in_horizon, found[: row + 1])
    in_bars = prepare(mixed, lookback=2, horizon=3, include_latest=True)
    assert (in_bars.bars_in_horizon == 3).all()


def test_own_bars_in_a_horizon_of_rows_are_those_of_the_newest_that_is_over():
    bars = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1, 0, 1, 0]]).T  # (T, N)
    closes = np.where(bars, 1.0, np.nan)
    for stop in (8, 9):  # no later row is read
        found = own_bars_within(closes[:stop], 3, np.arange(stop))
        assert (found[:, 0] == 3).all()
        assert found[:, 1].tolist() == [3, 3, 3, 3, 1, 1, 1, 2, 2][:stop]


def test_an_outage_of_all_leaves_a_clock_steady(make_frames, mixed):
    frames = {s: f.drop(f.index[300:303]) for s, f in make_frames(600, 2).items()}
    data = prepare(frames, lookback=4, horizon="24h")
    assert data.is_steady and data.horizon == 24
    # the bar at which 24 hours are over is missing: known at the next one, from the one before
    assert data.target_rows[280 - 4] == 300 and data.exit_rows[280 - 4, 0] == 299
    assert not prepare(mixed, lookback=4, horizon="24h").is_steady


def test_a_missing_bar_ends_a_day_at_the_bar_before_it(make_frames):
    frames = make_frames(120, 2)
    gone = frames["S1"].index[60]
    frames["S1"] = frames["S1"].drop(gone)
    data = prepare(frames, lookback=4, horizon="24h")
    close, row = data.closes[:, 1], 60 - 24
    assert data.targets[row, 1] == close[59] / close[row] - 1
    assert np.isnan(prepare(frames, lookback=4, horizon=24).targets[row, 1])


@pytest.mark.parametrize("cut", [200, 333, 500])
def test_bars_after_the_horizon_change_nothing(mixed, cut):
    data = prepare(mixed, lookback=10, horizon="24h", include_latest=True)
    moment = data.clock[cut]
    changed = {
        s: f.assign(**{c: f[c].where(f["close_time"] <= moment, 7.0) for c in f.columns[:4]})
        for s, f in mixed.items()
    }
    after = prepare(changed, lookback=10, horizon="24h", include_latest=True)
    over = data.timestamps + DAY <= moment
    for name in ("y", "realised_volatility"):
        np.testing.assert_array_equal(getattr(after, name)[over], getattr(data, name)[over])
    assert not np.array_equal(after.y, data.y, equal_nan=True)
    known = data.until(cut)
    np.testing.assert_array_equal(known.y[known.timestamps + DAY <= moment], data.y[over])
    assert np.isnan(known.y[known.timestamps + DAY > moment]).all()


def test_parts_are_purged_by_time(mixed, refuse_input):
    data = prepare(mixed, lookback=10, horizon="24h")
    refuse_input(data[:0].split, "too few to split")
    folds = walk_forward_folds(data, train_size=200, test_size=40)
    pairs = [*itertools.pairwise(data.split()), *((f.train[0], f.test[0]) for f in folds)]
    for before, after in pairs:
        assert before.timestamps[-1] + DAY < after.timestamps[0]
    for fold in combinatorial_folds(data, n_blocks=5):
        learned = np.concatenate([b.timestamps for b in fold.train])
        for block in fold.test:
            near = (learned + DAY >= block.timestamps[0]) & (learned <= block.timestamps[-1] + DAY)
            assert not near.any()


def test_coverage_counts_bars_targets_and_spans(mixed):
    data = prepare(mixed, lookback=10, horizon="24h")
    coverage = data.coverage
    assert coverage.index.tolist() == ["COIN", "SPY", "DAX"]
    assert (coverage["spacing"] == pd.Timedelta("1h")).all()
    assert (coverage["span_max"] == DAY).all() and (coverage["span_median"] == DAY).all()
    assert coverage["span_min"].tolist() == [DAY, pd.Timedelta("1h"), pd.Timedelta("1h")]
    np.testing.assert_allclose(coverage["known_share"], coverage["known_targets"] / len(data))
    # a Friday's last bar has no target; five Fridays, the first of them within the data
    lost = coverage["bars"] - coverage["known_targets"]
    assert lost["COIN"] == 0 and lost["SPY"] == lost["DAX"] == 5


def test_a_lookback_in_time_reaches_back_that_far_from_every_row(mixed):
    data = prepare(mixed, lookback="3d", horizon="24h")
    first = data.clock[data.ends - data.lookback + 1]
    assert (data.timestamps - first + pd.Timedelta("1h") >= pd.Timedelta("3D")).all()
    assert data.lookback == 72 + 3 * 13, "Berlin and New York close on the half hour, 9:30 to 21:30"


def test_shared_bars_alone(mixed, refuse_input):
    stocks = {s: mixed[s] for s in ("SPY", "DAX")}
    for how in ("common", "inner"):
        data = prepare(stocks, lookback=3, horizon=2, how=how)
        assert np.isfinite(data.closes).all() and np.isfinite(data.y).all()
    assert set(data.clock) == set(mixed["SPY"]["close_time"]) & set(mixed["DAX"]["close_time"])
    again = prepare(align_panel(stocks), lookback=3, horizon=2, how="common")
    np.testing.assert_array_equal(again.y, data.y)
    refuse_input(lambda: prepare(mixed, how="left"), "how must be one of")
    refuse_input(lambda: prepare(mixed, how="common"), "COIN, SPY, DAX never close all together")


@pytest.mark.parametrize("by", ["1ms", "1s", "30min"])
@pytest.mark.parametrize("horizon", [1, 24])
def test_clocks_that_never_meet_are_refused_by_name(by, horizon, refuse_input):
    opens = pd.date_range("2024-01-01", periods=300, freq="h", tz="UTC")
    apart = {"A": bars(opens, 0), "B": bars(opens + pd.Timedelta(by), 1), "C": bars(opens, 2)}
    words = "B never close together .* duration"
    refuse_input(lambda: prepare(apart, lookback=5, horizon=horizon), words)
    known = np.isfinite(prepare(apart, lookback=5, horizon="24h").y)
    assert known.mean(axis=0) == pytest.approx(0.5, abs=0.01)


def test_symbols_without_targets_are_refused_and_with_few_warned_of(refuse_input):
    opens = pd.date_range("2024-01-01", periods=400, freq="h", tz="UTC")
    frames = {s: bars(opens, k) for k, s in enumerate("AB")}
    frames["C"] = bars(opens[23::24], 7)  # closes at midnight, with an hourly bar
    refuse_input(lambda: prepare(frames, lookback=5, horizon=23), "no target of C is known in any")
    with pytest.warns(CrossAttentionWarning, match='few known targets: C 4% .*how="common"'):
        prepare(frames, lookback=5, horizon=24)
    prepare(frames, lookback=5, horizon="24h")  # of its own bars, all are known
    tail = {s: f.iloc[-60:] for s, f in frames.items()}
    prepare(tail, lookback=5, horizon=23, include_latest=True)  # a forecast needs no targets


NO_SPANS = ["7", "0h", "1ns", "-24h", "1M", "soon", 0, -1, 1.5, np.nan, pd.NaT, None, True, []]


@pytest.mark.parametrize("wrong", NO_SPANS)
@pytest.mark.parametrize("name", ["lookback", "horizon"])
def test_what_is_neither_bars_nor_a_duration_is_refused(mixed, name, wrong, refuse_input):
    refuse_input(lambda: prepare(mixed, **{name: wrong}), f"{name} must be a number of bars")
