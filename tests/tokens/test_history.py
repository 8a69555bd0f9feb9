"""Forecasts bar by bar: equal to those of one pass over the whole history, whatever arrives how."""

import copy

import numpy as np
import pandas as pd
import pytest

from crossattn import CrossAttentionForecaster, prepare_cross_attention_data, simulate_market
from crossattn.errors import CrossAttentionWarning, DamagedFileError
from crossattn.windows.dataset import CrossAttentionData
from crossattn.windows.prepare import windows_of_features

LOOKBACK, FITTED_ON, N_STEPS = 30, 2600, 3000
QUICK = {"n_models": 1, "epochs": 2, "progress": False}


def prepared(frames, horizon=1, **options):
    return prepare_cross_attention_data(frames, LOOKBACK, horizon, **options)


def bars(frames, start, stop=None):
    stop = start + 1 if stop is None else stop
    return {symbol: frame.iloc[start:stop] for symbol, frame in frames.items()}


def newest(forecaster, frames, horizon=1, **options):
    return forecaster.predict(prepared(frames, horizon, include_latest=True, **options))[-1]


def equal(found, expected):
    return np.allclose(found, expected, atol=1e-9, rtol=0, equal_nan=True)


@pytest.fixture(scope="module", params=[("regimes", 1), ("gated", 1), ("gated", 4)])
def case(request):
    """Frames, and a forecaster fitted on the first: regimes are hidden, gates look like drift."""
    scenario, horizon = request.param
    market = simulate_market(scenario, n_assets=5, n_steps=N_STEPS, seed=1, predictability=0.1)
    data = prepared(bars(market.frames, 0, FITTED_ON), horizon)
    forecaster = CrossAttentionForecaster(**QUICK).fit(*data.split()[:2])
    kept = "regime" if scenario == "regimes" else "drift"
    assert any(name.startswith(kept) for name in forecaster.state_.sums)
    return market.frames, horizon, forecaster


@pytest.fixture
def live(case):
    frames, horizon, forecaster = case
    return frames, horizon, copy.deepcopy(forecaster)


def test_bar_by_bar_it_forecasts_what_one_pass_does(live, tmp_path):
    frames, horizon, forecaster = live
    whole = prepared(frames, horizon, include_latest=True)
    expected = dict(zip(whole.timestamps, forecaster.predict(whole), strict=True))
    # from the bar after validation on, and with a jump over bars that fit has had in its data
    begin = int(prepared(bars(frames, 0, FITTED_ON), horizon).split()[1].ends[-1]) + 1
    for row in [*range(begin, begin + 150), *range(FITTED_ON, FITTED_ON + 150)]:
        assert equal(forecaster.update(bars(frames, row)), expected[whole.clock[row]])
        if row % 40 == 0:
            forecaster.save(tmp_path)
            forecaster = CrossAttentionForecaster.load(tmp_path)
    many = forecaster.update(bars(frames, FITTED_ON, N_STEPS))  # some of them known
    assert equal(many, expected[whole.clock[-1]])


def test_gaps_missing_symbols_and_late_bars_are_as_in_the_whole_history(live, rng):
    frames, horizon, forecaster = live
    given, late = {s: [f.iloc[:FITTED_ON]] for s, f in frames.items()}, []
    for row in range(FITTED_ON, FITTED_ON + 120):
        if row % 17 == 0:
            continue  # the venue was down
        now = {}
        for symbol, frame in frames.items():
            chance = rng.random()
            if chance < 0.15 and symbol != "A00":
                late += [(symbol, row)] if chance < 0.1 else []
                continue
            now[symbol] = frame.iloc[row : row + 1]
        while late and rng.random() < 0.4:
            symbol, missed = late.pop(0)
            table = pd.concat([frames[symbol].iloc[missed : missed + 1], now.get(symbol)])
            now[symbol] = table.sort_index()
        for symbol, frame in now.items():
            given[symbol].append(frame)
        found = forecaster.update(now)
        history = {
            symbol: (table := pd.concat(parts).sort_index())[~table.index.duplicated()]
            for symbol, parts in given.items()
        }
        if row % 5 == 0:
            assert equal(found, newest(forecaster, history, horizon))
    missing = [frames[s].index[row] not in table.index for s, table in history.items()]
    assert np.isnan(found).sum() == sum(missing)


