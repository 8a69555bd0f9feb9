"""The data doctor: every planted fault is found where it is, and sound bars pass."""

import numpy as np
import pandas as pd
import pytest

from crossattn import check_bars, load_sample, sample_names, simulate_market
from crossattn.data.doctor import KINDS
from crossattn.simulate.scenarios import SCENARIOS

PRICES = ["open", "high", "low", "close"]
SYMBOLS = ["A00", "A01", "A02", "A03"]
N_BARS = 1500


def market(scenario="static", seed=11, n_assets=4, n_steps=N_BARS, **options):
    sizes = {"n_assets": n_assets, "n_steps": n_steps}
    return simulate_market(scenario, seed=seed, **sizes, **options).frames


def only(frames, symbol, kind):
    """Return the single finding, checking whose and of what kind it is."""
    found = check_bars(frames).findings
    assert found[["symbol", "kind"]].to_numpy().tolist() == [[symbol, kind]], found.to_string()
    assert set(found["kind"]) <= set(KINDS)
    return found.iloc[0]


def finding(kind, symbol, change, *args, **options):
    """Return the single finding after one symbol of a market was changed, and its frame before."""
    frames = market(**options)
    whole = frames[symbol]
    return only({**frames, symbol: change(whole, *args)}, symbol, kind), whole


def with_range(frame):
    """Set high and low to the extremes of the prices."""
    return frame.assign(high=frame[PRICES].max(axis=1), low=frame[PRICES].min(axis=1))


def scaled(frame, rows, factor, columns=PRICES):
    frame = frame.copy()
    frame.iloc[rows, frame.columns.get_indexer(columns)] *= factor
    return with_range(frame)


def filled(frame, closed):
    """Fill closed hours with the last price."""
    close = frame["close"].mask(closed).ffill().bfill()
    prices = frame[PRICES].apply(lambda column: column.mask(closed, close))
    return with_range(frame.assign(**prices))


def late(frame, by):
    return frame.set_axis(frame.index + pd.Timedelta(by))


SPLITS = {factor: f"{factor}:1 split" for factor in (2, 3, 4, 5, 10)}
SPLITS |= {1.5: "3:2 split", 1 / 2: "1:2 reverse split", 1 / 10: "1:10 reverse split"}


@pytest.mark.parametrize("scenario", ["static", "crisis"])
@pytest.mark.parametrize("row", [4, 700, N_BARS - 1])
@pytest.mark.parametrize(("factor", "name"), SPLITS.items())
def test_a_split_is_named_with_its_factor(scenario, row, factor, name):
    change = scaled, slice(row, None), 1 / factor
    found, whole = finding("split", "A02", *change, scenario=scenario)
    assert found["moment"] == whole.index[row]
    assert found["figure"] == pytest.approx(factor)
    assert f"looks like a {name} at " in found["text"]


def test_a_crash_that_stays_is_no_split_and_another_unit_is_a_jump():
    frames = market(bar_volatility=0.02)
    frames["A01"] = scaled(frames["A01"], slice(600, None), 0.55)
    assert check_bars(frames).ok
    frames["A01"] = scaled(frames["A01"], slice(900, None), 37)
    assert only(frames, "A01", "jump")["figure"] == pytest.approx(37, rel=0.01)


MISPRINTS = [(1000, PRICES), (10, PRICES), (0.1, PRICES), (2, ["close"]), (1 / 3, ["open"])]


@pytest.mark.parametrize(
    ("row", "factor", "columns"),
    [(row, *size) for row in (5, 800) for size in [*MISPRINTS, (3, ["high"]), (0.2, ["low"])]]
    + [(row, 1000, PRICES) for row in (0, N_BARS - 1)],  # a tenth could be a split there
)
def test_a_misprint_is_named_with_its_size(row, factor, columns):
    found, whole = finding("misprint", "A00", scaled, row, factor, columns, seed=12)
    assert found["moment"] == whole.index[row]
    assert found["figure"] == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize(("row", "length"), [(3, 15), (400, 60), (1100, N_BARS - 1100)])
def test_a_stale_stretch_is_named_with_its_length(row, length):
    def hold(frame):
        frame.loc[frame.index[row : row + length], PRICES] = frame["close"].iloc[row]
        return frame

    found, whole = finding("stale", "A03", hold, seed=13)
    assert (found["moment"], found["figure"]) == (whole.index[row], length)


