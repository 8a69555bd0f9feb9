"""What a large fetch costs: 12 symbols of 5 years of hourly candles, by the command."""

import subprocess
import sys
import time

import pytest
from standin.bybit import BybitStandIn, to_ms

PROGRAM = """
import resource, sys
from crossattn.cli import main
code = main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.slow
def test_twelve_symbols_of_five_years_stay_under_400_mb(tmp_path):
    symbols = [f"S{number}USDT" for number in range(12)]
    listed = (to_ms("2018-01-01"), to_ms("2100-01-01"))
    with BybitStandIn(dict.fromkeys(symbols, listed), to_ms("2024-03-01")) as server:
        words = ["fetch", "--source", "bybit", "--symbols", ",".join(symbols)]
        words += ["--start", "2019-01-01", "--end", "2024-01-01", "--base-url", server.url]
        words += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True
        )
        seconds = time.monotonic() - began
        requests = len(server.asks)
    peak = int(done.stderr.split()[-1])
    print(f"\n12 x 43,825 candles: {requests} requests, {seconds:.0f} s, peak {peak} MB")
    assert done.stdout.count("43825 bars") == 12
    assert requests == 12 * 44
    assert peak < 400
