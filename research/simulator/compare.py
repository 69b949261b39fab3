"""Simulated wearables beside real ones: ``python -m research.simulator.compare --data hapt:PATH --out docs/images``.

Draws power spectra per activity and channel, directions of gravity, and the distributions of single
windows, and prints the figures the pictures show. Statistics only; no recognition model.
"""

from __future__ import annotations

import argparse
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
from research.simulator import twosample

CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
#: Where power is compared, Hz: sway and turning, step, harmonics, rough.
BANDS = ((0.3, 1.1), (1.1, 5.0), (5.0, 12.0), (12.0, 24.0))
#: Cut from both ends of every bout, s: labels of recordings are set by eye.
TRIM_S = 1.5
WINDOW = 128
#: As in the recordings: bouts of an activity to a subject, and how long they last without their ends, s.
MOST = dict.fromkeys(GAITS, 3) | dict.fromkeys(POSTURES, 2)
LONGEST_S = dict.fromkeys(GAITS, 10.0) | {"WALKING": 16.0} | dict.fromkeys(POSTURES, 18.0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One activity of one subject, without its ends."""

    subject: str
    activity: str
    samples: Float  # (n_samples, 6) at 50 Hz, g and rad/s


def real(recordings: Sequence[Recording]) -> list[Stretch]:
    """The labelled stretches of recordings, each recording counting as a subject."""
    trim = round(TRIM_S * BASE_RATE_HZ)
    found = [
        Stretch(r.name, s.label, r.samples[s.start + trim : s.stop - trim].astype(np.float64))
        for r in recordings
        for s in r.segments
        if s.label in ACTIVITIES
    ]
    return [stretch for stretch in found if len(stretch.samples) >= SEGMENT]


def simulated(n_subjects: int, duration_s: float = 1500.0, first_seed: int = 0) -> list[Stretch]:
    """As many wearables, at twice the pace of a day, and as much of each as a recording has.

    A subject's mean power over many minutes holds rarer fidgets than over two bouts of 20 s, so at most
    MOST bouts of each activity are kept, each cut to LONGEST_S.
    """
    trim = round(TRIM_S * BASE_RATE_HZ)
    found = []
    for seed in range(first_seed, first_seed + n_subjects):
        taken = Wearable(seed, pace=2.0, first=ACTIVITIES[seed % len(ACTIVITIES)]).take(
            round(duration_s * BASE_RATE_HZ)
        )
        kept = dict.fromkeys(ACTIVITIES, 0)
        code = np.where(taken.in_transition, -1, taken.label)
        cuts = np.r_[0, np.flatnonzero(np.diff(code)) + 1, len(code)]
        for start, stop in pairwise(cuts):
            samples = taken.samples[start + trim : stop - trim].astype(np.float64)
            if code[start] < 0 or len(samples) < SEGMENT:
                continue
            activity = ACTIVITIES[code[start]]
            kept[activity] += 1
            if kept[activity] <= MOST[activity]:
                longest = round(LONGEST_S[activity] * BASE_RATE_HZ)
                found.append(Stretch(f"sim{seed}", activity, samples[:longest]))
    return found


def spectra(stretches: Sequence[Stretch], activity: str) -> tuple[Float, Float]:
    """Frequencies (n,) Hz and power densities (n_subjects, n, 6) of one activity, averaged within a subject."""
    by_subject: dict[str, list[Float]] = {}
    frequencies = np.zeros(0)
    for stretch in stretches:
        if stretch.activity == activity:
            frequencies, power = welch(stretch.samples, BASE_RATE_HZ, nperseg=SEGMENT, axis=0)
            by_subject.setdefault(stretch.subject, []).append(power)
    return frequencies, np.array([np.mean(found, 0) for found in by_subject.values()])


def band_levels(stretches: Sequence[Stretch], activity: str) -> Float:
    """(n_subjects, len(BANDS), 6) log10 of the power in each band."""
    frequencies, power = spectra(stretches, activity)
    inside = [(frequencies >= low) & (frequencies < high) for low, high in BANDS]
    step = frequencies[1] - frequencies[0]
    return np.asarray(np.log10(np.stack([power[:, band].sum(1) * step for band in inside], axis=1)), np.float64)


def gravity(stretches: Sequence[Stretch], activity: str) -> Float:
    """(n_stretches, 3) mean acceleration of each stretch (its median in postures), g."""
    middle = np.median if activity in POSTURES else np.mean
    return np.array([middle(s.samples[:, :3], axis=0) for s in stretches if s.activity == activity])


def angles(vectors: Float) -> Float:
    """(n, 3) -> (n, 2) degrees: tilt sideways (y against x) and forward (z against x)."""
    length = np.linalg.norm(vectors, axis=1)
    return np.asarray(np.degrees(np.arcsin(np.clip(vectors[:, 1:] / length[:, None], -1, 1))), np.float64)


def leans(stretches: Sequence[Stretch]) -> Float:
    """(n, ) degrees between each time a subject sat and that subject's mean standing posture."""
    out = []
    for subject in dict.fromkeys(s.subject for s in stretches):
        mine = [s for s in stretches if s.subject == subject]
        stand, sit = gravity(mine, "STANDING"), gravity(mine, "SITTING")
        if len(stand) and len(sit):
            mean = stand.mean(0) / np.linalg.norm(stand.mean(0))
            out += np.degrees(np.arccos(np.clip(sit @ mean / np.linalg.norm(sit, axis=1), -1, 1))).tolist()
    return np.array(out)


def window_sizes(stretches: Sequence[Stretch], activity: str) -> Float:
    """(n_windows, 6) log10 of the standard deviation within windows of 2.56 s."""
    found = [
        s.samples[start : start + WINDOW].std(0)
        for s in stretches
        if s.activity == activity
        for start in range(0, len(s.samples) - WINDOW + 1, WINDOW)
    ]
    return np.asarray(np.log10(np.maximum(np.array(found), 1e-5)), np.float64)


def window_statistics(stretches: Sequence[Stretch], activity: str) -> tuple[Float, list[str]]:
    """(n_windows, twosample.N_STATISTICS) of windows of 2.56 s, and whose each is."""
    found = [
        (twosample.statistics(s.samples[start : start + WINDOW]), s.subject)
        for s in stretches
        if s.activity == activity
        for start in range(0, len(s.samples) - WINDOW + 1, WINDOW)
    ]
    return np.array([table for table, _ in found]), [subject for _, subject in found]


def _draw_spectra(pairs: Sequence[tuple[str, Sequence[Stretch]]], activities: Sequence[str], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(len(activities), 6, figsize=(20, 3.0 * len(activities)), sharex=True, sharey="row")
    for row, activity in zip(axes, activities, strict=True):
        for (name, stretches), colour in zip(pairs, ("black", "tab:red"), strict=True):
            frequencies, power = spectra(stretches, activity)
            low, middle, high = np.quantile(power, [0.1, 0.5, 0.9], axis=0)
            for channel, axis in enumerate(row):
                axis.semilogy(frequencies[1:], middle[1:, channel], color=colour, lw=1, label=name)
                axis.fill_between(frequencies[1:], low[1:, channel], high[1:, channel], color=colour, alpha=0.2, lw=0)
                axis.set_title(f"{activity} {CHANNELS[channel]}", fontsize=8)
    axes[0, 0].legend(fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("Hz")
    _save(figure, path)


def _draw_gravity(pairs: Sequence[tuple[str, Sequence[Stretch]]], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(2, 4, figsize=(17, 8.5))
    for activity, axis in zip(ACTIVITIES, axes.flat, strict=False):
        for (name, stretches), colour in zip(reversed(pairs), ("tab:red", "black"), strict=True):
            at = angles(gravity(stretches, activity))
            axis.plot(at[:, 0], at[:, 1], ".", ms=3 if colour != "black" else 5, color=colour, alpha=0.5, label=name)
        axis.set(title=activity, xlabel="sideways, degrees", ylabel="forward, degrees")
        axis.legend(fontsize=8)
    for name, stretches in pairs:
        lean = leans(stretches)
        axes[1, 2].plot(
            np.sort(lean), np.linspace(0, 1, len(lean)), color="black" if name == "real" else "tab:red", label=name
        )
    axes[1, 2].set(title="sitting from standing, same subject", xlabel="degrees", ylabel="share below")
    axes[1, 2].legend(fontsize=8)
    for activity in POSTURES:
        for name, stretches in pairs:
            length = np.sort(np.linalg.norm(gravity(stretches, activity), axis=1))
            style = "-" if name == "real" else "--"
            axes[1, 3].plot(length, np.linspace(0, 1, len(length)), style, label=f"{activity} {name}")
    axes[1, 3].set(title="length of gravity", xlabel="g", ylabel="share below")
    axes[1, 3].legend(fontsize=7)
    _save(figure, path)


def _draw_windows(pairs: Sequence[tuple[str, Sequence[Stretch]]], path: Path) -> None:
    plt = _pyplot()
    figure, axes = plt.subplots(len(ACTIVITIES), 6, figsize=(20, 15), sharey=True)
    for row, activity in zip(axes, ACTIVITIES, strict=True):
        for (name, stretches), colour in zip(pairs, ("black", "tab:red"), strict=True):
            size = np.sort(window_sizes(stretches, activity), axis=0)
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


def report(genuine: Sequence[Stretch], made: Sequence[Stretch]) -> str:
    """Band power, gravity and window size, real against simulated, as text."""
    lines = ["band power, simulated over real in dB: median (10 %, 90 % quantile over subjects), worst channel"]
    for activity in ACTIVITIES:
        there, here = (np.quantile(band_levels(s, activity), [0.1, 0.5, 0.9], axis=0) for s in (genuine, made))
        apart = 10 * (here - there)
        worst = np.take_along_axis(apart, np.abs(apart).argmax(2)[:, :, None], 2)[:, :, 0]  # (3, bands)
        text = "  ".join(
            f"{low:g}-{high:g} Hz {middle:+.1f} ({least:+.1f}, {most:+.1f})"
            for (low, high), (least, middle, most) in zip(BANDS, worst.T, strict=True)
        )
        lines.append(f"  {activity:19s} {text}")
    lines.append("gravity, degrees at 10, 50, 90 %: sideways real | simulated; forward real | simulated")
    for activity in ACTIVITIES:
        there, here = (np.quantile(angles(gravity(s, activity)), [0.1, 0.5, 0.9], axis=0) for s in (genuine, made))
        show = ["/".join(f"{v:.0f}" for v in quantiles[:, i]) for i in range(2) for quantiles in (there, here)]
        lines.append(f"  {activity:19s} {show[0]} | {show[1]};  {show[2]} | {show[3]}")
    there, here = (np.quantile(leans(s), [0.02, 0.1, 0.5, 0.9]) for s in (genuine, made))
    lines.append(f"sitting from standing, degrees at 2, 10, 50, 90 %: {np.round(there, 1)} | {np.round(here, 1)}")
    lines.append("distance of window statistics, real | simulated, mean and worst; real halves, mean")
    for activity in ACTIVITIES:
        (there, of), (here, _) = (window_statistics(s, activity) for s in (genuine, made))
        apart = twosample.distances(there, here)
        chance = twosample.halves(there, of).mean()
        lines.append(f"  {activity:19s} {apart.mean():.2f} {apart.max():.2f}; {chance:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw simulated wearables beside recordings.")
    parser.add_argument("--data", required=True, metavar="KIND:PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--wearers", type=int, default=84)
    arguments = parser.parse_args()
    genuine, made = real(load(arguments.data)), simulated(arguments.subjects)
    arguments.out.mkdir(parents=True, exist_ok=True)
    pairs = [("real", genuine), ("simulated", made)]
    _draw_spectra(pairs, ACTIVITIES[:3], arguments.out / "simulator-gait.png")
    _draw_spectra(pairs, ACTIVITIES[3:], arguments.out / "simulator-posture.png")
    _draw_gravity(pairs, arguments.out / "simulator-gravity.png")
    _draw_windows(pairs, arguments.out / "simulator-windows.png")
    print(report(genuine, made))


if __name__ == "__main__":
    main()