def test_weekends_filled_with_the_last_price_are_stale():
    found, _ = finding("stale", "A03", lambda f: filled(f, f.index.day_of_week >= 5), seed=13)
    assert found["figure"] == 49 and "such runs" in found["text"]


@pytest.mark.parametrize("bar", ["1h", "1D"])
def test_closed_hours_filled_with_the_last_price_are_stale(bar):
    frames = market(bar=bar, n_steps=2000)
    local = frames["A03"].index.tz_convert("America/New_York")
    closed = (local.day_of_week >= 5) | ((bar == "1h") & ((local.hour < 10) | (local.hour >= 16)))
    found = only({**frames, "A03": filled(frames["A03"], closed)}, "A03", "stale")
    assert found["figure"] == pytest.approx(closed.sum(), rel=0.1)


def test_coarse_ticks_are_not_stale():
    frames = market(bar_volatility=0.0005)
    frames["A00"][PRICES] = (frames["A00"][PRICES] / 0.1).round() * 0.1
    assert (frames["A00"]["close"].diff() == 0).mean() > 0.3
    assert check_bars(frames).ok


def test_a_constant_and_a_volume_that_is_always_zero():
    frames = market()
    constant = frames["A01"].assign(**dict.fromkeys(PRICES, 5.0))
    assert only({**frames, "A01": constant}, "A01", "constant")["figure"] == N_BARS
    silent = frames["A01"].assign(volume=0.0)
    assert only({**frames, "A01": silent}, "A01", "zero volume")["figure"] == 1
    assert check_bars({**frames, "A01": frames["A01"].assign(volume=np.nan)}).ok


@pytest.mark.parametrize(("power", "scale"), [(1, 1), (1, 7.3), (2, 1), (-1, 1)])
def test_a_duplicate_of_another_asset(power, scale):
    frames = market("factor")
    frames["B"] = with_range(frames["A02"].assign(**(scale * frames["A02"][PRICES] ** power)))
    found = only(frames, "B", "duplicate")
    assert "A02" in found["text"] and found["figure"] == 1.0
    assert (f"{power} times" in found["text"]) == (power != 1)


def test_a_file_overwritten_by_another_from_a_date_on():
    frames = market("factor")
    level = frames["A01"]["close"].iloc[799] / frames["A02"]["close"].iloc[799]
    tail = scaled(frames["A02"], slice(None), level)[800:]
    frames["A01"] = pd.concat([frames["A01"][:800], tail])
    found = check_bars(frames).findings
    assert found["kind"].tolist() == ["duplicate"]
    assert found["figure"][0] == pytest.approx(700 / N_BARS, abs=0.1)
    assert abs(found["moment"][0] - frames["A02"].index[800]) < pd.Timedelta("5D")


@pytest.mark.parametrize("offset", ["1ms", "1s", "7min", "30min", "-1ms", "-1s", "-7min"])
def test_a_clock_beside_the_others_is_named_with_its_offset(offset):
    found, _ = finding("clock", "A01", late, offset)
    assert found["figure"] == pytest.approx(pd.Timedelta(offset) / pd.Timedelta("1s"))
    assert "A00" in found["text"] and offset.strip("-")[:1] in found["text"]


def test_the_clocks_of_two_assets():
    frames = market("factor", n_assets=3)
    pair = {"first": frames["A00"], "second": frames["A01"]}
    for shifted, other in (("first", "second"), ("second", "first")):
        found = only({**pair, shifted: late(pair[shifted], "30min")}, shifted, "clock")
        assert other in found["text"] and "0%" in found["text"]
    found = only({"BTC": pair["first"], "ETH": late(pair["second"], "1h")}, "ETH", "late clock")
    assert "BTC" in found["text"]


def daily(frame, zone="UTC"):
    """Resample hourly bars to days from midnight to midnight of a zone."""
    rule = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    days = frame.tz_convert(zone).resample("1D").agg(rule).iloc[1:-1]
    return days.tz_convert("UTC").rename_axis("time")