def test_what_cannot_be_read_is_refused_and_changes_nothing(live, refuse_input):
    frames, horizon, forecaster = live
    now = bars(frames, FITTED_ON)
    before = forecaster.update(now)
    assert equal(forecaster.update(bars(frames, FITTED_ON - 50, FITTED_ON + 1)), before)
    other = now["A01"].assign(high=now["A01"]["high"] * 1.001)
    daily = frames["A02"].iloc[FITTED_ON::24]
    minutes = now["A02"].set_axis(now["A02"].index + pd.Timedelta("5min"))
    long = now["A02"].assign(close_time=now["A02"].index + pd.Timedelta("1D"))
    missed = {"A03": frames["A03"].iloc[200:201]}
    hole = {s: f.drop(f.index[2300]) for s, f in bars(frames, 0, FITTED_ON).items()}
    for wrong, match in (
        ({"A01": other}, "A01: the bar that closed at .* has changed"),
        ({"A02": daily}, "A02: bars 1 days .* apart, but .* 0 days 01:00:00"),
        ({"A02": minutes}, "A02: bars 0 days 00:05:00 apart"),
        ({"A02": long}, "A02: bars 1 days"),
        ({"ZZZ": now["A00"]}, "ZZZ"),
        ({}, "at least one bar"),
        ([now["A00"]], "dict of DataFrames, got list"),
        ({"A00": now["A00"].iloc[:, :3]}, "A00: columns"),
        ({"A00": now["A00"].tz_localize(None)}, "A00: time must be UTC"),
        ({"A00": frames["A00"].iloc[FITTED_ON : FITTED_ON + 3].iloc[::-1]}, "increase strictly"),
        ({"A00": now["A00"] * -1}, "A00: open must be positive"),
    ):
        refuse_input(lambda bars=wrong: forecaster.update(bars), match)
    assert equal(forecaster.update(missed), before), "older than what is kept: not looked at"
    data = prepared(hole, horizon)
    forecaster = CrossAttentionForecaster(**QUICK, varying=False, content=False)
    forecaster.fit(*data.split()[:2]).update(bars(frames, FITTED_ON))
    late = {"A00": frames["A00"].iloc[2300:2301]}
    refuse_input(lambda: forecaster.update(late), "A00: the bar that closed at .* is too late")
    empty = frames["A00"].iloc[: FITTED_ON + 1].copy()
    empty.iloc[2300] = np.nan
    before = forecaster.update(bars(frames, FITTED_ON))
    assert equal(forecaster.update({"A00": empty}), before), "a row without values is no bar"
    after = forecaster.update(bars(frames, FITTED_ON + 1))
    hole = {s: pd.concat([f, bars(frames, FITTED_ON, FITTED_ON + 2)[s]]) for s, f in hole.items()}
    assert equal(after, newest(forecaster, hole, horizon))


@pytest.mark.parametrize("how", ["outer", "common"])
def test_a_forecast_of_volatility_goes_on_too(how, refuse_input):
    frames = simulate_market("crisis", n_assets=3, n_steps=1500, seed=2).frames
    frames["A01"] = frames["A01"].drop(frames["A01"].index[5::9])
    data = prepared(bars(frames, 0, 1000), 4, how=how)
    forecaster = CrossAttentionForecaster(**QUICK, target="volatility").fit(*data.split()[:2])
    now = {s: f[f.index <= frames["A00"].index[1399]] for s, f in frames.items()}
    expected = newest(forecaster, now, 4, how=how)
    assert equal(forecaster.update(now), expected) and (expected > 0).any()
    if how == "common":
        some = {symbol: frames[symbol].iloc[1400:] for symbol in ("A02", "A00")}
        refuse_input(lambda: forecaster.update(some), "'A01' is missing")


WORKDAYS = pd.bdate_range("2019-01-01", "2024-06-28", tz="UTC")
WITH_SESSIONS = WORKDAYS.union(pd.DatetimeIndex(["2019-02-09", "2019-05-12"], tz="UTC"))
DOWN = np.arange(2400) % 130 < 3  # all of a venue
MINUTES = pd.date_range("2024-01-03", periods=2400, freq="5min", tz="UTC")[~DOWN]  # nine days


