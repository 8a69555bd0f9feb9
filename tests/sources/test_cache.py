"""The cache: any damage is noticed, any crash survived, several writers at once lose nothing."""

import hashlib
import io
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from standin import processes, scene
from standin.bybit import BybitStandIn, to_ms
from standin.damage import corruptions

from crossattn.data.files import read_bars
from crossattn.errors import CrossAttentionWarning, DamagedFileError, InvalidInputError
from crossattn.sources._cache import BarCache

PLACE = ("venue", "linear", "60", "BTCUSDT")


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return a.equals(b) and list(a.columns) == list(b.columns) and a.attrs == b.attrs


def table(ms, attrs=None, **columns) -> pd.DataFrame:
    times = pd.DatetimeIndex(np.asarray(ms).astype("M8[ms]"), tz="UTC", name="time")
    frame = pd.DataFrame(columns, index=times)
    frame.attrs = attrs or {}
    return frame


@pytest.fixture
def cache(tmp_path):
    return BarCache(tmp_path / "cache")


def load(server, cache_dir, **options):
    loader = scene.make_loader(server, cache_dir=cache_dir)
    return loader.fetch_klines(scene.SYMBOL, **{"start": scene.START, "end": scene.END, **options})


# What is written reads back


def test_a_table_reads_back_to_the_last_bit(cache):
    rng = np.random.default_rng(1)
    keys = np.cumsum(rng.integers(1, 5, 500))
    values = rng.lognormal(0, 50, 500)
    values[7] = np.nan
    when = pd.DatetimeIndex((keys * 3_600_000).astype("M8[ms]"), tz="UTC")
    written = table(keys, {"absent": [[3, 9]]}, value=values, when=when)
    path = cache.path(*PLACE)
    assert cache.read(path) is None
    cache.write(path, written, merge=True)
    assert same(cache.read(path), written)
    # any Parquet reader can look into it
    plain = pd.read_parquet(path)
    assert np.array_equal(plain["value"], values, equal_nan=True)
    assert plain["time"].iloc[0] == pd.Timestamp(int(keys[0]), unit="ms", tz="UTC")


def test_merging_adds_and_the_newer_rows_and_attrs_count(cache):
    path = cache.path(*PLACE)
    cache.write(path, table([1, 3], {"absent": [[2, 2]]}, value=[1.0, 3.0]), merge=True)
    cache.write(path, table([2, 3], value=[2.0, 30.0]), merge=True)
    assert same(cache.read(path), table([1, 2, 3], value=[1.0, 2.0, 30.0]))
    cache.write(path, table([9], value=[9.0]), merge=False)
    assert same(cache.read(path), table([9], value=[9.0]))


def test_no_symbol_leaves_the_folder_or_collides(cache):
    names = ["BTC", "btc", "Btc", "../BTC", "/etc/passwd", "..", ".", "a/b"]
    names += ["a%2Fb", "CON", "Ω", "*"]
    paths = [cache.path("venue", "linear", "60", name) for name in names]
    assert len({str(path).lower() for path in paths}) == len(names)
    parent = cache.directory.resolve() / paths[0].parent.relative_to(cache.directory)
    for path in paths:
        assert path.parent == parent
        cache.write(path, processes.table_of(np.arange(3)), merge=True)
    assert len(list(paths[0].parent.glob("*.parquet"))) == len(names)


def test_intervals_categories_and_venues_do_not_share_a_file(cache):
    places = [PLACE, ("other", *PLACE[1:]), ("venue", "spot", *PLACE[2:])]
    places.append(("venue", "linear", "M", "BTCUSDT"))
    assert len({cache.path(*place) for place in places}) == 4


# A second fetch


