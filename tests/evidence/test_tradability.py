"""Named leads: what they would earn, and which of them are only a matter of clocks."""

import numpy as np
import pandas as pd
import pytest

from crossattn import analyze_lead_lag_relationships, prepare_cross_attention_data, simulate_market
from crossattn.baselines.linear import VAR
from crossattn.cli import main
from crossattn.data.files import write_bars
from crossattn.report import leaders_section

N_BARS, SYMBOLS = 6000, list("ABCD")


def bars(moves, gaps=0.0, volume=1.0):
    """Frames of log returns (T, N) of which ``gaps`` happen between a close and the next open."""
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    opens = np.vstack([closes[:1], closes[:-1]]) * np.exp(gaps)
    times = pd.date_range("2022-01-03", periods=len(moves), freq="h", tz="UTC", name="time")
    fields = {"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes)}
    fields |= {"close": closes, "volume": np.broadcast_to(volume, closes.shape)}
    return {
        symbol: pd.DataFrame({name: values[:, k] for name, values in fields.items()}, times)
        for k, symbol in enumerate(SYMBOLS)
    }


def correlated(seed):
    rng = np.random.default_rng(seed)
    return 0.006 * (rng.normal(size=(N_BARS, 1)) + rng.normal(size=(N_BARS, 4)))


def true_lead(seed):
    """B follows A by a bar; opens differ from the last close by a little noise."""
    moves = correlated(seed)
    moves[1:, 1] += 0.2 * moves[:-1, 0]
    return bars(moves, 1e-4 * np.random.default_rng(seed).normal(size=moves.shape))


def padded_closures(seed):
    """B's market is closed in half of the hours, and its bars are padded with the last close."""
    moves = correlated(seed)
    closed = np.arange(N_BARS) % 6 >= 3
    waiting, volume = 0.0, np.ones((N_BARS, 4))
    for row in np.flatnonzero(closed | np.roll(closed, 1)):
        if closed[row]:
            waiting += moves[row, 1]
            moves[row, 1], volume[row, 1] = 0.0, 0.0
        else:
            moves[row, 1], waiting = moves[row, 1] + waiting, 0.0
    return bars(moves, volume=volume)


def early_closes(seed):
    """B closes when two thirds of the bar are over, and opens where the others have gone since."""
    moves, after = correlated(seed), 0.7 * correlated(seed + 1)
    both = moves + after
    both[:, 1] = moves[:, 1]
    both[1:, 1] += after[:-1, 1]
    gaps = np.zeros_like(both)
    gaps[1:, 1] = after[:-1, 1]
    return bars(both, gaps)


def stamped_late(seed):
    """B's bars are stamped by their close: each is known an hour late."""
    moves = correlated(seed)
    moves[:, 1] = np.roll(moves[:, 1], 1)
    return bars(moves)


def lead_of(frames, horizon=1):
    data = prepare_cross_attention_data(frames, 9, horizon, features=["log_return"])
    train, val, test = data.split(0.5, 0.1)
    model = VAR(penalty="lasso", volatility_weights=True).fit(train, val)
    return analyze_lead_lag_relationships(model, test)


@pytest.mark.parametrize(
    "make, share, note",
    [
        (true_lead, 1.0, ""),
        (padded_closures, 0.5, "the follower traded in"),
        (early_closes, 1.0, "gone at the follower's next open"),
        (stamped_late, 1.0, "B's bars look stamped one bar late"),
    ],
)
@pytest.mark.parametrize("seed", [1, 11, 21])
def test_tells_a_lead_from_a_clock(make, share, note, seed):
    report = lead_of(make(seed))
    edge = report.edges.set_index(["leader", "follower"]).loc["A", "B"]
    assert edge["significant"]
    assert edge["tradable"] == (make is true_lead), edge["note"]
    assert edge["note"].startswith("a clock, not a lead: " + note if note else "")
    assert ("a clock, not a lead" in str(report)) == (make is not true_lead)
    assert edge["tradable_share"] == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("seed", [31, 41, 51])
def test_tells_stale_quotes_by_their_pattern_where_bars_show_nothing(seed):
    stale = simulate_market("asynchronous", n_steps=N_BARS, seed=seed, predictability=0.06)
    found = lead_of(stale.frames).edges.query("significant")
    assert len(found) and (~found["tradable"]).mean() >= 0.75
    planted = simulate_market("static", n_steps=N_BARS, seed=seed, max_lag=1)
    found = lead_of(planted.frames).edges.query("significant")
    assert len(found) > 5 and found["tradable"].all()


@pytest.mark.parametrize("horizon", [4, "6h"])
@pytest.mark.parametrize("seed", [5, 6])
def test_missing_bars_do_not_make_a_lead_a_clock(horizon, seed, rng):
    """Opens equal the close before, so that the ordinary step to an open is 0; across a gap not."""
    market = simulate_market("static", n_assets=4, n_steps=3000, seed=seed, predictability=0.1)
    bars = {symbol: some[rng.random(3000) > 0.05] for symbol, some in market.frames.items()}
    found = lead_of(bars, horizon).details.query("significant")
    assert len(found) >= 2 and not found["note"].str.startswith("a clock").any()
    assert found["slope_tradable"].notna().mean() > 0.7


def test_what_cannot_be_tested_at_tradable_prices_is_no_clock():
    frames = true_lead(1)
    frames["B"].iloc[: -9 * 24, 4] = 0.0  # volume on nine days only
    report = lead_of(frames)
    edge = report.details.set_index(["leader", "follower"]).loc["A", "B"]
    assert edge["significant"] and not edge["tradable"] and np.isnan(edge["p_tradable"])
    assert edge["note"] == "not testable at tradable prices"
    assert "a clock" not in str(report) + leaders_section(report.edges).text
    frames["B"]["volume"] = 0.0
    frames["B"].iloc[0, 4] = 1.0  # and never in the test part
    report = lead_of(frames)
    assert "(1 a clock, not a lead)" in str(report) and "traded in 0% of" in report.edges["note"][0]


def test_the_command_and_the_report_say_it(tmp_path, capsys):
    write_bars(stamped_late(1), tmp_path / "bars")
    words = ["--data", str(tmp_path / "bars"), "--run", str(tmp_path / "run")]
    short = ["--lookback", "12", "--horizon", "1", "--epochs", "1", "--n-models", "1"]
    assert main(["train", *words, *short]) == 0
    capsys.readouterr()
    assert main(["leadlag", *words]) == 0
    said = capsys.readouterr().out
    assert "A leads B" in said and " bp a move" in said and "a clock, not a lead: B's bars" in said
    assert main(["report", *words[2:], "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "cannot be traded: a clock, not a lead." in page and "stamped one bar late" in page
