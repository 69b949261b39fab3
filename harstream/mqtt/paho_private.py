"""List of the private names of paho that ``client``, ``network`` and ``transport`` rely on, each with its purpose.

A new minor release of paho may change any of them, so pyproject.toml admits only releases that have been checked.
tests/mqtt/test_paho_private.py compares these lists with the installed paho and with the code of these modules. To
admit a new release, install it and run tests/mqtt.
"""

from __future__ import annotations

from paho.mqtt.enums import _ConnectionState as ConnectionState

#: Private methods of paho.Client: (parameters, purpose).
METHODS: dict[str, tuple[tuple[str, ...], str]] = {
    "_thread_main": ((), "overridden: survives every error, waits as it is told"),
    "_do_on_disconnect": (
        ("packet_from_broker", "v1_rc", "reason", "properties"),
        "overridden: reports the end of a connection once",
    ),
    "_loop": (("timeout",), "overridden: pauses between small reads"),
    "_packet_read": ((), "overridden: reads and parses many packets"),
    "_packet_write": ((), "overridden: writes many packets"),
    "_packet_queue": (("command", "packet", "mid", "qos", "info"), "overridden: wakes the thread only if needed"),
    "_create_socket": ((), "overridden: opens a WebSocket"),
    "_send_pingreq": ((), "called: asks for a sign of life"),
    "_sock_recv": (("bufsize",), "called: reads from the socket"),
    "_sock_send": (("buf",), "overridden: reads the last words of a broker that has closed the connection"),
    "_sock_close": ((), "called: closes the socket"),
    "_ssl_wrap_socket": (("tcp_sock",), "overridden: closes the socket if the TLS handshake fails"),
    "_update_inflight": ((), "overridden: sends waiting messages without walking through all"),
    "_messages_reconnect_reset_out": ((), "overridden: lets every message wait for the new connection"),
    "_packet_handle": ((), "called: handles every packet that is not parsed here"),
    "_loop_rc_handle": (("rc",), "called: closes a connection as after a loss"),
    "_mid_generate": ((), "called: next packet identifier"),
}
#: Private attributes of paho.Client: (type in a new client, purpose).
ATTRIBUTES: dict[str, tuple[type, str]] = {
    "_host": (str, "written: address of the next connection"),
    "_port": (int, "written: address of the next connection"),
    "_connect_timeout": (float, "read: limit of the TLS handshake, seconds"),
    "_ssl_context": (type(None), "read and written: TLS files of the next connection"),
    "_sock": (type(None), "read: socket of the connection, None without one"),
    "_sockpairR": (type(None), "read: wakes the network thread"),
    "_sockpairW": (type(None), "read: wakes the network thread"),
    "_thread": (type(None), "read and written: network thread, None before loop_start() and after its end"),
    "_thread_terminate": (bool, "read and written: whether the network thread has to end"),
    "_state": (ConnectionState, "read and written: whether the connection is complete, lost or left"),
    "_keepalive": (int, "read: what the broker asks for"),
    "_client_id": (bytes, "written: client identifier of the next connection"),
    "_in_packet": (dict, "read and written: packet given to _packet_handle()"),
    "_out_packet": (object, "read and written: deque of packets to be written"),
    "_out_messages": (dict, "read and written: messages at QoS 1 not yet acknowledged, by identifier"),
    "_out_message_mutex": (object, "locked: guards _out_messages and _inflight_messages"),
    "_inflight_messages": (int, "read and written: messages sent and not yet acknowledged"),
    "_max_inflight_messages": (int, "read and written: limit of _inflight_messages"),
}
#: Keys of the packets in _out_packet. _in_packet has "command", "remaining_length" and "packet" too.
PACKET_KEYS = ("command", "mid", "qos", "pos", "to_process", "packet", "info")
#: Private names of the messages that paho keeps in _out_messages, by class: read and replaced by own subclasses.
MESSAGE_NAMES = {"MQTTMessage": "_topic", "MQTTMessageInfo": "_set_as_published"}
