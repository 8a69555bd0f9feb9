"""The live path: forecasts every hour from a venue, and a run that refuses what it was not for."""

import shutil

import numpy as np
import pandas as pd
import pytest
from standin.bybit import BybitStandIn, to_ms
from standin.commands import predicted, run
from standin.scene import FOREVER

from crossattn import CrossAttentionForecaster
from crossattn.cli import main
from crossattn.data.files import read_bars, write_bars

HOUR = 3_600_000
SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT")
BEGIN, NOW = "2024-01-01T00:00", "2024-02-10T00:05"
LATE_HOUR, OFF_HOURS = 17, range(30, 34)


class Desk:
    """A folder of bars from the stand-in venue, a run, and commands on them."""

    def __init__(self, folder):
        self.folder, self.late = folder, None
        self.server = BybitStandIn(dict.fromkeys(SYMBOLS, FOREVER), to_ms(NOW), act=self.hold_back)

    def hold_back(self, server, ask, answer):
        if self.late is not None and ask.symbol == SYMBOLS[1]:
            answer.rows = [row for row in answer.rows if int(row[0]) != self.late]

    def fetch(self):
        end = pd.Timestamp(self.server.now_ms, unit="ms").isoformat()
        words = ["--symbols", ",".join(SYMBOLS), "--start", BEGIN, "--end", end]
        words += ["--base-url", self.server.url, "--out", str(self.folder / "bars")]
        return main(["fetch", "--source", "bybit", *words])

    def run(self, command, *words, **where):
        return run(self.folder, command, *words, **where)

    def predict(self, *words, **where):
        return predicted(self.folder, self.folder, *words, **where)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    made = Desk(tmp_path_factory.mktemp("desk"))
    with made.server:
        assert made.fetch() == 0
        words = ["--lookback", "30", "--horizon", "1", "--epochs", "1", "--n-models", "1"]
        assert made.run("train", *words) == 0
        yield made


def test_cron_loses_nothing_and_forecasts_what_one_pass_does(desk):
    """48 hours; one bar is an hour late, and the machine is off for four hours."""
    live = CrossAttentionForecaster.load(desk.folder / "run")
    written = {}
    for hour in range(48):
        desk.server.now_ms += HOUR
        opened = desk.server.now_ms // HOUR * HOUR - HOUR
        desk.late = opened if hour == LATE_HOUR else None
        if hour in OFF_HOURS:
            continue
        assert desk.fetch() == 0
        last = 2 if hour - 1 not in OFF_HOURS else 1 + len(OFF_HOURS)
        table = desk.predict("--last", last)
        assert len(table) == last
        written |= dict(zip(table.index, table.to_numpy(), strict=True))
        updated = live.update({s: f[-last:] for s, f in read_bars(desk.folder / "bars").items()})
        assert np.allclose(updated, table.iloc[-1], atol=1e-9, rtol=0, equal_nan=True)
        assert np.isnan(updated).sum() == (hour == LATE_HOUR)
    whole = desk.predict()
    assert list(whole.index[-48:]) == sorted(written)[-48:]
    found = np.array([written[time] for time in whole.index[-48:]])
    assert np.allclose(found, whole.iloc[-48:], atol=1e-9, rtol=0) and np.isfinite(found).all()


@pytest.mark.parametrize("change", ["other bars", "many", "parquet", "old", "gone"])
def test_the_last_forecasts_are_those_of_all_bars_whatever_the_folder_holds(desk, change):
    bars, last = read_bars(desk.folder / "bars"), 500 if change == "many" else 5
    folder = desk.folder / change
    if change == "other bars":
        columns = ["open", "high", "low", "close"]
        for frame in bars.values():
            frame[columns] = frame[columns].mul(np.linspace(1, 2, len(frame)), axis=0)
    if change == "old":
        bars = {symbol: frame[:-200] for symbol, frame in bars.items()}
    if change == "gone":  # bars that training has read
        bars[SYMBOLS[1]] = bars[SYMBOLS[1]][:-3]
    write_bars(bars, folder)
    if change == "parquet":
        for symbol, frame in bars.items():
            frame.reset_index().to_parquet(folder / f"{symbol}.parquet")
            (folder / f"{symbol}.csv").unlink()
    table = desk.predict("--last", last, bars=change)
    pd.testing.assert_frame_equal(table, desk.predict(bars=change)[-last:], atol=1e-9, rtol=0)


@pytest.mark.parametrize("command", ["predict", "backtest", "leadlag", "verify"])
def test_other_spacing_and_unfinished_runs_are_refused(desk, command, refused):
    words = ["--out", desk.folder / "x"] if command in ("predict", "backtest") else []
    daily = {s: f.iloc[::24] for s, f in read_bars(desk.folder / "bars").items()}
    daily = {s: f.assign(close_time=f.index + pd.Timedelta("1D")) for s, f in daily.items()}
    write_bars(daily, desk.folder / "daily")
    for more in ([], ["--last", 1] if command == "predict" else []):
        code = desk.run(command, *words, *more, bars="daily")
        refused(code, "AAAUSDT 24 h apart", " 1 h apart")
    if not (desk.folder / "half").exists():
        shutil.copytree(desk.folder / "run", desk.folder / "half")
        (desk.folder / "half" / "bars.json").unlink()
    refused(desk.run(command, *words, name="half"), "--resume")


def test_symbols_of_another_universe_are_named(desk, capsys, refused):
    bars = read_bars(desk.folder / "bars")
    write_bars(bars | {"ZZZ": bars[SYMBOLS[0]]}, desk.folder / "more")
    write_bars(dict(list(bars.items())[:2]), desk.folder / "fewer")
    desk.predict("--last", 1, bars="more")
    assert "left out: ZZZ" in capsys.readouterr().out
    code = desk.run("predict", "--out", desk.folder / "x.csv", bars="fewer")
    refused(code, "lacks the model's symbols CCCUSDT")
