"""Every fault of the catalogue against the loader: the true candles, a refusal, or a named gap."""

import ssl
import threading
import time
import tracemalloc
from dataclasses import replace

import pytest
import requests
import trustme
from standin import scene
from standin.bybit import BybitStandIn
from standin.faults import FAULTS, REFUSED

from crossattn.errors import VenueError
from crossattn.sources import _downloads
from crossattn.sources.bybit import BybitDataLoader

CASES = [
    pytest.param(fault, form, outcome, id=f"{fault.kind}: {fault.name} ({form})")
    for fault in FAULTS
    for form, outcome in (("once", fault.once), ("always", fault.always))
    if outcome is not None
]


def make_loader(server, *, brisk=False, timeout=None, **options):
    limits = scene.BRISK if brisk else scene.PATIENT
    return scene.make_loader(server, limits, timeout=timeout or scene.TIMEOUT[brisk], **options)


def fetch(loader):
    """Return the frame of the scene and what was warned of."""
    return scene.fetch_with_gaps(loader, scene.SYMBOL, start=scene.START, end=scene.END)


def test_the_catalogue_is_large_and_without_doubles():
    names = [(fault.kind, fault.name) for fault in FAULTS]
    assert len(names) == len(set(names)) >= 160
    assert len({kind for kind, _ in names}) >= 12


@pytest.mark.parametrize(("fault", "form", "expected"), CASES)
def test_fault(fault, form, expected, tmp_path):
    with scene.make_server(fault, form) as server:
        # one refusal ends a fetch at once; a timeout before it would be answered by a healthy venue
        speed = {"timeout": 6} if (form, expected) == ("once", REFUSED) else {}
        brisk = expected == REFUSED and not speed
        loader = make_loader(server, brisk=brisk, **speed, cache_dir=tmp_path)
        began = time.monotonic()
        if expected == REFUSED:
            with pytest.raises(VenueError) as refusal:
                fetch(loader)
            message = str(refusal.value)
            assert message.isprintable() and len(message) < 400
            assert time.monotonic() - began < 10
        else:
            frame, told = fetch(loader)
            lines = [text for text in told if text.startswith("missing:")]
            scene.check_frame(frame, server, lines, expected)
        assert set(server.paths) == {"/v5/market/kline"}
        server.act = None
        # whatever the fault left in the cache is true: a healthy venue completes it exactly
        frame, told = fetch(make_loader(server, cache_dir=tmp_path))
        assert not told
        scene.check_frame(frame, server)


def test_a_bomb_is_not_unfolded_to_find_out_that_it_is_one():
    with scene.make_server(scene.fault_named("a gzip bomb of 64 MB")) as server:
        loader = scene.make_loader(server, replace(scene.BRISK, give_up_s=20.0), timeout=5.0)
        with pytest.raises(VenueError, match="larger than"):
            fetch(loader)
        tracemalloc.start()
        try:
            with pytest.raises(VenueError, match="larger than"):
                fetch(loader)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 16 * 2**20


def test_a_symbol_takes_one_thread_whatever_it_asks_and_leaves_none():
    def ours():
        return {t.ident for t in threading.enumerate() if t.name == "fetch-symbol"}

    seen = set()
    with scene.make_server() as server:

        def act(server, ask, answer):
            seen.update(ours())
            if ask.number % 2:
                answer.status = 500

        server.act = act
        fetch(make_loader(server))
        assert len(server.asks) >= 4 and len(seen) == 1
        deadline = time.monotonic() + 5
        while ours() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not ours()


def test_a_host_name_that_does_not_resolve_is_given_up_too(monkeypatch):
    """Name resolution obeys no timeout: the symbol is given up, its thread abandoned."""
    released = threading.Event()
    monkeypatch.setattr(_downloads, "_GRACE_S", 0.3)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: released.wait(20))
    limits = replace(scene.BRISK, give_up_s=0.2, workers=1)
    loader = BybitDataLoader(base_url="http://venue.invalid", _limits=limits)
    fetched = loader.fetch(["A", "B"], start=scene.START, end=scene.END)
    assert set(fetched.failures) == {"A", "B"}
    assert "gave up after 0.2 s" in str(fetched.failures["B"])
    released.set()


def test_the_time_of_a_symbol_starts_with_its_turn():
    with BybitStandIn(dict.fromkeys("ABCDE", scene.FOREVER), scene.NOW_MS) as server:
        server.delay_s = 0.5
        limits = replace(scene.PATIENT, give_up_s=2.2, workers=1)
        loader = scene.make_loader(server, limits)
        assert len(loader.fetch_multi_asset(list("ABCDE"), limit=5)) == 5


@pytest.mark.parametrize(
    "name",
    ["a chunked body, well formed", "headers that drip a byte at a time", "no answer at all"],
)
def test_an_encrypted_answer_is_bounded_in_time_too(name, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    fault = scene.fault_named(name)
    session = requests.Session()
    session.trust_env, session.verify = False, str(tmp_path / "authority.pem")
    with scene.make_server(fault, "once") as server:
        server.encrypt(context)
        frame, told = fetch(scene.make_loader(server, timeout=1.0, session=session))
        assert not told
        scene.check_frame(frame, server)
        assert len(server.asks) == 2 + (fault.always == REFUSED)
