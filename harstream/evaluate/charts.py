"""The drawings of the evaluation report: inline SVG, coloured by the page's style sheet, light or dark.

Every function returns one <svg> element; text that comes from data is escaped. Lengths are pixels of the
drawing, which scales with the page.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import numpy as np

from harstream.core.labels import UNKNOWN
from harstream.evaluate.events import NO_LABEL, EventCounts, Track
from harstream.evaluate.metrics import Reliability, Scores
from harstream.evaluate.sessions import Session

WIDTH = 1000
_GUTTER = 74  # left of a timeline: what the band is
_BAND, _STRIP, _AXIS, _SPACE = 27, 5, 16, 12  # heights in a timeline
_LETTER = 6.9  # width of a letter in a band, on the safe side
_TICKS_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)

_PALETTE = (
    *("#4c78a8", "#f58518", "#54a24b", "#e45756", "#b279a2", "#72b7b2", "#eeca3b", "#9d755d", "#ff9da6", "#5c5f98"),
    *("#9ecae9", "#ffbf79", "#a5d99a", "#c7aed6", "#d8b5a5", "#bab0ac", "#d6a5c9", "#b79a20", "#439894", "#83bcb6"),
)

#: Fields of Events from left to right in its diagram (Ward et al. 2011, figure 8), with what they are called.
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
    """The colour of a label: twenty chosen ones, then ever new hues."""
    if index < len(_PALETTE):
        return _PALETTE[index]
    rgb = colorsys.hls_to_rgb((0.618034 * index) % 1, 0.45 + 0.15 * (index % 3), 0.5)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def text_colour(background: str) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "#000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#fff"


def reliability_diagram(bins: Reliability) -> str:
    """Accuracy over confidence, with the diagonal it should follow, above how many windows each bin has."""
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
    for i, (windows, sure, right) in enumerate(zip(bins.windows, bins.confidence, bins.accuracy, strict=True)):
        if not windows:
            continue
        x, share = left + i * bar, windows / total
        low, high = sorted((float(sure), float(right)))
        parts.append(
            f"<g><title>{windows} windows ({100 * share:.1f} %): confidence {100 * sure:.1f} %, "
            f"right {100 * right:.1f} %</title>"
            f'<rect class="bar" x="{x + 1:.1f}" y="{top + size * (1 - low):.1f}" width="{bar - 2:.1f}" '
            f'height="{size * low:.1f}"/>'
            f'<rect class="gap" x="{x + 1:.1f}" y="{top + size * (1 - high):.1f}" width="{bar - 2:.1f}" '
            f'height="{size * (high - low):.1f}"/>'
            f'<path class="right" d="M{x + 1:.1f} {top + size * (1 - right):.1f}h{bar - 2:.1f}"/>'
            f'<rect class="bar" x="{x + 1:.1f}" y="{base - tall * share:.1f}" width="{bar - 2:.1f}" '
            f'height="{max(tall * share, 1):.1f}"/></g>'
        )
    parts.append(f'<path class="ideal" d="M{left} {top + size}L{left + size} {top}"/>')
    parts.append(f'<path class="axis" d="M{left} {top}v{size}h{size}M{left} {base}h{size}"/>')
    parts.append(_upright(14, top + size / 2, "windows that were right, %"))
    parts.append(_upright(14, base - tall / 2, "windows"))
    parts.append(f'<text x="{left - 6}" y="{base - tall + 8}" text-anchor="end">100</text>')
    parts.append(f'<text x="{left - 6}" y="{base + 3}" text-anchor="end">0 %</text>')
    parts.append(f'<text x="{left + size / 2}" y="{base + 34}" text-anchor="middle">confidence, %</text>')
    return _svg(left + size + 14, base + 42, parts, "Reliability diagram", fixed=True)


def subject_chart(by_subject: Mapping[str, Scores]) -> str:
    """Accuracy of each subject, the lowest first. The scale begins just below the lowest, and says so by its ticks."""
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
    for i, (name, metrics) in enumerate(rows):
        y = top + row * (i + 0.5)
        shown = name if len(name) <= 34 else name[:33] + "…"
        parts.append(
            f"<g><title>{escape(name)}</title>"
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(shown)}</text>'
            f'<path class="stem" d="M{left} {y:.1f}H{x(metrics.accuracy):.1f}"/>'
            f'<circle class="dot" cx="{x(metrics.accuracy):.1f}" cy="{y:.1f}" r="4.5"/>'
            f'<text x="{right + 14}" y="{y + 4:.1f}">{100 * metrics.accuracy:.1f} % of {metrics.windows} windows</text>'
            "</g>"
        )
    parts.append(f'<path class="axis" d="M{left} {height}H{right}"/>')
    parts.append(f'<text x="{(left + right) / 2}" y="{height + 34}" text-anchor="middle">accuracy, %</text>')
    return _svg(WIDTH, height + 42, parts, "Accuracy per subject")


def delay_histogram(delays_s: Sequence[float], window_s: float) -> str:
    """How many changes were followed after how long, in bins of one second; a line where one window has passed."""
    left, top, wide, tall = 52, 24, 560, 150
    last = max(int(np.floor(max(delays_s))) + 1, int(np.ceil(window_s)) + 1)
    step = -(-last // 40)  # seconds a bin
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
    """The event analysis diagram, one bar a label: true events end with the correct ones, published begin there."""
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


def timeline(session: Session, labels: Sequence[str], row_s: float) -> str:
    """Truth above what was published, ``row_s`` seconds a row; red between them where the label was wrong."""
    total_s = session.duration_ns / 1e9
    n_rows = max(1, int(np.ceil(total_s / row_s - 1e-9)))
    height = 2 * _BAND + _STRIP + _AXIS + _SPACE
    truth = list(_stretches(session.truth, labels, session.segment_names))
    said = list(_stretches(session.published.join_touching(), labels))
    wrong = list(_wrong(session))
    tick_s = next((tick for tick in _TICKS_S if row_s / tick <= 10), _TICKS_S[-1])
    scale = (WIDTH - _GUTTER - 1) / row_s
    parts = []
    for i in range(n_rows):
        y, begin, end = i * height, i * row_s, min((i + 1) * row_s, total_s)
        below = y + _BAND + _STRIP
        for name, at in (("truth", y), ("published", below)):
            parts.append(f'<text x="{_GUTTER - 8}" y="{at + _BAND / 2 + 4}" text-anchor="end">{name}</text>')
            parts.append(
                f'<rect class="nothing" x="{_GUTTER}" y="{at}" width="{(end - begin) * scale:.1f}" height="{_BAND}"/>'
            )
        for stretches, at in ((truth, y), (said, below)):
            for start, stop, style, name in stretches:
                if stop > begin and start < end:
                    x0, x1 = (_GUTTER + (min(max(t, begin), end) - begin) * scale for t in (start, stop))
                    parts.append(_stretch(x0, x1, at, style, name, f"{name}, {_clock(start)} to {_clock(stop)}"))
        for start, stop in wrong:
            if stop > begin and start < end:
                x0, x1 = (_GUTTER + (min(max(t, begin), end) - begin) * scale for t in (start, stop))
                parts.append(
                    f'<rect class="wrong" x="{x0:.1f}" y="{y + _BAND}" width="{max(x1 - x0, 0.5):.1f}" '
                    f'height="{_STRIP}"/>'
                )
        axis = below + _BAND
        for tick in np.arange(np.ceil(begin / tick_s) * tick_s, end + 1e-9, tick_s):
            x = _GUTTER + (tick - begin) * scale
            anchor = "end" if x > WIDTH - 16 else "middle"
            parts.append(f'<path class="axis" d="M{x:.1f} {axis}v4"/>')
            parts.append(
                f'<text class="small" x="{x:.1f}" y="{axis + 14}" text-anchor="{anchor}">{_clock(tick)}</text>'
            )
    return _svg(WIDTH, n_rows * height - _SPACE + 2, parts, f"Timeline of {session.name}")


def timeline_legend(labels: Sequence[str], *, unknown: bool, other: bool) -> str:
    """The labels' names beside their colours, as HTML."""
    keys = [(f"l{i}", escape(label)) for i, label in enumerate(labels)]
    keys += [("unknown", UNKNOWN)] * unknown + [("other", "a label the model does not know")] * other
    return legend(
        [*keys, ("nothing", "nothing known, nothing said"), ("wrong", "published label wrong, or not yet right")]
    )


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """(style, name as HTML) of each, as a line of HTML."""
    return (
        '<p class="legend">'
        + " ".join(
            f'<span class="key"><svg width="14" height="14"><rect class="{style}" width="14" height="14"/></svg> '
            f"{name}</span>"
            for style, name in entries
        )
        + "</p>"
    )


