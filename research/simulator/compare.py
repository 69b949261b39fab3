"""Comparison of simulated wearables with recordings.

    python -m research.simulator.compare --data hapt:PATH --out docs/images

draws power spectra per activity and channel, directions of gravity and the distributions of single windows, and prints
the figures. It compares statistics only; no recognition model is involved.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import welch

from harstream.datasets.base import Recording, load
from harstream.simulate.motion import Wearable
from harstream.simulate.parameters import ACTIVITIES, BASE_RATE_HZ, GAITS, POSTURES, SEGMENT, Float
from research.command import command
from research.simulator import twosample

CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
#: Bands, in Hz, in which power is compared: sway and turning, step, harmonics, noise.
BANDS = ((0.3, 1.1), (1.1, 5.0), (5.0, 12.0), (12.0, 24.0))
#: Seconds cut from both ends of every bout: labels of recordings were set by eye.
TRIM_S = 1.5
#: Samples of a window: 2.56 s at 50 Hz.
WINDOW = 128
#: Limits on simulated bouts, as in the recordings: number per subject and activity, and length in s without the ends.
MAX_BOUTS = dict.fromkeys(GAITS, 3) | dict.fromkeys(POSTURES, 2)
MAX_BOUT_S = dict.fromkeys(GAITS, 10.0) | {"WALKING": 16.0} | dict.fromkeys(POSTURES, 18.0)


@dataclass(frozen=True, slots=True)
class Bout:
    """Samples of one uninterrupted period of one activity of one subject, without its ends."""

    subject: str
    activity: str
    samples: Float  # (n_samples, 6) at 50 Hz, g and rad/s


def real(recordings: Sequence[Recording]) -> list[Bout]:
    """Return the bouts of recordings; each recording counts as a subject."""
    trim = round(TRIM_S * BASE_RATE_HZ)
    bouts = [
        Bout(r.name, s.label, r.samples[s.start + trim : s.stop - trim].astype(np.float64))
        for r in recordings
        for s in r.segments
        if s.label in ACTIVITIES
    ]
    return [bout for bout in bouts if len(bout.samples) >= SEGMENT]


def simulated(n_subjects: int, duration_s: float = 1500.0, first_seed: int = 0) -> list[Bout]:
    """Return bouts of ``n_subjects`` simulated subjects at twice the pace of a day.

    The mean power over many minutes includes rarer fidgets than that over two bouts of 20 s. So at most MAX_BOUTS bouts
    of each activity are kept, each cut to MAX_BOUT_S, as much as a recording has.
    """
    trim = round(TRIM_S * BASE_RATE_HZ)
    bouts = []
    for seed in range(first_seed, first_seed + n_subjects):
        stream = Wearable(seed, pace=2.0, first=ACTIVITIES[seed % len(ACTIVITIES)]).read(
            round(duration_s * BASE_RATE_HZ)
        )
        kept = dict.fromkeys(ACTIVITIES, 0)
        code = np.where(stream.in_transition, -1, stream.label)
        cuts = np.r_[0, np.flatnonzero(np.diff(code)) + 1, len(code)]
        for start, stop in pairwise(cuts):
            samples = stream.samples[start + trim : stop - trim].astype(np.float64)
            if code[start] < 0 or len(samples) < SEGMENT:
                continue
            activity = ACTIVITIES[code[start]]
            kept[activity] += 1
            if kept[activity] <= MAX_BOUTS[activity]:
                longest = round(MAX_BOUT_S[activity] * BASE_RATE_HZ)
                bouts.append(Bout(f"sim{seed}", activity, samples[:longest]))
    return bouts


def spectra(bouts: Sequence[Bout], activity: str) -> tuple[Float, Float]:
    """Return frequencies (n,) in Hz and power densities (n_subjects, n, 6) of an activity, averaged by subject."""
    by_subject: dict[str, list[Float]] = {}
    frequencies = np.zeros(0)
    for bout in bouts:
        if bout.activity == activity:
            frequencies, power = welch(bout.samples, BASE_RATE_HZ, nperseg=SEGMENT, axis=0)
            by_subject.setdefault(bout.subject, []).append(power)
    return frequencies, np.array([np.mean(powers, 0) for powers in by_subject.values()])


def band_levels(bouts: Sequence[Bout], activity: str) -> Float:
    """Return log10 of the power (n_subjects, len(BANDS), 6) in each band."""
    frequencies, power = spectra(bouts, activity)
    inside = [(frequencies >= low) & (frequencies < high) for low, high in BANDS]
    step = frequencies[1] - frequencies[0]
    return np.asarray(np.log10(np.stack([power[:, band].sum(1) * step for band in inside], axis=1)), np.float64)


def gravity(bouts: Sequence[Bout], activity: str) -> Float:
    """Return the mean acceleration (n_bouts, 3) of each bout (in postures the median), in g."""
    middle = np.median if activity in POSTURES else np.mean
    return np.array([middle(s.samples[:, :3], axis=0) for s in bouts if s.activity == activity])


def angles(vectors: Float) -> Float:
    """Return the tilt sideways (y against x) and forward (z against x), (n, 2) degrees, of ``vectors`` (n, 3)."""
    length = np.linalg.norm(vectors, axis=1)
    return np.asarray(np.degrees(np.arcsin(np.clip(vectors[:, 1:] / length[:, None], -1, 1))), np.float64)


def leans(bouts: Sequence[Bout]) -> Float:
    """Return the angle (n,), in degrees, between each bout of sitting and the same subject's mean standing posture."""
    out = []
    for subject in dict.fromkeys(s.subject for s in bouts):
        own = [s for s in bouts if s.subject == subject]
        stand, sit = gravity(own, "STANDING"), gravity(own, "SITTING")
        if len(stand) and len(sit):
            mean = stand.mean(0) / np.linalg.norm(stand.mean(0))
            out += np.degrees(np.arccos(np.clip(sit @ mean / np.linalg.norm(sit, axis=1), -1, 1))).tolist()
    return np.array(out)


