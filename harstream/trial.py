"""Trial of a bundle: a process of its own loads and verifies it before this one does.

A model is computed by native code, which checks it incompletely: one changed byte of a .tflite file can end the
process by a signal, keep it busy for ever, or make it take all memory. The golden streams find such a file, but the
process that runs them must not be the one that serves. The process of a trial has limits of time and memory, and what
the model does to it ends with it.

At the start of a program the process is a copy of the present one (``os.fork``), which costs a tenth of a second. A
copy of a process with threads lacks the threads and keeps their locks, so a daemon that serves starts a new Python
instead, which costs a second or two.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from harstream import bundle as bundles
from harstream import golden, shipped
from harstream.bundle import BACKEND_FILES, KERAS
from harstream.classifier import BATCH_SIZES, Classifier, open_classifier
from harstream.errors import BundleError, ConfigError, HarstreamError, one_line

#: Seconds after which a trial is ended. It takes 0.1 s, or with TensorFlow some ten seconds.
TIMEOUT_S = 60
#: Memory that a trial may take, in bytes: for reading and verifying, with TensorFlow's 320 MB or without; and for each
#: byte of the model, of which each interpreter keeps a copy in an order of its own.
_MEMORY_BYTES, _TENSORFLOW_BYTES, _BYTES_PER_MODEL_BYTE = 2**29, 2**30, 2 * len(BATCH_SIZES)
_LOOK_EVERY_S = 0.2
_ERRORS: dict[str, type[HarstreamError]] = {"BundleError": BundleError, "ConfigError": ConfigError}
_RESTORE = "restore the bundle's files, or train it again"
#: Program of a new Python, which finds modules where this one does.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from harstream import trial; trial.main()"


def load(
    model: str | Path,
    backend: str = "auto",
    *,
    has_threads: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Classifier:
    """Find, try, load, open and verify a bundle, and return its classifier, ready to serve.

    Args:
        model: The name of a shipped bundle, or a folder.
        backend: As for ``classifier.open_classifier``.
        has_threads: Whether threads work in this process, so that it must not be copied.
        cancelled: Asked now and then during the trial of a process with threads; the trial ends if it returns True.

    Raises:
        BundleError: There is no such bundle, it is damaged, or its trial ended badly.
        ConfigError: The backend is unknown or not installed.

    """
    path = shipped.find(str(model))
    try:
        if has_threads or "tensorflow" in sys.modules:  # it has threads that Python does not know
            report = _try_in_new_process(path, backend, cancelled)
        else:
            report = _try_in_copy(path, backend)
    except OSError as error:
        raise BundleError(f"{path}: no process can be started that verifies it: {error.strerror}") from error
    bundle = bundles.load(path)
    file = BACKEND_FILES[report["backend"]]
    if bundle.files.get(file) != report["sha256"]:
        raise BundleError(f"{path / file}: it changed after it was verified; try again when it is complete")
    classifier = open_classifier(bundle, report["backend"])
    golden.verify(classifier, BATCH_SIZES)
    return classifier


def _try_in_copy(path: Path, backend: str) -> dict[str, str]:
    """Return the report of a trial in a copy of this process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads: those of BLAS, which expect a fork
        child = os.fork()
    if child == 0:
        _report(path, backend, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 (a descriptor, no path)
        report = pipe.read()  # until the process has ended
    status = 0
    with suppress(ChildProcessError):  # SIGCHLD is ignored, and the process gone
        _, status = os.waitpid(child, 0)
    return _read_report(report, os.waitstatus_to_exitcode(status), path)


def _try_in_new_process(path: Path, backend: str, cancelled: Callable[[], bool]) -> dict[str, str]:
    """Return the report of a trial in a new Python."""
    command = [sys.executable, "-P", "-c", _PROGRAM, json.dumps(list(map(str, sys.path))), str(path), backend]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        while True:
            try:
                report, _ = process.communicate(timeout=_LOOK_EVERY_S)
                return _read_report(report, process.returncode, path)
            except subprocess.TimeoutExpired:
                if cancelled():
                    process.kill()


def main() -> NoReturn:
    """Try the bundle in a folder with a backend, the last two arguments; write the report to standard output."""
    with suppress(OSError):
        os.nice(10)  # labels come first
    _report(Path(sys.argv[2]), sys.argv[3], os.dup(1))


def _report(path: Path, backend: str, writing: int) -> NoReturn:
    """Load and verify a bundle within limits, write the report to a file descriptor, and end this process."""
    try:
        _limit()
        try:
            report = _verify(path, backend)
        except HarstreamError as error:
            report = {"error": type(error).__name__, "message": str(error)}
        except MemoryError:
            report = {"error": "BundleError", "message": f"{path}: it needs too much memory; {_RESTORE}"}
        except BaseException as error:
            text = f"{path}: {type(error).__name__}: {one_line(error)}; {_RESTORE}"
            report = {"error": "BundleError", "message": text}
        with open(writing, "wb") as pipe:
            pipe.write(json.dumps(report).encode())
    finally:
        os._exit(0)


def _verify(path: Path, backend: str) -> dict[str, str]:
    """Load and verify a bundle. Return the backend chosen, and the sha256 of the file that it computes."""
    bundle = bundles.load(path)
    chosen = bundle.best_backend if backend == "auto" else backend
    file = BACKEND_FILES.get(chosen, "")
    if file in bundle.files:
        model_bytes = (path / file).stat().st_size
        _limit_memory((_TENSORFLOW_BYTES if file == KERAS else _MEMORY_BYTES) + _BYTES_PER_MODEL_BYTE * model_bytes)
    golden.verify(open_classifier(bundle, chosen), BATCH_SIZES)
    return {"backend": chosen, "sha256": bundle.files[file]}


def _limit() -> None:
    """Let this process end by itself after a while, take limited memory, dump no core, and write nothing."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.alarm(TIMEOUT_S)  # not in Python, so that it also ends native code
    faulthandler.disable()
    logging.disable()  # a thread that this process lacks may have held a lock of the log
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    with suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather this process than the one that serves
    _limit_memory(_MEMORY_BYTES)


def _limit_memory(more_bytes: int) -> None:
    """Let this process take ``more_bytes`` of memory beyond what it has."""
    with suppress(OSError, ValueError):  # a sandbox may forbid it
        has_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (has_bytes + more_bytes, hard))


def _read_report(report: bytes, exit_code: int, path: Path) -> dict[str, str]:
    """Return the report of a trial that went well. Raise the error that it reports, or one that tells how it ended."""
    try:
        content: dict[str, str] = json.loads(report)
    except ValueError:  # it ended before it had written the report
        raise BundleError(f"{path}: {_describe_end(exit_code)}; {_RESTORE}") from None
    if "error" in content:
        raise _ERRORS.get(content["error"], BundleError)(content["message"])
    return content


def _describe_end(exit_code: int) -> str:
    if exit_code == -signal.SIGALRM:
        return f"its model was not verified within {TIMEOUT_S} s"
    if exit_code >= 0:
        return f"the process that verified its model ended with exit code {exit_code}"
    with suppress(ValueError):
        return f"its model ended the process that verified it by {signal.Signals(-exit_code).name}"
    return f"its model ended the process that verified it by signal {-exit_code}"
