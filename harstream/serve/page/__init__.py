"""Live page: overview of all devices and a page of each one, fed by server-sent events."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import PurePath
from typing import Any

from harstream.serve import api
from harstream.serve.daemon import READ_TIMEOUT_S, Daemon
from harstream.serve.devices import Snapshot
from harstream.serve.http import Answer, Request, Response, Routes, Stream
from harstream.serve.label_history import LabelHistory
from harstream.serve.page.encoding import event
from harstream.serve.page.one_device import WatchedDevices
from harstream.serve.page.table import Query, Table
from harstream.serve.page.totals import Totals
from harstream.serve.page.viewers import MAX_VIEWERS, Viewers
from harstream.serve.page.views import DeviceView, Moment, Overview, SharedOverviews
from harstream.serve.source import Source

#: Time that the main loop has to return the signals of watched devices.
_ASK_S = 0.5
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PARAMETERS = {"search", "activity", "source", "problem", "sort", "descending", "offset", "limit", "device"}


class LivePage:
    """Live page of a daemon.

    The label path does little for it: it notes changes of labels (`LabelHistory`), and passes each batch of labels to
    `WatchedDevices`, which looks only for devices whose page is open. Everything else is done in the thread of
    `Viewers`, which looks at the daemon once a second if somebody watches, else every ten seconds.

    Args:
        daemon: What is shown.

    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._totals = Totals(daemon.status, daemon.metrics.latency_counts, daemon.clock, self._input)
        self._watched = WatchedDevices(daemon.clock, lambda function: daemon.questions.ask(function, _ASK_S))
        self._overviews = SharedOverviews()
        self._table: Table | None = None
        self._totals_event = b""
        self._table_at = self._totals_at = self._second = -1  # number of the second; viewers are due at its beginning
        self.viewers = Viewers(self._look, daemon.monotonic)
        daemon.labelling.on_labelled = self._watched.on_labelled

    @property
    def _sources(self) -> list[Source]:
        """All sources."""
        return list(self._daemon.sources)

    def _input(self) -> dict[str, Any]:
        """Return broker and topics of the samples, for people. Without user and password of the broker."""
        connection = self._daemon.connection
        return {
            "broker": None if connection is None else str(connection.url),
            "topics": list(dict.fromkeys(source.samples_topics for source in self._daemon.config.sources)),
        }

    def start(self) -> None:
        """Start to serve viewers."""
        self.viewers.start()

    def close(self) -> None:
        """Disconnect the viewers."""
        self._daemon.labelling.on_labelled = None
        self.viewers.close()

    # --- requests; any thread -----------------------------------------------------------------

    def routes(self) -> Routes:
        """Return the paths of the page."""
        return {"/": lambda _: _asset("index.html"), "/page/{name}": _answer_asset, "/api/stream": self._answer_stream}

    def _answer_stream(self, request: Request) -> Answer:
        """Answer ``/api/stream``: the overview, or the device of the parameter ``device``."""
        query = request.query
        if unknown := sorted(set(query) - _PARAMETERS):
            expected = ", ".join(sorted(_PARAMETERS))
            return api.answer(400, {"error": f"unknown parameter {unknown[0]!r}, expected {expected}"})
        if self.viewers.full:
            return api.answer(503, {"error": f"{MAX_VIEWERS} viewers watch already; close a page or try again later"})
        if (device := query.get("device")) is not None:
            return self._stream_device(device, query.get("source", ""))
        try:
            view = Overview(Query.parse(query))
        except api.QueryError as error:
            return api.answer(400, {"error": str(error)})
        return Stream("text/event-stream", lambda connection: self.viewers.add(connection, view))

    def _stream_device(self, device: str, source: str) -> Answer:
        """Answer with the page of a device. It may be one that is not known yet, such as after a restart."""
        sources = [one for one in self._sources if source in ("", one.config.name)]
        if not sources:
            known = ", ".join(one.config.name for one in self._sources)
            return api.answer(400, {"error": f"source is {source!r}, expected one of {known}"})
        knows = (one for one in sources if self._read(one)[0].describe_in_detail(device) is not None)
        chosen = next(knows, sources[0])
        return Stream(
            "text/event-stream", lambda connection: self.viewers.add(connection, self._view_device(chosen, device))
        )

    def _view_device(self, source: Source, device: str) -> DeviceView:
        return DeviceView(
            device,
            lambda: self._read(source),
            self._watched.add(source.pipeline, device),
            self._watched,
            _settings(source),
        )

    def _read(self, source: Source) -> tuple[Snapshot, LabelHistory | None]:
        """Return the devices of a source, and their history."""
        return source.devices.snapshot(READ_TIMEOUT_S), source.pipeline.history

    # --- thread of the viewers ----------------------------------------------------------------

    def _look(self, now_s: float) -> Moment:
        """Look at the daemon, and return what all views of this moment share."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._totals.sample(now_s)
        self._watched.refresh()
        return Moment(self._read_table, self._totals, self._overviews, self._read_totals, second)

    def _read_totals(self) -> bytes:
        """Return the event of the totals, which is the same for all viewers of a second."""
        if self._totals_at != self._second:
            table = self._read_table()
            content = {
                **self._totals.describe(),
                "devices_by_problem": table.problem_counts,
                "devices_known": len(table),
                "without_label": table.without_label,
                "sources": [snapshot.source for snapshot, _ in table.parts],
            }
            self._totals_event, self._totals_at = event("totals", content), self._second
        return self._totals_event

    def _read_table(self) -> Table:
        if self._table is None or self._table_at != self._second:
            parts = [self._read(source) for source in self._sources]
            self._table, self._table_at = Table(parts, self._daemon.clock(), self._table), self._second
        return self._table


def _settings(source: Source) -> Mapping[str, Any]:
    """Return what a source is set to, for people."""
    config, bundle = source.config, source.pipeline.classifier.bundle
    spec = bundle.spec
    return {
        "source": config.name,
        "topic": config.samples_topics,
        "payload": config.payload,
        "acc_unit": config.acc_unit,
        "gyro_unit": config.gyro_unit,
        "axes": config.axes,
        "model": bundle.id,
        "placement": bundle.placement,
        "outputs": bundle.outputs,
        "states": bundle.states,
        "uses_gyro": spec.uses_gyro,
        "sample_rate_hz": spec.sample_rate_hz,
        "window_s": round(spec.window_samples / spec.sample_rate_hz, 3),
        "stride_s": round(spec.stride_samples / spec.sample_rate_hz, 3),
    }


def _answer_asset(request: Request) -> Response:
    if request.name in _asset_names():
        return _asset(request.name)
    return 404, "text/plain", b"not found\n"


@functools.cache
def _asset_names() -> frozenset[str]:
    """Return the names of the files that the page consists of."""
    return frozenset(entry.name for entry in resources.files(__package__).joinpath("static").iterdir())


@functools.cache
def _asset(name: str) -> Response:
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return 200, _MEDIA_TYPES[PurePath(name).suffix], content
