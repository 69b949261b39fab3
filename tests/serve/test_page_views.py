"""Overviews of several viewers: what is shared, and what one who missed some gets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from harstream.serve.page import views
from harstream.serve.page.encoding import event
from harstream.serve.page.table import Query
from harstream.serve.page.views import Moment, Overview, SharedOverviews


class Table:
    """Table with the rows given, in order."""

    def __init__(self, rows: dict[str, Any]) -> None:
        self._rows = rows
        self.described = 0

    def select(self, query: Query) -> Any:
        return np.flatnonzero([query.search in name for name in self._rows])

    def key(self, position: int) -> tuple[str, str]:
        return "s", list(self._rows)[position]

    def describe(self, position: int) -> dict[str, Any]:
        self.described += 1
        return {"device": list(self._rows)[position], "value": list(self._rows.values())[position]}


class Totals:
    def trend(self) -> dict[str, Any]:
        return {}


class Moments:
    """Seconds of a daemon."""

    def __init__(self) -> None:
        self.overviews, self.number = SharedOverviews(), 0

    def next(self, **rows: int) -> Moment:
        self.number += 1
        self.table = table = Table(rows)
        return Moment(lambda: table, Totals(), self.overviews, lambda: b"", self.number)  # type: ignore[arg-type, return-value]


class Client:
    """Applies events as the page does."""

    def __init__(self, query: Query) -> None:
        self.overview = Overview(query)
        self.order: list[Any] = []
        self.rows: dict[str, dict[str, Any]] = {}

    def take(self, moment: Moment) -> bytes:
        message = self.overview.compose(moment)
        for text in message.split(b"event: view\ndata: ")[1:]:
            view = json.loads(text)
            if "order" in view:
                self.order = [name for _, name in view["order"]]
                self.rows = {name: self.rows.get(name, {}) for name in self.order}
            for number, fields in view["rows"]:
                self.rows[self.order[number]].update(fields)
            assert view["matching"] == len(self.order)
        return message

    @property
    def shown(self) -> dict[str, int]:
        return {name: self.rows[name]["value"] for name in self.order}


def test_viewers_of_one_query_share_the_work_and_the_bytes(monkeypatch):
    moments = Moments()
    encoded: list[str] = []

    def count(name: str, content: Any) -> bytes:
        encoded.append(name)
        return event(name, content)

    monkeypatch.setattr(views, "event", count)
    clients = [Client(Query()) for _ in range(5)]
    moment = moments.next(a=1, b=2)
    assert len({client.take(moment) for client in clients}) == 1
    encoded.clear()
    moment = moments.next(a=1, b=3)
    assert len({client.take(moment) for client in clients}) == 1
    assert encoded == ["view"]
    assert moments.table.described == 2
    other = Client(Query(search="a"))
    other.take(moment)
    assert (other.shown, clients[0].shown) == ({"a": 1}, {"a": 1, "b": 3})


@pytest.mark.parametrize("missed", [0, 1, 3, 2 * views._MAX_MISSED])
def test_one_who_missed_some_sees_what_the_others_see(missed):
    moments, steady, slow = Moments(), Client(Query()), Client(Query())
    rng = np.random.default_rng(0)
    for client in (steady, slow):
        client.take(moments.next(a=0, b=0))
    for _ in range(4):
        for turn in range(missed + 1):
            rows = {str(name): int(rng.integers(3)) for name in rng.permutation(list("abcd"))[: rng.integers(1, 5)]}
            moment = moments.next(**rows)
            steady.take(moment)
            if turn == missed:
                slow.take(moment)
        assert list(slow.shown.items()) == list(steady.shown.items()) == list(rows.items())


def test_one_who_comes_later_gets_everything_and_a_query_that_nobody_has_is_forgotten():
    moments, early = Moments(), Client(Query())
    for value in range(3):
        early.take(moments.next(a=value))
    late = Client(Query())
    moment = moments.next(a=7)
    late.take(moment)
    early.take(moment)
    assert late.shown == early.shown == {"a": 7}
    early.overview.close()
    assert len(moments.overviews) == 1
    late.overview.close()
    assert len(moments.overviews) == 0
