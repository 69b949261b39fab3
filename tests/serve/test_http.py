"""HTTP server, and the answers of a daemon."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harstream.errors import ConfigError
from harstream.serve import daemon as serving
from harstream.serve.daemon import Daemon
from harstream.serve.http import HttpServer, daemon_routes

from ..live_streams import messages
from ..servers import Mosquitto, http_get, metric, wait_until
from .daemons import make_config, receive_all, running


@contextmanager
def serving_http(daemon: Daemon) -> Iterator[str]:
    """Start a server with the daemon's routes, and yield its address."""
    server = HttpServer(("127.0.0.1", 0), daemon_routes(daemon.status, daemon.metrics.expose, daemon.read_devices))
    server.start()
    try:
        yield server.url
    finally:
        server.close()


def boom(_):
    raise ZeroDivisionError


ROUTES = {
    "/": lambda _: (200, "text/html", b"<p>hello"),
    "/readyz": lambda _: (503, "text/plain", b"not ready\n"),
    "/bug": boom,
    "/of/{name}": lambda request: (200, "text/plain", f"{request.name} {sorted(request.query.items())}".encode()),
}


@pytest.fixture
def server():
    server = HttpServer(("127.0.0.1", 0), ROUTES)
    server.start()
    yield server
    server.close()


def test_fixed_paths_are_answered_and_others_are_not_found(server):
    assert http_get(f"{server.url}/") == (200, "<p>hello")
    assert http_get(f"{server.url}/?x=1") == (200, "<p>hello")
    assert http_get(f"{server.url}/readyz") == (503, "not ready\n")
    assert http_get(f"{server.url}/../etc/passwd")[0] == 404
    assert http_get(f"{server.url}/nothing")[0] == 404


def test_the_last_level_of_a_path_may_be_any_text_and_is_decoded_with_its_query(server):
    assert http_get(f"{server.url}/of/a%20%C3%A4%2Fb?x=1&y=%E2%82%AC&x=2&z") == (
        200,
        "a ä/b [('x', '2'), ('y', '€'), ('z', '')]",
    )
    assert http_get(f"{server.url}/of/a%FF")[0] == 200
    assert http_get(f"{server.url}/of/")[0] == 404
    assert http_get(f"{server.url}/of/a/b")[0] == 404
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        client.sendall("GET /of/ä HTTP/1.0\r\n\r\n".encode())  # as curl sends it
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert answer.endswith("\r\n\r\nä []".encode())


def test_a_bug_behind_a_path_is_a_500_and_logged_and_the_next_request_is_answered(server, caplog):
    assert http_get(f"{server.url}/bug") == (500, "internal error\n")
    assert "ZeroDivisionError" in caplog.text
    assert http_get(f"{server.url}/")[0] == 200


def test_a_connection_can_be_kept_and_is_never_cached(server):
    client = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]))
    for _ in range(2):
        client.request("GET", "/")
        answer = client.getresponse()
        assert (answer.status, answer.headers["Content-Type"], answer.headers["Cache-Control"]) == (
            200,
            "text/html",
            "no-store",
        )
        assert answer.read() == b"<p>hello"
    client.request("POST", "/", b"x")
    assert client.getresponse().status == 501
    client.close()


def test_a_port_in_use_is_a_configuration_error_naming_it(server):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
        HttpServer(("127.0.0.1", port), ROUTES)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1", "a..b", "x" * 70])
def test_an_address_of_another_host_is_a_configuration_error(host):
    with pytest.raises(ConfigError, match="cannot listen on"):
        HttpServer((host, 0), ROUTES)


def test_ipv6_works_too_where_there_is_any():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        with pytest.raises(ConfigError, match="cannot listen on"):
            HttpServer(("::1", 0), ROUTES)
        return
    server = HttpServer(("::1", 0), ROUTES)
    server.start()
    assert server.url.startswith("http://[::1]:")
    assert http_get(f"{server.url}/")[0] == 200
    server.close()


def test_a_server_that_was_never_started_can_be_closed():
    server = HttpServer(("127.0.0.1", 0), ROUTES)
    server.close()
    assert http_get(f"{server.url}/") == (0, "")


# --- a daemon's routes --------------------------------------------------------------------------------


def test_readiness_follows_subscription_inbox_and_broker(tmp_path, classifier):
    broker = Mosquitto(tmp_path)
    daemon = Daemon(make_config(broker.port), classifier)
    with serving_http(daemon) as url:
        assert http_get(f"{url}/readyz")[0] == 503
        assert http_get(f"{url}/healthz") == (200, "ok\n")
        with broker, running(daemon):
            assert http_get(f"{url}/readyz") == (200, "ok\n")
            full, daemon.inbox.max_bytes = daemon.inbox.max_bytes, 0
            assert http_get(f"{url}/readyz") == (503, "not ready\n")
            daemon.inbox.max_bytes = full
            broker.stop()
            wait_until(lambda: http_get(f"{url}/readyz")[0] == 503, "not ready")
            assert http_get(f"{url}/healthz")[0] == 200
            broker.start()
            wait_until(lambda: http_get(f"{url}/readyz")[0] == 200, "ready again")
        assert http_get(f"{url}/readyz")[0] == 503


def test_a_daemon_is_healthy_while_its_loop_moves_and_while_it_waits_for_a_broker(classifier, monkeypatch):
    daemon = Daemon(make_config(), classifier)
    monkeypatch.setattr(serving, "HEARTBEAT_S", 0.0)
    assert daemon.status().alive  # there is no loop yet
    daemon.step(0)
    with serving_http(daemon) as url:
        wait_until(lambda: http_get(f"{url}/healthz")[0] == 503, "the heartbeat to be missed")
        monkeypatch.setattr(serving, "HEARTBEAT_S", 3600.0)
        assert http_get(f"{url}/healthz") == (200, "ok\n")


def test_metrics_are_answered(classifier, subjects):
    daemon = Daemon(make_config(), classifier)
    receive_all(daemon, messages(subjects))
    daemon.step(0)
    with serving_http(daemon) as url:
        status, text = http_get(f"{url}/metrics")
        assert status == 200
        assert metric(text, "harstream_messages_received_total") == sum(1 for _ in messages(subjects))
        assert "subject" not in text  # no name of a device
        assert http_get(f"{url}/")[0] == 404  # the live page has routes of its own