def test_days_that_each_exchange_counts_from_its_own_midnight():
    zones = ["UTC", "Asia/Tokyo", "America/New_York", "UTC"]
    days = map(daily, market("factor", n_steps=9_000).values(), zones)
    found = check_bars(dict(zip(SYMBOLS, days, strict=True))).findings.set_index("symbol")
    assert found["kind"].to_dict() == {"A01": "clock", "A02": "clock"}
    assert found["figure"]["A01"] == -9 * 3600  # midnight in Tokyo is 15:00 UTC
    assert found["figure"]["A02"] in (4 * 3600, 5 * 3600)
    assert "9 h earlier" in found["text"]["A01"]


def test_one_daily_file_among_hourly_ones():
    found, _ = finding("spacing", "A03", daily)
    assert found["figure"] == 24 and "every 24 h" in found["text"] and "every 1 h" in found["text"]


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_file_whose_spacing_changes(when):
    frames = market("factor", n_steps=3000)
    hourly, days = frames["A02"], daily(frames["A02"])
    middle = days.index[60]
    before, after = (days, hourly) if when == "first" else (hourly, days)
    frames["A02"] = pd.concat([before[before.index < middle], after[after.index >= middle]])
    found = only(frames, "A02", "spacing")
    assert found["figure"] == 24
    change = middle if when == "last" else days.index[0]
    assert abs(found["moment"] - change) <= pd.Timedelta("1D")


@pytest.mark.parametrize("lag", [1, -1, 5])
@pytest.mark.parametrize("scenario", ["static", "hub", "crisis", "asynchronous"])
def test_a_clock_that_is_late_or_early(scenario, lag):
    kind, options = "late clock" if lag > 0 else "early clock", {"n_assets": 6, "seed": 14}
    found, _ = finding(kind, "A03", late, f"{lag}h", scenario=scenario, **options)
    assert found["figure"] == lag


@pytest.mark.parametrize("share", [0.95, 0.6])
def test_missing_bars(share):
    keep = np.random.default_rng(1).random(N_BARS) > share
    found, _ = finding("missing", "A02", lambda frame: frame[keep], seed=15)
    assert found["figure"] == pytest.approx(share, abs=0.05)


def test_a_gap_an_early_end_and_a_late_start():
    frames = market(seed=16)
    whole = frames["A01"]
    found = only({**frames, "A01": whole.drop(whole.index[500:700])}, "A01", "gap")
    assert (found["figure"], found["moment"]) == (200, whole.index[700])
    found = only({**frames, "A01": whole[:-300]}, "A01", "ends early")
    assert (found["figure"], found["moment"]) == (pytest.approx(300 / 24), whole.index[-301])
    report = check_bars({**frames, "A01": whole[300:]})
    assert report.ok and report.coverage["remark"]["A01"] == "starts 12.5 days after the others"


def in_session(frame, zone="America/New_York", opens="09:30", closes="16:00"):
    local = frame.tz_convert(zone).between_time(opens, closes, inclusive="left")
    return local[local.index.day_of_week < 5].tz_convert("UTC")


def test_closed_hours_are_neither_gaps_nor_missing_bars():
    frames = market("factor", n_steps=6_000, bar="30min", n_assets=5)
    frames["A01"] = in_session(frames["A01"])
    frames["A02"] = in_session(frames["A02"], "Asia/Tokyo", "09:00", "15:00")
    report = check_bars(frames)
    assert report.ok, str(report)
    assert report.coverage["share"]["A01"] == pytest.approx(6.5 * 5 / 168, abs=0.02)
    assert report.coverage["known_targets"]["A01"] == pytest.approx(12 / 13, abs=0.01)


@pytest.mark.parametrize("name", sample_names())
def test_packaged_samples_pass(name):
    report = check_bars(load_sample(name))
    assert report.ok, str(report)


@pytest.mark.parametrize("number", range(60))
def test_simulated_markets_pass(number):
    scenario = list(SCENARIOS)[number % len(SCENARIOS)]
    n_assets, n_steps, bar = [(10, 1000, "1h"), (3, 400, "1h"), (5, 700, "30min")][number % 3]
    report = check_bars(market(scenario, 300 + number, n_assets, n_steps, bar=bar))
    assert report.ok, str(report)


