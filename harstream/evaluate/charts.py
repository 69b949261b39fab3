"""Charts of the evaluation report: inline SVG with colours from the page's style sheet, for light and dark pages.

Each chart is one <svg> element. Text that comes from data sets is escaped. Lengths are pixels of the drawing, which
scales with the page.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from harstream.core.labels import UNKNOWN
from harstream.evaluate.events import NO_LABEL, EventCounts, Track
from harstream.evaluate.metrics import Reliability, Scores
from harstream.evaluate.sessions import Session

WIDTH = 1000
_GUTTER = 74  # width of the names of the bands at the left of a timeline
_BAND, _STRIP, _AXIS, _SPACE = 27, 5, 16, 12  # heights in a row of a timeline, from top to bottom
_LETTER = 6.9  # width of a letter in a band; rather too large, so that text fits
_TICKS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

_PALETTE = (
    *("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2", "#eeca3b", "#9d755d", "#ff9da6", "#5c5f98"),
    *("#9ecae9", "#ffbf79", "#a5d99a", "#c7aed6", "#d8b5a5", "#bab0ac", "#d6a5c9", "#b79a20", "#439894", "#83bcb6"),
)

#: Names of the fields of EventCounts, in the order of the event diagram (Ward et al. 2011, figure 8).
EVENT_KINDS = {
    "deleted": "deleted",
    "fragmented": "fragmented",
    "fragmented_and_merged": "fragmented and merged",
    "merged": "merged",
    "correct": "correct",
    "merging": "merging",
    "fragmenting_and_merging": "fragmenting and merging",
    "fragmenting": "fragmenting",
    "inserted": "inserted",
}


def label_colour(index: int) -> str:
    """Return the colour of a label: one of the palette, or beyond it a hue that differs from all others."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    rgb = colorsys.hls_to_rgb((0.618034 * index) % 1, 0.45 + 0.15 * (index % 3), 0.5)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def text_colour(background: str) -> str:
    """Return black or white, whichever is easier to read on ``background``."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"


def reliability_diagram(bins: Reliability) -> str:
    """Return accuracy over confidence with the ideal diagonal, above a histogram of the windows."""
    left, top, size, below, tall = 52, 12, 300, 26, 66
    n, total = len(bins.windows), max(int(bins.windows.sum()), 1)
    bar = size / n
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = left + size * tick, top + size * (1 - tick)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{size}M{x:.1f} {top}v{size}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * tick:.0f}</text>')
        parts.append(
            f'<text x="{x:.1f}" y="{top + size + below + tall + 16}" text-anchor="middle">{100 * tick:.0f}</text>'
        )
    base = top + size + below + tall
    for i, (windows, confidence, accuracy) in enumerate(zip(bins.windows, bins.confidence, bins.accuracy, strict=True)):
        if not windows:
            continue
        x, share = left + i * bar, windows / total
        low, high = sorted((float(confidence), float(accuracy)))
        parts.append(
            f"<g><title>{windows} windows ({100 * share:.1f} %): confidence {100 * confidence:.1f} %, "
            f"accuracy {100 * accuracy:.1f} %</title>"
            f'<rect class="bar" x="{x + 1:.1f}" y="{top + size * (1 - low):.1f}" width="{bar - 2:.1f}" '
            f'height="{size * low:.1f}"/>'
            f'<rect class="gap" x="{x + 1:.1f}" y="{top + size * (1 - high):.1f}" width="{bar - 2:.1f}" '
            f'height="{size * (high - low):.1f}"/>'
            f'<path class="right" d="M{x + 1:.1f} {top + size * (1 - accuracy):.1f}h{bar - 2:.1f}"/>'
            f'<rect class="bar" x="{x + 1:.1f}" y="{base - tall * share:.1f}" width="{bar - 2:.1f}" '
            f'height="{max(tall * share, 1):.1f}"/></g>'
        )
    parts.append(f'<path class="ideal" d="M{left} {top + size}L{left + size} {top}"/>')
    parts.append(f'<path class="axis" d="M{left} {top}v{size}h{size}M{left} {base}h{size}"/>')
    parts.append(_upright(14, top + size / 2, "accuracy, %"))
    parts.append(_upright(14, base - tall / 2, "windows"))
    parts.append(f'<text x="{left - 6}" y="{base - tall + 8}" text-anchor="end">100</text>')
    parts.append(f'<text x="{left - 6}" y="{base + 3}" text-anchor="end">0 %</text>')
    parts.append(f'<text x="{left + size / 2}" y="{base + 34}" text-anchor="middle">confidence, %</text>')
    return _svg(left + size + 14, base + 42, parts, "Reliability diagram", fixed=True)


def subject_chart(by_subject: Mapping[str, Scores]) -> str:
    """Return the accuracy of each subject, the lowest first. The scale starts just below the lowest accuracy."""
    rows = sorted(by_subject.items(), key=lambda item: (item[1].accuracy, item[0]))
    longest = max(len(name) for name, _ in rows)
    left, row, top = min(260, 20 + 7 * longest), 19, 8
    right = WIDTH - 190
    floor = max(0.0, np.floor((rows[0][1].accuracy - 0.005) * 20) / 20)
    height = top + row * len(rows)

    def x(accuracy: float) -> float:
        return float(left + (right - left) * (accuracy - floor) / (1 - floor))

    parts = []
    for tick in np.linspace(floor, 1, 6):
        parts.append(f'<path class="grid" d="M{x(tick):.1f} {top}V{height}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height + 16}" text-anchor="middle">{100 * tick:.4g}</text>')
    for i, (name, scores) in enumerate(rows):
        y = top + row * (i + 0.5)
        shown = name if len(name) <= 34 else name[:33] + "…"
        parts.append(
            f"<g><title>{escape(name)}</title>"
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(shown)}</text>'
            f'<path class="stem" d="M{left} {y:.1f}H{x(scores.accuracy):.1f}"/>'
            f'<circle class="dot" cx="{x(scores.accuracy):.1f}" cy="{y:.1f}" r="4.5"/>'
            f'<text x="{right + 14}" y="{y + 4:.1f}">{100 * scores.accuracy:.1f} % of {scores.windows} windows</text>'
            "</g>"
        )
    parts.append(f'<path class="axis" d="M{left} {height}H{right}"/>')
    parts.append(f'<text x="{(left + right) / 2}" y="{height + 34}" text-anchor="middle">accuracy, %</text>')
    return _svg(WIDTH, height + 42, parts, "Accuracy per subject")


def delay_histogram(delays_s: Sequence[float], window_s: float) -> str:
    """Return a histogram of delays with a line at the duration of one window.

    A bin is one second wide, or more if there would be more than 40 bins.

    Args:
        delays_s: Delay of each change in seconds, at least one.
        window_s: Duration of a window in seconds.

    """
    left, top, wide, tall = 52, 24, 560, 150
    last = max(int(np.floor(max(delays_s))) + 1, int(np.ceil(window_s)) + 1)
    step = -(-last // 40)  # width of a bin in seconds, rounded up
    n_bins = -(-last // step)
    counts = np.histogram(delays_s, bins=n_bins, range=(0, n_bins * step))[0]
    most, bar = max(int(counts.max()), 1), wide / n_bins
    parts = []
    for tick in sorted({0, most // 2, most}):
        y = top + tall * (1 - tick / most)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}h{wide}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for i, count in enumerate(counts.tolist()):
        height = tall * count / most
        parts.append(
            f"<g><title>{i * step} to {(i + 1) * step} s: {count}</title>"
            f'<rect class="bar" x="{left + i * bar + 1:.1f}" y="{top + tall - height:.1f}" '
            f'width="{max(bar - 2, 0.5):.1f}" height="{height:.1f}"/></g>'
        )
    every = max(1, -(-n_bins // 10))
    for i in range(0, n_bins + 1, every):
        parts.append(f'<text x="{left + i * bar:.1f}" y="{top + tall + 16}" text-anchor="middle">{i * step}</text>')
    x = left + wide * window_s / (n_bins * step)
    parts.append(f'<path class="ideal" d="M{x:.1f} {top - 4}v{tall + 4}"/>')
    parts.append(f'<text x="{x:.1f}" y="{top - 8}" text-anchor="middle">one window</text>')
    parts.append(f'<path class="axis" d="M{left} {top}v{tall}h{wide}"/>')
    parts.append(
        f'<text x="{left + wide / 2}" y="{top + tall + 34}" text-anchor="middle">seconds until the label</text>'
    )
    parts.append(_upright(14, top + tall / 2, "changes"))
    return _svg(left + wide + 16, top + tall + 42, parts, "Delay of labels", fixed=True)


def event_diagram(labels: Sequence[str], counts: Sequence[EventCounts]) -> str:
    """Return the event analysis diagram: a bar for each label, made of its events by kind."""
    left, row, tall, wide = min(300, 20 + 8 * max(map(len, labels))), 28, 20, WIDTH - 1
    parts = []
    for i, (label, one) in enumerate(zip(labels, counts, strict=True)):
        by_kind = {kind: getattr(one, kind) for kind in EVENT_KINDS}
        scale, x, y = (wide - left) / max(sum(by_kind.values()), 1), float(left), i * row + 2
        shown = label if len(label) <= 34 else label[:33] + "…"
        parts.append(f'<text x="{left - 10}" y="{y + 14}" text-anchor="end">{escape(shown)}</text>')
        for kind, count in by_kind.items():
            if count:
                width = count * scale
                parts.append(
                    f"<g><title>{escape(label)}: {count} {EVENT_KINDS[kind]}</title>"
                    f'<rect class="e-{kind}" x="{x:.1f}" y="{y}" width="{max(width - 1, 0.5):.1f}" height="{tall}"/>'
                )
                if width > 8 * len(str(count)) + 4:
                    parts.append(f'<text class="count" x="{x + width / 2:.1f}" y="{y + 14}">{count}</text>')
                parts.append("</g>")
                x += width
    return _svg(WIDTH, row * len(labels), parts, "Event analysis diagram")


@dataclass(frozen=True, slots=True)
class _Interval:
    """Interval of a band of a timeline."""

    start_s: float
    stop_s: float
    style: str  # class in the style sheet
    name: str


def timeline(session: Session, labels: Sequence[str], row_s: float) -> str:
    """Return true labels above published labels over time, with a red strip between them where these are wrong.

    Args:
        session: Session to draw.
        labels: Names of the labels.
        row_s: Duration of a row in seconds.

    """
    total_s = session.duration_ns / 1e9
    n_rows = max(1, int(np.ceil(total_s / row_s - 1e-9)))
    height = 2 * _BAND + _STRIP + _AXIS + _SPACE
    truth = list(_intervals(session.truth, labels, session.segment_names))
    published = list(_intervals(session.published.join_touching(), labels))
    wrong = list(_wrong_times(session))
    tick_s = next((tick for tick in _TICKS_S if row_s / tick <= 10), _TICKS_S[-1])
    scale = (WIDTH - _GUTTER - 1) / row_s
    parts = []
    for i in range(n_rows):
        y, begin, end = i * height, i * row_s, min((i + 1) * row_s, total_s)
        below = y + _BAND + _STRIP

        def span(start_s: float, stop_s: float, begin: float = begin, end: float = end) -> tuple[float, float] | None:
            """Return left and right end of an interval in this row; None if it lies in another row."""
            if stop_s <= begin or start_s >= end:
                return None
            left, right = (_GUTTER + (min(max(t, begin), end) - begin) * scale for t in (start_s, stop_s))
            return left, right

        for name, top, intervals in (("truth", y, truth), ("published", below, published)):
            parts.append(f'<text x="{_GUTTER - 8}" y="{top + _BAND / 2 + 4}" text-anchor="end">{name}</text>')
            parts.append(
                f'<rect class="nothing" x="{_GUTTER}" y="{top}" width="{(end - begin) * scale:.1f}" height="{_BAND}"/>'
            )
            parts += [_draw_interval(one, *x, top) for one in intervals if (x := span(one.start_s, one.stop_s))]
        for start_s, stop_s in wrong:
            if x := span(start_s, stop_s):
                parts.append(
                    f'<rect class="wrong" x="{x[0]:.1f}" y="{y + _BAND}" width="{max(x[1] - x[0], 0.5):.1f}" '
                    f'height="{_STRIP}"/>'
                )
        axis = below + _BAND
        for tick in np.arange(np.ceil(begin / tick_s) * tick_s, end + 1e-9, tick_s):
            at = _GUTTER + (tick - begin) * scale
            anchor = "end" if at > WIDTH - 16 else "middle"
            parts.append(f'<path class="axis" d="M{at:.1f} {axis}v4"/>')
            parts.append(
                f'<text class="small" x="{at:.1f}" y="{axis + 14}" text-anchor="{anchor}">{_clock(tick)}</text>'
            )
    return _svg(WIDTH, n_rows * height - _SPACE + 2, parts, f"Timeline of {session.name}")


def timeline_legend(labels: Sequence[str], *, unknown: bool, other: bool) -> str:
    """Return the names of all labels beside their colours, as HTML.

    Args:
        labels: Names of the labels.
        unknown: UNKNOWN was published in some timeline.
        other: Some timeline has activities that the model does not know.

    """
    keys = [(f"l{i}", escape(label)) for i, label in enumerate(labels)]
    keys += [("unknown", UNKNOWN)] * unknown + [("other", "an activity that the model does not know")] * other
    return legend(
        [*keys, ("nothing", "no label"), ("wrong", "published label is wrong, or the right one has not come yet")]
    )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return names beside their colours as HTML; ``entries`` are (style class, name as HTML)."""
    return (
        '<p class="legend">'
        + " ".join(
            f'<span class="key"><svg width="14" height="14"><rect class="{style}" width="14" height="14"/></svg> '
            f"{name}</span>"
            for style, name in entries
        )
        + "</p>"
    )


