"""IP addresses and ports of servers on this machine."""

from __future__ import annotations

import pytest

from harstream.addresses import first_free_port, is_loopback, own_address, parse_listen, reachable
from harstream.errors import ConfigError

from .servers import free_port, occupied


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0", "0.0.0.0", None),
        ("192.168.1.5:1884", "192.168.1.5", 1884),
        ("::", "::", None),
        ("[::]", "::", None),
        ("[fd00::1]:65535", "fd00::1", 65535),
    ],
)
def test_an_address_to_listen_on_has_a_port_or_none(text, host, port):
    assert parse_listen(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "1883", ":1883", "broker.example", "localhost:1883", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536"),
        *("1.2.3:4:5", "[0.0.0.0", "[::]1883", "mqtt://0.0.0.0", "0.0.0.0:1883:1884", "0.0.0.256"),
    ],
)
def test_anything_else_is_an_error_that_shows_a_right_one(text):
    with pytest.raises(ConfigError, match=r"listen: .* such as 0\.0\.0\.0, 0\.0\.0\.0:1883"):
        parse_listen(text)


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7"), ("127.0.0.9",) * 2]
)
def test_this_machine_reaches_a_server_on_all_addresses_by_the_loopback(host, address):
    assert reachable(host) == address


def test_only_this_machine_reaches_the_loopback():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "0.0.0.0", "::", "10.0.0.7")] == [True] * 2 + [False] * 3


def test_others_reach_a_server_by_its_own_address_or_that_of_the_default_route():
    assert own_address("10.0.0.7") == "10.0.0.7"
    assert own_address("0.0.0.0") == "0.0.0.0" or not is_loopback(own_address("0.0.0.0"))


def test_a_port_is_free_on_one_address_and_occupied_on_another():
    with occupied() as port:
        assert first_free_port([port]) is None
        assert first_free_port([port], "0.0.0.0") is None
        assert first_free_port([port], "127.0.0.2") == port
        free = free_port()
        assert first_free_port([port, free]) == free
