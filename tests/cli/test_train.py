"""`harstream train`: bundles, sweeps and refused options."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")

from harstream import interruption
from harstream.cli import main
from harstream.datasets import hapt
from harstream.datasets.windows import LabelledWindows
from harstream.train.validation import pool
from harstream.train.validation.task import FoldResult, hold_out

from ..made_recordings import PLAIN, hold_out_without_fit, subject, write_csv

SMALL = ["--arch", "mlp", "--epochs", "1", "--set", "units=4", "--set", "folds=2"]
SMALL += [word for name in PLAIN for word in ("--set", f"{name}=0")]


def train(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every --data return synthetic recordings."""
    monkeypatch.setattr("harstream.datasets.load", lambda data: [subject(f"{n:02d}", n) for n in range(1, 5)])
    return "csv:/some/where/sessions"


def test_a_sweep_writes_results_table_and_plot_and_is_not_done_twice(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", hold_out_without_fit)
    command = ["--data", data, "--out", tmp_path / "units", *SMALL, "--sweep", "units=2,3"]
    done = train(*command, "--seed", 7)
    assert done.exit_code == 0, done.output
    assert "4/4 units=3: seed 7, fold 2: accuracy" in done.output
    data_of = json.loads((tmp_path / "units/results.json").read_text())
    assert [row["name"] for row in data_of["rows"]] == ["units=2", "units=3"]
    assert data_of["commands"] == [
        "harstream train --data csv:sessions --out units --arch mlp --epochs 1 --seed 7 --set units=4 --set folds=2 "
        + " ".join(f"--set {name}=0" for name in PLAIN)
        + " --sweep units=2,3"
    ]
    table = (tmp_path / "units/table.md").read_text()
    assert "| units=3 | " in table
    assert (tmp_path / "units/boxplot.png").stat().st_size > 1000

    monkeypatch.setattr(pool, "hold_out", lambda *_: pytest.fail("it was done already"))
    assert train(*command, "--seed", 7, "--jobs", 3).exit_code == 0
    assert (tmp_path / "units/table.md").read_text() == table


def test_after_ctrl_c_the_same_command_continues_the_training(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data", data, "--out", tmp_path / "mine", *SMALL, "--json", tmp_path / "figures.json"]
    command += ["--channels", "total_acc"]
    done: list[FoldResult] = []

    def interrupted(*arguments: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(hold_out(*arguments))
        return done[0]

    monkeypatch.setattr(pool, "hold_out", interrupted)
    stopped = train(*command)
    assert stopped.exit_code == 130
    assert "the same command continues it" in stopped.output
    assert not (tmp_path / "mine").exists()

    def second(*arguments: Any) -> Any:
        assert arguments[1].held_out != done[0].held_out
        return hold_out(*arguments)

    monkeypatch.setattr(pool, "hold_out", second)
    finished = train(*command, "--logs", tmp_path / "logs", "--note", "Chosen by lot.")
    assert finished.exit_code == 0, finished.output
    assert "on subjects not trained on (2 folds by subject, 1 seeds)" in finished.output
    assert not (tmp_path / "mine.work").exists()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["runs"][0]["folds"][0]["held_out"] == list(done[0].held_out)
    assert {"history.json", "curves.png", "tensorboard"} <= {path.name for path in (tmp_path / "logs").iterdir()}
    signal = json.loads((tmp_path / "mine/bundle.json").read_text())["signal"]
    assert signal["channels"] == ["total_acc_x", "total_acc_y", "total_acc_z"]
    card = (tmp_path / "mine/README.md").read_text()
    assert "Chosen by lot." in card
    assert (
        f"calibration error of a fold, with the temperature of the other folds, is {figures['calibration_error']:.4f}"
        in card.replace("\n", " ")
    )
    assert "HAPT" not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sweep", "filterz=1,2"], "row 'filterz=1': no setting 'filterz'"),
        (["--sweep", "epochs"], "--sweep: expected NAME=A,B,C, got 'epochs'"),
        (["--variant", "arch"], "--variant: expected NAME=VALUE, got 'arch'"),
        (["--sweep", "epochs=1", "--json", "x.json"], "--json: it applies to a bundle"),
        (["--sweep", "epochs=1", "--states"], "--states: it applies to a bundle"),
        (["--sweep", "epochs=1", "--orientation", "any"], "--orientation: it applies to a bundle"),
        (["--variant", "epochs=1", "--version", "2"], "--version: it applies to a bundle"),
        (["--states"], "--states: csv names no states between labels"),
        (["--worn", "waist\nwrist"], "--worn: expected one line of printable text, got 'waist\\nwrist'"),
        (["--version", ""], "--version: expected a text that is not empty"),
        (["--channels", "total_acc,magnetometer"], "channels: 'magnetometer'"),
        (["--set", "window_samples=0"], "window_samples: 0"),
        (["--set", "seed=1"], "seed: not a setting"),
        (["--folds", "data"], "--folds data: it holds out whole data sets, but there is only one"),
    ],
)
def test_options_without_sense_are_one_line_and_exit_2(
    data: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = train("--data", data, "--out", tmp_path / "out", *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_what_a_bundle_says_about_itself_is_given_by_options(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def stopped(*_: Any, **named: Any) -> None:
        given.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr("harstream.train.pipeline.train", stopped)
    options = ["--states", "--version", "2.0.0", "--worn", "a phone at the waist", "--orientation", "any"]
    train("--data", "hapt:/some/where", "--out", tmp_path / "mine", *SMALL, *options)
    assert given["states"] == hapt.STATES
    assert (given["version"], given["placement"], given["orientation"]) == ("2.0.0", "a phone at the waist", "any")


def test_a_label_of_the_name_of_a_state_is_refused_before_the_recordings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harstream.datasets.load", lambda data: pytest.fail(f"{data} was read"))
    (tmp_path / "table.json").write_text('{"SITTING": [], "STANDING": [], "SIT_TO_STAND": []}')
    command = ["--data", "hapt:x", "--out", tmp_path / "out", "--labels", tmp_path / "table.json", "--states"]
    result = train(*command)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "--states: SIT_TO_STAND would be a label and a state between labels" in result.output


def test_an_activity_of_own_recordings_may_be_a_state_of_another_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published set has the labels and names the states; the own recordings have the transition as an activity."""
    names = {"hapt": {"STILL": "SITTING", "MOVING": "WALKING"}, "csv": {"STILL": "SITTING", "MOVING": "SIT_TO_STAND"}}
    given: dict[str, Any] = {}

    def load(data: str) -> list[Any]:
        own = names[data.partition(":")[0]]
        people = [subject(f"{n:02d}", n) for n in range(1, 3)]
        return [replace(p, segments=tuple(replace(s, label=own[s.label]) for s in p.segments)) for p in people]

    def stopped(*_: Any, **named: Any) -> None:
        given.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr("harstream.datasets.load", load)
    monkeypatch.setattr("harstream.train.pipeline.train", stopped)
    train("--data", "hapt:x", "--data", "csv:trans", "--out", tmp_path / "out", *SMALL, "--states")
    assert given["table"].labels == hapt.LABELS
    assert "SIT_TO_STAND" in given["states"]


def test_a_signal_ends_it_with_the_exit_code_of_the_signal(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_to_stop(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        interruption.check()  # as the loop of a fit does

    monkeypatch.setattr(pool, "hold_out", asked_to_stop)
    stopped = train("--data", data, "--out", tmp_path / "mine", *SMALL)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert "the same command continues it" in stopped.output


def test_a_place_that_cannot_be_written_is_refused_before_the_work(data: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for option, place, message in (
        ("--out", tmp_path / "file", "is not a folder"),
        ("--logs", tmp_path / "file", "is not a folder"),
        ("--json", tmp_path, "is a folder, not a file"),
        ("--out", tmp_path / "file/mine", "File exists"),
    ):
        result = train("--data", data, *SMALL, "--out", tmp_path / "mine", option, place)
        assert (result.exit_code, result.output) == (2, f"harstream: {option}: {place}: {message}\n")
    result = train("--data", data, "--out", tmp_path / "file", *SMALL, "--sweep", "units=2,3")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_recordings_of_different_rates_are_trained_on_at_the_rate_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [subject("01", 1), subject("02", 2, rate_hz=25.0), replace(subject("03", 3), has_gyro=False)]
    monkeypatch.setattr("harstream.datasets.load", lambda data: mixed)
    seen: list[Any] = []

    def seen_and_stopped(*arguments: Any) -> None:
        seen.append(arguments[1].spec)
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "hold_out", seen_and_stopped)
    command = ["--data", "csv:x", "--out", tmp_path / "mine", *SMALL]
    assert "such as --set sample_rate_hz=25" in train(*command).output
    assert train(*command, "--set", "sample_rate_hz=25").exit_code == 130
    assert (seen[0].sample_rate_hz, seen[0].n_channels) == (25.0, 6)


def test_published_windows_cannot_be_split_by_subject(tmp_path: Path) -> None:
    (tmp_path / "windows").mkdir()
    result = train("--data", f"uci-har:{tmp_path / 'windows'}", "--out", tmp_path / "out")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "recordings are needed" in result.output


def test_a_bundle_and_a_sweep_need_folders_of_their_own(data: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").touch()
    result = train("--data", data, "--out", tmp_path, *SMALL)
    assert result.exit_code == 2
    assert "holds a sweep" in result.output
    (tmp_path / "results.json").unlink()
    (tmp_path / "bundle.json").touch()
    result = train("--data", data, "--out", tmp_path, *SMALL, "--sweep", "epochs=1")
    assert result.exit_code == 2
    assert "holds a bundle" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.json"]


def test_only_the_subjects_named_are_trained_on(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def seen_and_stopped(prepared: Any, *_: Any) -> None:
        seen.update(prepared.training.subject.tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "hold_out", seen_and_stopped)
    train("--data", data, "--out", tmp_path / "x", *SMALL, "--sweep", "units=2", "--subjects", "01,03,04")
    assert seen == {"01", "03", "04"}
    found = json.loads((tmp_path / "x/results.json").read_text())
    assert found["wearers"] == ["01", "03", "04"]
    assert "--subjects 01,03,04" in found["commands"][0]
    assert train("--data", data, "--out", tmp_path / "y", *SMALL, "--wearers", "09").exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train-only", "nope"], "--train-only: no data set is called 'nope': the data sets are hapt, csv"),
        (
            ["--train-only", "hapt", "--train-only", "csv"],
            "--train-only: it names every data set (hapt, csv), so that none is left to validate on",
        ),
        (
            ["--folds", "data", "--train-only", "csv"],
            "only one to hold out (hapt): take one out of --train-only, or choose --folds subject",
        ),
        (["--placement", "wrist"], "no recording has the placement 'wrist': the placements are waist"),
        (["--placement", "hapt:wrist"], "'hapt:wrist': the placements of hapt are waist"),
        (["--placement", "csv:waist"], "'csv:waist': no data of csv with a placement is given; leave --placement csv"),
    ],
)
def test_what_the_names_of_the_data_sets_rule_out_is_said_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("harstream.datasets.load", lambda data: pytest.fail(f"{data} was read"))
    result = train("--data", "hapt:x", "--data", "csv:y", "--out", tmp_path / "out", *arguments)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert message in result.output


def test_activities_in_place_of_subjects_are_refused_before_a_fit_and_after_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", lambda *_: pytest.fail("a network was fitted"))
    people = [subject(name, n) for n, name in enumerate(("anna", "ben"))]
    parts = [
        replace(one, name=f"{segment.label.lower()}_{one.subject}", segments=(segment,))
        for one in people
        for segment in one.segments
    ]
    done = train("--data", write_csv(tmp_path / "own", parts), "--out", tmp_path / "x", *SMALL)
    assert done.exit_code == 2
    assert "doubt: subjects are named like activities: moving, still like MOVING, STILL" in done.output
    assert done.output.splitlines()[-1].startswith(
        "harstream: nothing can be validated, as the subjects held out share no label (moving has MOVING; still has "
        "STILL): record each label with several subjects, and name csv files SUBJECT_ACTIVITY.csv"
    )


def test_other_spellings_are_one_label_and_named(tmp_path: Path, seen: list[LabelledWindows]) -> None:
    data = write_csv(tmp_path / "own", [subject("anna", 1), subject("ben", 2)])
    path = tmp_path / "own/ben_1.csv"
    path.write_text(path.read_text().replace("STILL", "Still"))
    done = train("--data", data, "--out", tmp_path / "x", *SMALL)
    assert "note: STILL: also spelled Still\n" in done.output
    assert "doubt: " not in done.output
    assert seen[0].labels == ("MOVING", "STILL")


@pytest.mark.parametrize("fault", ["labels", "rates"])
def test_what_was_understood_is_printed_before_an_error(tmp_path: Path, fault: str) -> None:
    people = [subject("anna", 1), subject("ben", 2, 50.0 if fault == "labels" else 25.0)]
    names = {"STILL": "", "MOVING": "A"} if fault == "labels" else {}
    done = train("--data", write_csv(tmp_path / "own", people, names), "--out", tmp_path / "x", *SMALL)
    assert done.exit_code == 2
    assert "subject  recordings" in done.output
    last = "the recordings have 1 known labels (A)" if fault == "labels" else "25"
    assert last in done.output.splitlines()[-1]


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Return --data twice: two subjects who stand and walk, and two of the same names who sit and jump."""
    people = [subject(f"{n:02d}", n) for n in range(1, 5)]
    others = [replace(one, name=f"{two.subject}_1") for one, two in zip(people[2:], people, strict=False)]
    one = write_csv(tmp_path / "lab", people[:2], {"STILL": "Standing", "MOVING": "WALKING"})
    two = write_csv(tmp_path / "home", others, {"STILL": "SITTING", "MOVING": "JUMPING"})
    return ["--data", one, "--data", two]


def test_a_bundle_of_several_data_sets_knows_what_its_labels_cover(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"CALM": ["STANDING", "SITTING"], "WALKING": []}
    (tmp_path / "table.json").write_text(json.dumps(table))
    out = tmp_path / "mine"
    command = [*folders, "--out", out, *SMALL, "--labels", tmp_path / "table.json", "--channels", "total_acc"]
    monkeypatch.setattr(pool, "hold_out", hold_out_without_fit)
    monkeypatch.setattr("harstream.train.fitting.architectures.LARGE", 1000)
    monkeypatch.setattr(pool, "_fits_per_process", lambda tasks: 20)  # or other processes would fit
    balance = ["--set", "balance_sets=true", "--set", "set_windows=50", "--set", "class_weights=true"]
    done = train(*command, *balance, "--folds", "data", "--repeats", 2, "--json", tmp_path / "figures.json")
    assert done.exit_code == 0, done.output
    assert "note: csv:home: no label covers JUMPING (32 s)" in done.output
    assert done.output.count("|acc| at rest") == 2  # both data sets are described before the work
    n_parameters = json.loads((out / "bundle.json").read_text())["training"]["parameters"]
    assert f"network: mlp, {n_parameters:,} parameters\ndoubt: so many take long to train, and 0.0 GB" in done.output
    assert "on data sets not trained on (2 folds by data set, 2 seeds)" in done.output
    assert "mean of the data sets" in done.output
    assert "note: WALKING is in csv:lab only" in done.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["by_data"]) == {"csv:lab", "csv:home"}
    assert set(figures["by_data"]["csv:home"]["recall"]) == {"CALM"}
    content = json.loads((out / "bundle.json").read_text())
    assert content["covers"] == table
    assert content["smoothing"]["dwell_s"] == 10
    assert content["training"]["data"] == ["csv:lab", "csv:home"]
    assert content["training"]["subjects"] == ["csv:home/01", "csv:home/02", "csv:lab/01", "csv:lab/02"]
    card = (out / "README.md").read_text()
    assert "from `csv:lab, csv:home`" in card
    assert "- csv:home: no label covers JUMPING (32 s)." in card
    assert "| mean of the data sets |" in card
    assert "Each data set, with all its subjects, is held out once per seed." in card
    assert card.count("are not\nknown to harstream") == 1

    scored = CliRunner().invoke(main, ["evaluate", "--model", str(out), folders[2], folders[3]])
    assert "trained on 2 of these 2 subjects" in scored.output, scored.output
    assert "windows 22, accuracy" in scored.output


def test_a_sweep_of_several_data_sets_is_repeated_by_its_command(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", hold_out_without_fit)
    command = [*folders, "--out", tmp_path / "sweep", *SMALL, "--labels", "phone", "--folds", "data"]
    done = train(*command, "--sweep", "units=2")
    assert done.exit_code == 0, done.output
    assert "1/2 units=2: seed 0, csv:home: accuracy" in done.output
    found = json.loads((tmp_path / "sweep/results.json").read_text())
    assert found["data"] == "csv:lab, csv:home"
    assert found["rows"][0]["labels"] == ["STILL", "WALKING"]
    assert "--data csv:lab --data csv:home --labels phone" in found["commands"][0]
    assert "--folds data" in found["commands"][0]


def test_data_sets_of_which_nothing_is_left_are_named_in_notes_and_not_among_the_data_trained_on(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "hold_out", hold_out_without_fit)
    out = tmp_path / "mine"
    command = [*folders, *SMALL, "--subjects", "csv:lab/01,csv:lab/02"]
    done = train(*command, "--out", out, "--channels", "total_acc")
    assert done.exit_code == 0, done.output
    note = "csv:home: 2 recordings of 2 subjects who were not chosen: left out"
    assert done.output.count(f"note: {note}\n") == 1
    content = json.loads((out / "bundle.json").read_text())
    assert content["labels"] == ["Standing", "WALKING"]
    assert content["training"]["data"] == "csv:lab"
    card = (out / "README.md").read_text()
    assert "from `csv:lab`" in card
    assert f"- {note}." in card

    done = train(*command, "--out", tmp_path / "sweep", "--sweep", "units=2")
    assert done.output.count(f"note: {note}\n") == 1
    assert json.loads((tmp_path / "sweep/results.json").read_text())["data"] == "csv:lab"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[LabelledWindows]:
    """Return the list of the windows scored, of trainings that end before the first fit."""
    windows: list[LabelledWindows] = []

    def keep_and_stop(prepared: Any, *_: Any) -> None:
        windows.append(prepared.scored)
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "hold_out", keep_and_stop)
    return windows


def test_without_a_table_a_similar_name_of_another_data_set_is_no_label_of_its_own(
    tmp_path: Path, seen: list[LabelledWindows]
) -> None:
    people = [subject(f"{n:02d}", n) for n in range(1, 3)]
    one = write_csv(tmp_path / "one", people[:1])
    two = write_csv(tmp_path / "two", people[1:], {"STILL": "still", "MOVING": "Running"})
    train("--data", one, "--data", two, "--out", tmp_path / "out", *SMALL)
    assert seen[0].labels == ("MOVING", "STILL", "Running")
    assert set(seen[0].data_set) == {"csv:one", "csv:two"}
    assert [(seen[0].label == index).sum() for index in range(3)] == [11, 22, 11]


def test_recordings_without_a_needed_gyroscope_are_left_out_with_a_note(
    tmp_path: Path, seen: list[LabelledWindows]
) -> None:
    people = [subject(f"{n:02d}", n) for n in range(1, 4)]
    one = write_csv(tmp_path / "one", people[:2])
    two = write_csv(tmp_path / "two", [replace(people[2], has_gyro=False)])
    command = ["--data", one, "--data", two, "--out", tmp_path / "out", *SMALL, "--channels", "gyro,total_acc"]
    for more in ([], ["--sweep", "units=2"]):
        done = train(*command, *more)
        assert "note: csv:two: 1 recordings of 1 subjects were made without the gyroscope" in done.output
        assert set(seen.pop().subject) == {"csv:one/01", "csv:one/02"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "pone"], "--labels: pone: "),
        (["--labels", "twice.json"], "--labels: twice.json: 'A' is there more than once"),
        (["--labels", "clash.json"], "--labels: clash.json: both 'A' and 'B' cover 'C'"),
        (["--labels", "none.json"], "--labels: none.json: labels: expected at least two, all different, got []"),
        (["--labels", "single.json"], "--labels: single.json: labels: expected at least two, all different, got ['A']"),
        (["--labels", "kind.json"], "--labels: kind.json: A: kind of data in 'csvv:C': 'csvv' is not one of hapt, "),
        (["--labels", "deep.json"], "--labels: deep.json: maximum recursion depth exceeded"),
        (["--spec", "deep.json"], "--spec: deep.json: maximum recursion depth exceeded"),
        (["--labels", "other.json"], "found 0 of SWIMMING, DIVING"),
        (["--labels", "lab.json"], "csv:home: no window of 128 samples lies inside an activity with one of the labels"),
        (["--subjects", "csv:lab/01,csv:lab/02", "--train-only", "csv:home"], "no data set is called 'csv:home'"),
        (["--subjects", "01"], "subject '01' has no recording: the subjects are csv:home/01, csv:home/02, csv:lab/01"),
        (
            ["--folds", "data", "--subjects", "csv:lab/01,csv:lab/02"],
            "only one to hold out (csv:lab): choose subjects of another one too, or choose --folds subject",
        ),
    ],
)
def test_what_several_data_sets_cannot_be_trained_with_is_named(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "twice": '{"A": [], "A": ["B"]}',
        "clash": '{"A": ["C"], "B": ["C"]}',
        "none": "{}",
        "single": '{"A": ["B", "C"]}',
        "kind": '{"A": ["uci-har:B", "csvv:C"], "B": []}',
        "deep": f'{{"A": {"[" * 100_000}{"]" * 100_000}}}',
        "other": '{"SWIMMING": [], "DIVING": []}',
        "lab": '{"STANDING": [], "WALKING": []}',
    }.items():
        Path(f"{name}.json").write_text(text)
    result = train(*folders, "--out", tmp_path / "out", *SMALL, *arguments)
    assert result.exit_code == 2
    assert message in result.output.splitlines()[-1]