def window_sizes(bouts: Sequence[Bout], activity: str) -> Float:
    """Return log10 of the standard deviation (n_windows, 6) within windows of 2.56 s."""
    spreads = [
        s.samples[start : start + WINDOW].std(0)
        for s in bouts
        if s.activity == activity
        for start in range(0, len(s.samples) - WINDOW + 1, WINDOW)
    ]
    return np.asarray(np.log10(np.maximum(np.array(spreads), 1e-5)), np.float64)


def window_statistics(bouts: Sequence[Bout], activity: str) -> tuple[Float, list[str]]:
    """Return statistics (n_windows, twosample.N_STATISTICS) of windows of 2.56 s, and the subject of each window."""
    statistics = [
        (twosample.statistics(s.samples[start : start + WINDOW]), s.subject)
        for s in bouts
        if s.activity == activity
        for start in range(0, len(s.samples) - WINDOW + 1, WINDOW)
    ]
    return np.array([values for values, _ in statistics]), [subject for _, subject in statistics]


def _draw_spectra(pairs: Sequence[tuple[str, Sequence[Bout]]], activities: Sequence[str], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(len(activities), 6, figsize=(20, 3.0 * len(activities)), sharex=True, sharey="row")
    for row, activity in zip(axes, activities, strict=True):
        for (name, bouts), colour in zip(pairs, ("black", "tab:red"), strict=True):
            frequencies, power = spectra(bouts, activity)
            low, middle, high = np.quantile(power, [0.1, 0.5, 0.9], axis=0)
            for channel, axis in enumerate(row):
                axis.semilogy(frequencies[1:], middle[1:, channel], color=colour, lw=1, label=name)
                axis.fill_between(frequencies[1:], low[1:, channel], high[1:, channel], color=colour, alpha=0.2, lw=0)
                axis.set_title(f"{activity} {CHANNELS[channel]}", fontsize=8)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("Hz")
    _save(figure, path)


def _draw_gravity(pairs: Sequence[tuple[str, Sequence[Bout]]], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(17, 8.5))
    for activity, axis in zip(ACTIVITIES, axes.flat, strict=False):
        for (name, bouts), colour in zip(reversed(pairs), ("tab:red", "black"), strict=True):
            at = angles(gravity(bouts, activity))
            axis.plot(at[:, 0], at[:, 1], ".", ms=3 if colour != "black" else 5, color=colour, alpha=0.5, label=name)
        axis.set(title=activity, xlabel="sideways, degrees", ylabel="forward, degrees")
        axis.legend(fontsize=8)
    for name, bouts in pairs:
        lean = leans(bouts)
        axes[1, 2].plot(
            np.sort(lean), np.linspace(0, 1, len(lean)), color="black" if name == "real" else "tab:red", label=name
        )
    axes[1, 2].set(title="sitting from standing, same subject", xlabel="degrees", ylabel="share below")
    axes[1, 2].legend(fontsize=8)
    for activity in POSTURES:
        for name, bouts in pairs:
            length = np.sort(np.linalg.norm(gravity(bouts, activity), axis=1))
            style = "-" if name == "real" else "--"
            axes[1, 3].plot(length, np.linspace(0, 1, len(length)), style, label=f"{activity} {name}")
    axes[1, 3].set(title="length of gravity", xlabel="g", ylabel="share below")
    axes[1, 3].legend(fontsize=7)
    _save(figure, path)


def _draw_windows(pairs: Sequence[tuple[str, Sequence[Bout]]], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(len(ACTIVITIES), 6, figsize=(20, 15), sharey=True)
    for row, activity in zip(axes, ACTIVITIES, strict=True):
        for (name, bouts), colour in zip(pairs, ("black", "tab:red"), strict=True):
            size = np.sort(window_sizes(bouts, activity), axis=0)
            for channel, axis in enumerate(row):
                axis.plot(size[:, channel], np.linspace(0, 1, len(size)), color=colour, label=name)
                axis.set_title(f"{activity} {CHANNELS[channel]}", fontsize=8)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("log10 of a window's standard deviation")
    _save(figure, path)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=55)
    _pyplot().close(figure)


def report(recorded: Sequence[Bout], made: Sequence[Bout]) -> str:
    """Return band power, gravity and window statistics of real and simulated bouts as text."""
    lines = ["band power, simulated over real in dB: median (10 %, 90 % quantile over subjects), worst channel"]
    for activity in ACTIVITIES:
        of_real, of_made = (np.quantile(band_levels(s, activity), [0.1, 0.5, 0.9], axis=0) for s in (recorded, made))
        difference = 10 * (of_made - of_real)
        worst = np.take_along_axis(difference, np.abs(difference).argmax(2)[:, :, None], 2)[:, :, 0]  # (3, bands)
        text = "  ".join(
            f"{low:g}-{high:g} Hz {middle:+.1f} ({least:+.1f}, {most:+.1f})"
            for (low, high), (least, middle, most) in zip(BANDS, worst.T, strict=True)
        )
        lines.append(f"  {activity:19s} {text}")
    lines.append("gravity, degrees at 10, 50, 90 %: sideways real | simulated; forward real | simulated")
    for activity in ACTIVITIES:
        of_real, of_made = (
            np.quantile(angles(gravity(s, activity)), [0.1, 0.5, 0.9], axis=0) for s in (recorded, made)
        )
        show = ["/".join(f"{v:.0f}" for v in quantiles[:, i]) for i in range(2) for quantiles in (of_real, of_made)]
        lines.append(f"  {activity:19s} {show[0]} | {show[1]};  {show[2]} | {show[3]}")
    of_real, of_made = (np.quantile(leans(s), [0.02, 0.1, 0.5, 0.9]) for s in (recorded, made))
    lines.append(f"sitting from standing, degrees at 2, 10, 50, 90 %: {np.round(of_real, 1)} | {np.round(of_made, 1)}")
    lines.append("distance of window statistics, real | simulated, mean and worst; real halves, mean")
    for activity in ACTIVITIES:
        (of_real, subjects), (of_made, _) = (window_statistics(s, activity) for s in (recorded, made))
        distances = twosample.distances(of_real, of_made)
        chance = twosample.halves(of_real, subjects).mean()
        lines.append(f"  {activity:19s} {distances.mean():.2f} {distances.max():.2f}; {chance:.2f}")
    return "\n".join(lines)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m research.simulator.compare",
        description="Draw and print how simulated wearables differ from recordings.",
    )
    parser.add_argument("--data", required=True, metavar="KIND:PATH", help="recordings, such as hapt:hapt.zip")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the four pictures")
    parser.add_argument(
        "--subjects", "--wearers", type=int, default=84, metavar="N", help="simulated subjects [default: 84]"
    )
    chosen = parser.parse_args(arguments)
    recorded, made = real(load(chosen.data)), simulated(chosen.subjects)
    chosen.out.mkdir(parents=True, exist_ok=True)
    pairs = [("real", recorded), ("simulated", made)]
    _draw_spectra(pairs, ACTIVITIES[:3], chosen.out / "simulator-gait.png")
    _draw_spectra(pairs, ACTIVITIES[3:], chosen.out / "simulator-posture.png")
    _draw_gravity(pairs, chosen.out / "simulator-gravity.png")
    _draw_windows(pairs, chosen.out / "simulator-windows.png")
    print(report(recorded, made))


if __name__ == "__main__":
    sys.exit(main())
