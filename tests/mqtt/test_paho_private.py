"""The private names of paho that the client relies on: listed completely, and present in the installed paho."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from harstream.mqtt import client as client_module
from harstream.mqtt import paho_private
from harstream.mqtt.client import FastClient
from harstream.mqtt.network import NetworkClient
from harstream.mqtt.transport import Transport

PACKAGE = Path(client_module.__file__).parent
#: The modules that may use private names of paho.
OWN = ("client.py", "network.py", "transport.py")
HINT = "paho has changed: adapt mqtt/client.py and mqtt/paho_private.py to the new release"


def plain_client() -> paho.Client:
    return paho.Client(CallbackAPIVersion.VERSION2)


def private_names_of_paho() -> set[str]:
    owners = (plain_client(), paho.MQTTMessage(), paho.MQTTMessageInfo(1))
    return {name for owner in owners for name in dir(owner) if name.startswith("_") and not name.startswith("__")}


def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("name", paho_private.METHODS)
def test_a_private_method_has_the_parameters_that_are_expected(name: str):
    method = getattr(paho.Client, name, None)
    assert inspect.isfunction(method), HINT
    assert tuple(inspect.signature(method).parameters)[1:] == paho_private.METHODS[name][0], HINT


@pytest.mark.parametrize("name", paho_private.ATTRIBUTES)
def test_a_private_attribute_has_the_type_that_is_expected(name: str):
    client = plain_client()
    assert name in vars(client), HINT
    assert isinstance(getattr(client, name), paho_private.ATTRIBUTES[name][0]), HINT


def test_queued_packets_and_messages_have_the_fields_that_are_expected():
    client = plain_client()
    client.on_socket_register_write = lambda *_: None  # the packet stays in the queue
    paho.Client._packet_queue(client, 0x30, b"packet", 7, 0, None)
    [packet] = client._out_packet
    assert tuple(packet) == paho_private.PACKET_KEYS, HINT
    assert {"command", "remaining_length", "packet"} <= set(client._in_packet), HINT
    for owner, name in paho_private.MESSAGE_NAMES.items():
        assert hasattr(getattr(paho, owner), name), HINT


def test_every_private_name_of_paho_is_listed_and_every_listed_one_is_used():
    nodes = [node for name in OWN for node in nodes_of(PACKAGE / name)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    listed = {*paho_private.METHODS, *paho_private.ATTRIBUTES, *paho_private.MESSAGE_NAMES.values()}
    assert used & private_names_of_paho() == listed


def test_an_overridden_method_is_listed_as_such():
    own = {**vars(Transport), **vars(NetworkClient), **vars(FastClient)}
    overridden = {name for name in own if name in vars(paho.Client) and not name.startswith("__")}
    listed = {name for name, (_, purpose) in paho_private.METHODS.items() if purpose.startswith("overridden")}
    assert overridden == {*listed, "reconnect", "disconnect", "loop_misc", "loop_stop"}


def test_no_other_module_touches_private_names_of_paho():
    for path in PACKAGE.parent.rglob("*.py"):
        if path in [PACKAGE / name for name in OWN] or "paho" not in path.read_text(encoding="utf-8"):
            continue
        touched = {
            ast.unparse(node)
            for node in nodes_of(path)
            if isinstance(node, ast.Attribute) and node.attr in private_names_of_paho()
        }
        assert {name for name in touched if not name.startswith("self.")} == set(), path
