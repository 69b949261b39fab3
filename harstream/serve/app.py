"""Life of the process behind `harstream run`: build, start, run, close. Read this module first.

The daemon's main loop is in `daemon`, its labelling thread in `labelling`, and the objects that turn messages into
labels in `pipeline`.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

from harstream import __version__, logs
from harstream.addresses import in_brackets, is_loopback, own_address
from harstream.config import RunConfig
from harstream.embedded import DEFAULT_PORT, DEFAULT_WEBSOCKET_PORT, EmbeddedBroker
from harstream.memory import freeze_startup_objects, share_one_heap
from harstream.mqtt.urls import BrokerSettings, BrokerUrl
from harstream.serve import models
from harstream.serve.daemon import Daemon
from harstream.serve.http import HttpServer, daemon_routes
from harstream.serve.models import folder_states
from harstream.serve.page import LivePage
from harstream.serve.reload import Reloader
from harstream.signals import on_reload, on_stop

log = logging.getLogger("harstream")


def run(
    config: RunConfig,
    *,
    read_config: Callable[[], RunConfig] | None = None,
    on_start: Callable[[Daemon], None] | None = None,
) -> None:
    """Turn samples on a broker into labels until a signal arrives, then drain.

    Args:
        config: Settings.
        read_config: Reads the settings again when a reload is asked for.
        on_start: Called with the daemon just before its main loop, when it has connected.

    Raises:
        HarstreamError: The daemon cannot start, because of a setting, the bundle or the broker.

    """
    share_one_heap()
    states = folder_states(config)  # taken before loading, so that a change meanwhile is noticed later
    daemon = Daemon(config, *models.load(config))
    reloader = Reloader(daemon, read_config, states)
    _stop_on_signals(daemon)
    on_reload(reloader.request)
    with ExitStack() as closing:
        http_url = _start_http(config, daemon, closing)
        settings = config.read_broker_settings() or _start_embedded_broker(config, closing)
        daemon.notifier.send("STATUS=waiting for the broker")
        daemon.connect(settings)
        if daemon.connected:  # False if a signal ended the wait for the broker
            _log_ready(daemon, http_url)
        freeze_startup_objects()
        if on_start is not None:
            on_start(daemon)
        closing.callback(reloader.close)
        reloader.start()
        daemon.notifier.ready(models.names(daemon.sources.classifiers))
        daemon.run()
        log.info("stopped")


def _start_http(config: RunConfig, daemon: Daemon, closing: ExitStack) -> str:
    """Start the HTTP server and return its address; "off" if the settings ask for none."""
    if config.http_address is None:
        return "off"
    routes = daemon_routes(daemon.status, daemon.metrics.expose, daemon.read_devices)
    if config.page:
        page = LivePage(daemon)
        closing.callback(page.close)
        page.start()
        routes = {**routes, **page.routes()}
    server = HttpServer(config.http_address, routes)
    closing.callback(server.close)
    server.start()
    return server.url


def _start_embedded_broker(config: RunConfig, closing: ExitStack) -> BrokerSettings:
    """Start the embedded broker and return how to reach it."""
    address = config.listen_address
    if address is None:
        broker = EmbeddedBroker()
    else:
        host, port = address
        broker = EmbeddedBroker(
            port or DEFAULT_PORT, host, exact=port is not None, websocket_port=DEFAULT_WEBSOCKET_PORT
        )
    closing.callback(broker.close)
    broker.start()
    if address is not None:
        _say_where(config, broker)
    return BrokerSettings(BrokerUrl.parse(broker.url), "3.1.1")


def _say_where(config: RunConfig, broker: EmbeddedBroker) -> None:
    """Log the addresses of a broker that others in the network reach, and that it has no password."""
    host = in_brackets(own_address(broker.host))
    if not is_loopback(broker.host):
        log.warning(
            "listen: the broker on %s has no password: everyone in the network can publish samples and read labels",
            in_brackets(broker.host),
        )
    log.info(
        "wearables publish to mqtt://%s:%d; apps that need WebSockets, such as Sensor Logger: broker %s, port %d, no "
        "TLS, topic %s",
        host,
        broker.port,
        host,
        broker.websocket_port,
        " and ".join(source.samples_topics for source in config.sources),
    )


def _log_ready(daemon: Daemon, http_url: str) -> None:
    """Log that the daemon is ready, with its models, broker, topics and HTTP address."""
    config, connection = daemon.config, daemon.connection
    assert connection is not None
    first, *others = config.samples_filters(sorted(daemon.served_partitions))
    if daemon.workers is not None and not daemon.served_partitions:
        first = "none yet: other workers serve the partitions"
    log.info(
        "harstream %s ready: model %s, broker %s%s (MQTT %s), samples %s%s, labels %s, http %s",
        __version__,
        models.describe(daemon.sources.classifiers),
        "embedded, wearables publish to " if config.broker is None else "",
        connection.url,
        connection.version,
        first,
        f" and {len(others)} more" if others else "",
        ", ".join(dict.fromkeys(source.labels_topic for source in config.sources)),
        http_url,
    )


def _stop_on_signals(daemon: Daemon) -> None:
    """Drain the daemon at the first SIGTERM or SIGINT, and end the process at once at the second."""

    def stop(number: signal.Signals) -> None:
        if daemon.stopping.is_set():
            logs.flush(logs.FLUSH_S)
            os._exit(128 + number)
        log.info("%s: draining; a second signal ends the process at once", number.name)
        daemon.notifier.send("STOPPING=1")
        daemon.stop()

    on_stop(stop)