def test_random_walks_and_ragged_frames_pass(make_frames, ragged_frames):
    assert check_bars(make_frames(600, 3)).ok and check_bars(ragged_frames).ok


def test_coverage_counts_bars_rows_and_targets():
    frames = market(n_steps=200)
    frames["A01"] = frames["A01"].iloc[100:].drop(frames["A01"].index[150])
    row = check_bars(frames).coverage.loc["A01"]
    assert row["first"] == frames["A00"].index[100] and row["last"] == frames["A00"].index[-1]
    assert (row["bars"], row["spacing"]) == (99, pd.Timedelta("1h"))
    assert row["share"] == pytest.approx(99 / 100)
    assert row["known_targets"] == pytest.approx(97 / 99)  # not before the gap, not the last


@pytest.mark.parametrize("n_bars", [1, 2, 10])
@pytest.mark.parametrize("n_assets", [1, 3])
def test_few_bars_are_a_finding(make_frames, n_bars, n_assets):
    report = check_bars(make_frames(n_bars, n_assets))
    few = report.findings[report.findings["kind"] == "few bars"]
    assert few["figure"].tolist() == [n_bars] * n_assets
    assert len(report.coverage) == n_assets


def test_a_report_prints_and_renders_hostile_symbols_as_data():
    frames = market(n_steps=300)
    name = "<script>alert(1)</script>\nB: all fine\x1b[2J"
    frames[name] = frames.pop("A00").assign(volume=0.0)
    report = check_bars(frames)
    assert len(str(report).splitlines()) == 1 and "\x1b" not in str(report)
    assert report.findings["symbol"][0] == name
    assert "<script>" not in report._repr_html_() and "zero volume" in report._repr_html_()
    assert repr(report) == "BarsReport(1 findings, 4 assets)"
    sound = check_bars(market(n_steps=300))
    assert str(sound) == "no findings in 4 assets" and sound.findings.empty
    assert list(sound.findings) == list(report.findings)


def test_frames_that_are_no_bars_are_refused_by_name(make_frames, refuse_input):
    frames = make_frames(100, 3)
    frames["S0"].iloc[3, 3] = -1.0
    frames["S2"] = frames["S2"].iloc[::-1]
    refuse_input(lambda: check_bars(frames), "S0: .*S2: ")
    for wrong in ({}, None, frames["S1"]):
        refuse_input(lambda given=wrong: check_bars(given), "frames must")


def test_many_clocks_that_never_meet_stay_within_bounds(make_frames):
    frames = make_frames(2_000, 60)
    for number, symbol in enumerate(frames):
        frames[symbol].index += pd.Timedelta(milliseconds=number)
    found = check_bars(frames).findings
    assert (found["kind"] == "clock").all() and len(found) == 59


def test_sessions_in_local_time_that_is_labelled_utc():
    frames = market("factor", n_steps=6_000, n_assets=5)
    frames = {symbol: in_session(frame, opens="10:00") for symbol, frame in frames.items()}
    local = frames["A02"].tz_convert("America/New_York").tz_localize(None)
    found = only({**frames, "A02": local.tz_localize("UTC")}, "A02", "early clock")
    assert found["figure"] in (-4, -5)


@pytest.mark.parametrize("days", [1, -1])
def test_days_that_are_stamped_with_the_next_date(days):
    frames = {symbol: daily(f) for symbol, f in market("factor", n_steps=9_000).items()}
    frames = {symbol: f[f.index.day_of_week < 5] for symbol, f in frames.items()}
    frames["A01"] = late(frames["A01"], f"{days}D")
    found = only(frames, "A01", "late clock" if days > 0 else "early clock")
    assert found["figure"] == days


def test_a_clock_that_is_late_from_a_date_on():
    def change(whole):
        return pd.concat([whole[:2000], late(whole[2000:], "1h")])

    found, whole = finding("late clock", "A02", change, n_steps=4000, n_assets=6)
    assert abs(found["moment"] - whole.index[2000]) < pd.Timedelta("3D")


def test_many_misprints_are_a_few_lines():
    frames = market()
    for row in range(100, 1400, 40):
        frames["A01"] = scaled(frames["A01"], row, 5.0, ["high"])
    found = check_bars(frames).findings
    assert len(found) == 5 and "33 of this kind in all" in found["text"][0]