@pytest.mark.parametrize(("clock", "bar"), [(WITH_SESSIONS, "6h"), (MINUTES, "5min")])
def test_weekends_long_ago_are_remembered(make_frames, clock, bar):
    close_time = clock + pd.Timedelta(bar)
    frames = make_frames(len(clock), 3)
    frames = {s: f.set_axis(clock).assign(close_time=close_time) for s, f in frames.items()}
    known = len(clock) - 160
    data = prepared(bars(frames, 0, known))
    forecaster = CrossAttentionForecaster(2, **QUICK, target="volatility")
    forecaster.fit(*data.split(0.7, 0.2)[:2]).update(bars(frames, 0, known))
    whole = prepared(frames, include_latest=True)
    expected = dict(zip(whole.timestamps, forecaster.predict(whole), strict=True))
    for row in range(known, len(clock) - 8, 8):
        assert equal(forecaster.update(bars(frames, row, row + 8)), expected[close_time[row + 7]])


def test_bars_that_arrive_between_prepare_and_fit_are_not_read():
    frames = simulate_market(n_assets=3, n_steps=900, seed=1).frames
    early, forecasts = bars(frames, 0, 800), []
    for grows in (False, True):
        given = dict(early)
        parts = prepared(given).split()[:2]
        if grows:
            given |= bars(frames, 0, 801)
            del given["A01"]
        forecaster = CrossAttentionForecaster(2, **QUICK, target="volatility").fit(*parts)
        now = bars(frames, 800, 803) | {"A02": frames["A02"].iloc[800:801]}
        forecasts.append(forecaster.update(now))
    assert equal(*forecasts) and np.isnan(forecasts[1]).tolist() == [False, False, True]


def test_exogenous_series_go_on_too(refuse_input):
    frames = simulate_market("null", n_assets=3, n_steps=1500, seed=5).frames
    times = frames["A00"].index[::7] + pd.Timedelta("20min")
    values = np.random.default_rng(1).normal(size=(len(times), 2))
    outside = pd.DataFrame(values, times, ["survey", "index"])
    data = prepared(bars(frames, 0, 1200), exogenous=outside)
    forecaster = CrossAttentionForecaster(**QUICK).fit(*data.split()[:2])
    for row in range(1200, 1240):
        closed = frames["A00"].index[row] + pd.Timedelta("1h")
        new = outside[(times > closed - pd.Timedelta("1h")) & (times <= closed)]
        new = new.convert_dtypes().reset_index(names="time")  # another form of the same
        found = forecaster.update(bars(frames, row), new if len(new) else None)
        expected = newest(forecaster, bars(frames, 0, row + 1), exogenous=outside)
        assert equal(found, expected)
    refuse_input(lambda: forecaster.update(bars(frames, 1240), outside + 1.0), "has changed")
    one = outside[["survey"]]
    refuse_input(lambda: forecaster.update(bars(frames, 1240), one), "series of training")


def test_a_short_tail_is_refused_and_a_sufficient_one_is_near_enough(case, refuse_input):
    frames, horizon, forecaster = case
    least = forecaster.minimum_tail_

    def of_last(size):
        return newest(forecaster, bars(frames, N_STEPS - size, N_STEPS), horizon)

    for size in (LOOKBACK + 40, least - 1):
        refuse_input(lambda size=size: of_last(size), f"minimum_tail_ = {least}")
    whole, tail = of_last(N_STEPS), of_last(2 * least)
    tracked = any(name.startswith("drift") for name in forecaster.state_.sums)
    assert np.abs(tail - whole).max() < (0.2 if tracked else 0.01) * np.abs(whole).max()


def test_bars_of_another_spacing_are_refused_by_predict(case, refuse_input):
    frames, horizon, forecaster = case
    spread = {s: f.set_axis(f.index[0] + 24 * (f.index - f.index[0])) for s, f in frames.items()}
    words = "A00: data has bars 1 days .* 0 days 01:00:00"
    refuse_input(lambda: newest(forecaster, spread, horizon), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f * [0.1, 0.1, 0.1, 0.1, 1], "A00, at 2022.*its close jumps"),
        (lambda f: f.shift(freq="30min"), "A00.*off the clock"),
        (lambda f: f.shift(freq="90D"), "A00.*a gap longer than any before"),
    ],
)
def test_new_bars_unlike_any_before_are_named(live, change, words):
    frames, _, forecaster = live
    forecaster.update(bars(frames, FITTED_ON, FITTED_ON + 10))
    new = {"A00": change(frames["A00"][FITTED_ON + 10 : FITTED_ON + 12])}
    with pytest.warns(CrossAttentionWarning, match=words) as told:
        forecaster.update(new)
    assert len(told) == 1