def test_a_second_fetch_asks_for_nothing_and_a_longer_one_for_the_rest(server, tmp_path):
    first = load(server, tmp_path, end="2024-02-20")
    asked = len(server.asks)
    assert load(server, tmp_path, end="2024-02-20").equals(first)
    assert len(server.asks) == asked
    longer = load(server, tmp_path, start="2024-01-05", end="2024-02-22")
    new = server.asks[asked:]
    assert len(new) == 1 or all(ask.end - ask.start < 1000 * 3_600_000 for ask in new)
    truth = scene.true_rows(server, start="2024-01-05", end="2024-02-22")
    np.testing.assert_array_equal(scene.frame_rows(longer), truth)
    assert len(new) <= 2


def test_the_open_candle_is_fetched_when_it_has_closed(server, tmp_path):
    assert load(server, tmp_path).index[-1] == pd.Timestamp("2024-03-01T09:00Z")
    server.now_ms += 3_600_000
    asked = len(server.asks)
    scene.check_frame(load(server, tmp_path), server)
    assert len(server.asks) - asked <= 1


def test_a_gap_is_asked_for_again_by_the_next_fetch(server, tmp_path):
    server.holes = {to_ms("2024-02-01T05:00")}
    with pytest.warns(CrossAttentionWarning, match="^missing: AAAUSDT 2024-02-01T05:00:00Z"):
        load(server, tmp_path)
    server.holes = set()
    asked = len(server.asks)
    scene.check_frame(load(server, tmp_path), server)
    assert len(server.asks) == asked + 1


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "127.0.0.1").write_text("in the way")
    with pytest.raises(InvalidInputError, match="cache_dir"):
        load(server, tmp_path)


# Damage


def test_none_of_400_corruptions_is_silent(cache):
    path = cache.path(*PLACE)
    rng = np.random.default_rng(2)
    written = table(np.arange(1000, 2234), {"absent": []}, value=rng.normal(size=1234))
    cache.write(path, written, merge=True)
    data = path.read_bytes()
    tried = 0
    for name, damaged in corruptions(data, 420):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            pytest.fail(f"{name}: read {cache.read(path)}")
        tried += 1
    assert tried >= 400
    path.write_bytes(data)
    assert same(cache.read(path), written)


def test_every_bit_of_the_footer_counts(cache):
    path = cache.path(*PLACE)
    cache.write(path, processes.table_of(np.arange(4)), merge=True)
    data = path.read_bytes()
    for bit in range(8 * (len(data) - 700), 8 * len(data), 7):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            cache.read(path)


def sealed(arrow: pa.Table, place: str, store_schema: bool = False) -> bytes:
    """Return a foreign Parquet file that is sealed as this cache seals its files."""
    sink = io.BytesIO()
    mark = b"crossattn-sha256-"
    notes = json.dumps({"place": place, "attrs": {}})
    with pq.ParquetWriter(sink, arrow.schema, store_schema=store_schema) as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata({"crossattn": notes, "digest": mark.decode() + "0" * 64})
    data = bytearray(sink.getvalue())
    at = data.rfind(mark) + len(mark)
    data[at : at + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def test_foreign_files_are_no_data(cache, tmp_path):
    path = cache.path(*PLACE)
    place = path.relative_to(cache.directory).as_posix()
    cache.write(path, processes.table_of(np.arange(9)), merge=True)
    other = path.with_name("ETHUSDT.parquet")
    shutil.copy(path, other)
    times = pa.array([1, 2], pa.timestamp("ms", tz="UTC"))
    plain = pa.table({"time": times, "value": [1.0, 2.0]})

    def with_column(name, cells):
        return plain.set_column(plain.schema.get_field_index(name), name, [cells])

    foreign = {
        "empty": b"",
        "text": b"time,open,high,low,close,volume\n",
        "plain Parquet": plain.to_pandas().to_parquet(),
        "an Arrow schema inside": sealed(plain, place, store_schema=True),
        "another place": sealed(plain, "venue/x"),
    }
    tables = {
        "keys that fall": plain[::-1],
        "keys that are numbers": with_column("time", [1.0, 2.0]),
        "texts for numbers": with_column("value", ["1", "2"]),
        "missing values": with_column("time", pa.array([1, None], times.type)),
        "keys of another unit": with_column("time", times.cast(pa.timestamp("us", tz="UTC"))),
        "no keys": plain.drop_columns("time"),
    }
    foreign |= {name: sealed(table, place) for name, table in tables.items()}
    with pytest.raises(DamagedFileError, match="was written for"):
        cache.read(other)
    for name, data in foreign.items():
        path.write_bytes(data)
        with pytest.raises(DamagedFileError):
            pytest.fail(f"{name}: read {cache.read(path)}")
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedFileError, match="folder"):
        cache.read(path)


