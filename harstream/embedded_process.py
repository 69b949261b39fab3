"""Process of the embedded broker: HOST PORT WEBSOCKET_PORT, the last one 0 for none.

It is started by its path, and imports nothing of harstream. It ends when its standard input does, so when the process
that started it has ended.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading

#: Longest packet, bytes, so that the daemon and not the broker decides which message is too large.
_MAX_PACKET = 1 << 20
#: Messages that are kept for a subscriber that is behind: up to this number of segments of so many bytes, for each
#: topic filter. It then loses the oldest ones.
_SEGMENT_BYTES, _SEGMENTS = 10 << 20, 4
_MAX_CONNECTIONS = 10_000


def config_text(host: str, port: int, websocket_port: int) -> str:
    """Return the settings of rumqttd as TOML."""
    lines = [
        "id = 0",
        "[router]",
        "id = 0",
        f"max_connections = {_MAX_CONNECTIONS}",
        "max_outgoing_packet_count = 200",
        f"max_segment_size = {_SEGMENT_BYTES}",
        f"max_segment_count = {_SEGMENTS}",
    ]
    for kind, number in (("v4", port), ("ws", websocket_port)):
        if number:
            lines += [
                f"[{kind}.1]",
                f'name = "{kind}"',
                f'listen = "{host}:{number}"',
                "next_connection_delay_ms = 1",
                f"[{kind}.1.connections]",
                "connection_timeout_ms = 60000",
                f"max_payload_size = {_MAX_PACKET}",
                "max_inflight_count = 100",
                "dynamic_filters = true",
            ]
    return "\n".join(lines)


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.CRITICAL)
    from iotcore import IotCoreBroker

    host, port, websocket_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(config_text(host, port, websocket_port))
        file.flush()
        broker = IotCoreBroker(config_path=file.name)
    broker.check_ports()  # an occupied one is an error here, and a panic in a thread later
    broker.run_forever()


if __name__ == "__main__":
    main()
