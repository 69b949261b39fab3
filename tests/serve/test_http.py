"""HTTP beside the daemon."""

from __future__ import annotations

import http.client
import socket

import pytest

from harstream.errors import ConfigError
from harstream.serve.http import HttpServer

from ..servers import free_port, http_get


def boom():
    raise ZeroDivisionError


ROUTES = {
    "/": lambda: (200, "text/html", b"<p>hello"),
    "/readyz": lambda: (503, "text/plain", b"not ready\n"),
    "/bug": boom,
}


@pytest.fixture
def server():
    made = HttpServer(("127.0.0.1", 0), ROUTES)
    made.start()
    yield made
    made.close()


def test_fixed_paths_are_answered_and_others_are_not_found(server):
    assert http_get(f"{server.url}/") == (200, "<p>hello")
    assert http_get(f"{server.url}/?x=1") == (200, "<p>hello")
    assert http_get(f"{server.url}/readyz") == (503, "not ready\n")
    assert http_get(f"{server.url}/../etc/passwd")[0] == 404
    assert http_get(f"{server.url}/nothing")[0] == 404


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
def test_an_address_that_is_not_ours_is_a_configuration_error(host):
    with pytest.raises(ConfigError, match="cannot listen on"):
        HttpServer((host, free_port()), ROUTES)


def test_ipv6_works_too_where_there_is_any():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        with pytest.raises(ConfigError, match="cannot listen on"):
            HttpServer(("::1", 0), ROUTES)
        return
    made = HttpServer(("::1", 0), ROUTES)
    made.start()
    assert made.url.startswith("http://[::1]:")
    assert http_get(f"{made.url}/")[0] == 200
    made.close()


def test_a_server_that_was_never_started_can_be_closed():
    made = HttpServer(("127.0.0.1", 0), ROUTES)
    made.close()
    assert http_get(f"{made.url}/") == (0, "")