def own_features(frames):
    """Closes, and features that no bar tells, by symbol and close time."""
    rng = np.random.default_rng(5)
    made = {}
    for symbol, frame in frames.items():
        close = frame["close"].set_axis(frame.index + pd.Timedelta("1h"))
        move = np.log(close).diff()
        signal = rng.normal(size=len(close)) + 40 * move
        made[symbol] = pd.DataFrame({"signal": signal, "log_return": move, "close": close})
    return made


@pytest.fixture(scope="module")
def own_case():
    market = simulate_market("gated", n_assets=3, n_steps=1900, seed=2, predictability=0.1)
    tables = own_features(market.frames)
    tables["A01"].loc[tables["A01"].index[[1200, 1875]]] = np.nan  # no bar

    def windows(stop, **options):
        wide = pd.concat({s: t[:stop] for s, t in tables.items()}, axis=1).swaplevel(axis=1)
        features = wide[["signal", "log_return"]]
        return windows_of_features(features, wide["close"], LOOKBACK, 1, warm_up=1, **options)

    fitted = CrossAttentionForecaster(**QUICK).fit(*windows(1800).split(0.7, 0.2)[:2])
    return tables, windows, fitted


def test_features_of_your_own_are_read_bar_by_bar(own_case, tmp_path):
    tables, windows, fitted = own_case
    whole = windows(None, include_latest=True)
    expected = dict(zip(whole.timestamps, fitted.predict(whole), strict=True))
    forecaster = copy.deepcopy(fitted)
    forecaster.update({s: t.iloc[1800:1860] for s, t in tables.items()})
    for row in range(1860, 1890):
        new = {s: t.iloc[row - 1 : row + 1] for s, t in tables.items()}  # one of them once more
        assert equal(forecaster.update(new), expected[tables["A00"].index[row]])
        if row == 1870:
            forecaster.save(tmp_path)
            forecaster = CrossAttentionForecaster.load(tmp_path)
    assert equal(forecaster.update(tables), expected[whole.timestamps[-1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="signal"), "A00: .*'signal' is missing"),
        (lambda t: t.drop(columns="close"), "'close' is missing"),
        (lambda t: t.assign(close=-t["close"]), "A00: closes must be positive"),
        (lambda t: t.assign(signal="x"), "A00: must hold numbers"),
        (lambda t: t.tz_localize(None), "A00"),
        (lambda t: t.iloc[::-1], "A00"),
        (lambda t: t.iloc[::3], "A00: bars 0 days 03:00:00 apart"),
        (lambda t: t.assign(signal=t["signal"] + 1), "A00: .* has changed"),
        (lambda t: t.to_numpy(), "'close' is missing"),
    ],
)
def test_wrong_features_of_your_own_are_refused(own_case, refuse, change, words):
    tables, _, fitted = own_case
    refuse(lambda: copy.deepcopy(fitted).update({"A00": change(tables["A00"][1780:])}), words)


@pytest.mark.parametrize("target", ["return", "volatility"])
def test_windows_without_times_have_no_calendar_and_no_update(target, refuse_input):
    frames = simulate_market(n_assets=3, n_steps=400, seed=1).frames
    data = prepare_cross_attention_data(frames, 6, 1)
    arrays = CrossAttentionData.from_arrays(data.X, data.y, features=data.features)
    fitted = CrossAttentionForecaster(2, **QUICK, target=target).fit(arrays)
    forecast = fitted.predict(arrays)
    assert np.isfinite(forecast).all()
    found = fitted.intercept(arrays) + fitted.contributions(arrays).sum((2, 3))
    assert np.allclose(np.exp(found) if target == "volatility" else found, forecast)
    assert not (fitted._mixture.calendar.hours.any() or fitted._mixture.calendar.weekdays.any())
    for live in (fitted.update, fitted.newest):
        refuse_input(lambda live=live: live(bars(frames, 399)), "update and newest need")


def test_a_lost_state_is_said(case, tmp_path):
    forecaster = case[2]
    forecaster.save(tmp_path)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(DamagedFileError):
        CrossAttentionForecaster.load(tmp_path)