def _intervals(track: Track, labels: Sequence[str], names: Sequence[str] | None = None) -> Iterator[_Interval]:
    """Yield the intervals of a track. ``names`` are those of a track of the truth; without, -1 is UNKNOWN."""
    for i, (start, stop, label) in enumerate(zip(track.start_ns, track.stop_ns, track.label, strict=True)):
        if label >= 0:
            style, name = f"l{label}", labels[label]
        else:
            style, name = ("unknown", UNKNOWN) if names is None else ("other", names[i])
        yield _Interval(start / 1e9, stop / 1e9, style, name)


def _draw_interval(interval: _Interval, left: float, right: float, y: float) -> str:
    """Return a rectangle, with the name inside on one or two lines if it fits."""
    words, lines = interval.name.split("_"), [interval.name.replace("_", " ")]
    room = right - left - 4
    if len(lines[0]) * _LETTER > room and len(words) > 1:
        cuts = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
        lines = list(min(cuts, key=lambda pair: max(map(len, pair))))
    text = ""
    if max(map(len, lines)) * _LETTER <= room:
        first = y + _BAND / 2 + 3.5 - 5.5 * (len(lines) - 1)
        text = "".join(
            f'<text class="in t-{interval.style}" x="{(left + right) / 2:.1f}" y="{first + 11 * i:.1f}" '
            f'text-anchor="middle">{escape(line)}</text>'
            for i, line in enumerate(lines)
        )
    title = f"{interval.name}, {_clock(interval.start_s)} to {_clock(interval.stop_s)}"
    return (
        f'<g><title>{escape(title)}</title><rect class="{interval.style}" x="{left:.1f}" y="{y}" '
        f'width="{max(right - left, 0.3):.1f}" height="{_BAND}"/>{text}</g>'
    )


def _wrong_times(session: Session) -> Iterator[tuple[float, float]]:
    """Yield (start, stop) in seconds of the time inside known activities whose published label is another.

    Time before the first published label does not count.
    """
    truth, published = session.truth, session.published
    times = np.unique(np.concatenate([truth.start_ns, truth.stop_ns, published.start_ns, published.stop_ns]))
    true_label, published_label = truth.labels_at(times[:-1]), published.labels_at(times[:-1])
    begun = times[:-1] >= published.start_ns[:1].min(initial=2**62)
    wrong = (true_label != NO_LABEL) & (true_label != published_label) & begun
    edges = np.diff(np.r_[0, wrong.astype(np.int8), 0])
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        yield times[first] / 1e9, times[last] / 1e9


def _clock(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _upright(x: float, y: float, text: str) -> str:
    """Return text that is turned by 90 degrees, for a vertical axis."""
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{text}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str, *, fixed: bool = False) -> str:
    size = f' style="width:{width:.0f}px"' if fixed else ""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