def test_a_damaged_file_is_fetched_anew_and_said_so(server, tmp_path):
    load(server, tmp_path)
    (path,) = tmp_path.rglob("*.parquet")
    data = path.read_bytes()
    for name, damaged in corruptions(data, 16):
        path.write_bytes(damaged)
        asked = len(server.asks)
        with pytest.warns(CrossAttentionWarning, match="fetched anew"):
            frame = load(server, tmp_path)
        scene.check_frame(frame, server)
        assert len(server.asks) >= asked + 2, name
        scene.check_frame(load(server, tmp_path), server)


# Several writers, and crashes


def test_four_writers_of_thirty_rounds_lose_nothing(cache):
    context = processes.context()
    barrier = context.Barrier(4)
    works = [(str(cache.directory), number, 30, barrier) for number in range(4)]
    writers = [context.Process(target=processes.write_rounds, args=work) for work in works]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    for number in range(30):
        merged = cache.read(cache.path("venue", "linear", "60", f"S{number}"))
        assert same(merged, processes.table_of(np.arange(1200)))
    assert not list(cache.directory.rglob("*.part"))


def test_threads_of_one_process_lose_nothing(cache):
    path = cache.path(*PLACE)
    parts = np.array_split(np.random.default_rng(0).permutation(800), 8)

    def write(part):
        for piece in np.array_split(part, 4):
            cache.write(path, processes.table_of(np.sort(piece)), merge=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, parts))
    assert same(cache.read(path), processes.table_of(np.arange(800)))


def test_25_kills_at_random_moments_cost_at_most_half_of_the_requests(tmp_path):
    symbols = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "NEWUSDT")
    listings = dict.fromkeys(symbols, scene.FOREVER)
    listings["NEWUSDT"] = (to_ms("2023-10-01"), scene.FOREVER[1])
    words = ["--source", "bybit", "--symbols", ",".join(symbols), "--start", "2023-08-01"]
    words += ["--end", "2024-02-01"]
    context, rng = processes.context(), np.random.default_rng(5)
    with BybitStandIn(listings, scene.NOW_MS) as server:
        server.delay_s = 0.004

        def start(name):
            folders = ["--cache", str(tmp_path / name), "--out", str(tmp_path / "out")]
            more = [*words, "--base-url", server.url, *folders]
            child = context.Process(target=processes.fetch, args=(more,))
            child.start()
            return child

        def finish(name):
            child = start(name)
            child.join(60)
            assert child.exitcode == 0

        finish("whole")
        whole = len(server.asks)
        assert whole >= 16
        for number, last in enumerate(rng.integers(1, whole, 25)):
            shutil.rmtree(tmp_path / "out")
            server.asks.clear()
            child = start(str(number))
            deadline = time.monotonic() + 60
            while len(server.asks) < last and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child.pid, signal.SIGKILL)
            child.join(60)
            finish(str(number))
            assert len(server.asks) <= 1.5 * whole, f"killed after {last} of {whole} requests"
            for symbol, frame in read_bars(tmp_path / "out").items():
                truth = scene.true_rows(server, symbol, start="2023-08-01", end="2024-02-01")
                assert np.array_equal(scene.frame_rows(frame)[:, :7], truth[:, :7])
            assert not list((tmp_path / str(number)).rglob("*.part"))