def _stretches(
    track: Track, labels: Sequence[str], names: Sequence[str] | None = None
) -> Iterator[tuple[float, float, str, str]]:
    """(start, stop in seconds, style, name) of each; without ``names`` NONE is UNKNOWN."""
    for i, (start, stop, label) in enumerate(zip(track.start_ns, track.stop_ns, track.label, strict=True)):
        if label != NO_LABEL:
            style, name = f"l{label}", labels[label]
        else:
            style, name = ("unknown", UNKNOWN) if names is None else ("other", names[i])
        yield start / 1e9, stop / 1e9, style, name


def _stretch(x0: float, x1: float, y: float, style: str, name: str, title: str) -> str:
    """One stretch of a band, with its name inside where it fits, on up to two lines."""
    words, lines = name.split("_"), [name.replace("_", " ")]
    room = x1 - x0 - 4
    if len(lines[0]) * _LETTER > room and len(words) > 1:
        cuts = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
        lines = list(min(cuts, key=lambda pair: max(map(len, pair))))
    text = ""
    if max(map(len, lines)) * _LETTER <= room:
        first = y + _BAND / 2 + 3.5 - 5.5 * (len(lines) - 1)
        text = "".join(
            f'<text class="in t-{style}" x="{(x0 + x1) / 2:.1f}" y="{first + 11 * i:.1f}" text-anchor="middle">'
            f"{escape(line)}</text>"
            for i, line in enumerate(lines)
        )
    return (
        f'<g><title>{escape(title)}</title><rect class="{style}" x="{x0:.1f}" y="{y}" '
        f'width="{max(x1 - x0, 0.3):.1f}" height="{_BAND}"/>{text}</g>'
    )


def _wrong(session: Session) -> Iterator[tuple[float, float]]:
    """(start, stop) in seconds of what lies inside known activities and was labelled otherwise."""
    truth, said = session.truth, session.published
    times = np.unique(np.concatenate([truth.start_ns, truth.stop_ns, said.start_ns, said.stop_ns]))
    true = truth.labels_at(times[:-1])
    bad = (
        (true != NO_LABEL) & (true != said.labels_at(times[:-1])) & (times[:-1] >= said.start_ns[:1].min(initial=2**62))
    )
    edges = np.diff(np.r_[0, bad.astype(np.int8), 0])
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        yield times[first] / 1e9, times[last] / 1e9


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _upright(x: float, y: float, text: str) -> str:
    return f'<text transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="middle">{text}</text>'


def _svg(width: float, height: float, parts: Sequence[str], title: str, *, fixed: bool = False) -> str:
    size = f' style="width:{width:.0f}px"' if fixed else ""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}"{size} role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
