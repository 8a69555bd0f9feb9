"""A server on loopback of the standard library, silent about clients that hang up."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback:
    """A stand-in that listens while it is entered; its ``respond(handler)`` answers."""

    def __enter__(self):
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.standin = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Stay silent: a client that hangs up is what half of the faults are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for the receipt of its headers

    def do_GET(self):
        with contextlib.suppress(OSError):
            self.server.standin.respond(self)

    def log_message(self, *_):
        """Log nothing."""


def send_plain(handler, status: int, body: bytes, **headers: str) -> None:
    """Send status, headers and the whole body."""
    handler.send_response(status)
    usual = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))}
    for name, value in (usual | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
