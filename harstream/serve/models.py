"""Models of the sources: each bundle is loaded once, so that sources which use the same one share its classifier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from harstream import shipped, trial
from harstream.classifier import Classifier
from harstream.config import RunConfig
from harstream.errors import BundleError

#: Name, time of modification (ns), size (bytes) and inode of each file in a folder.
FolderState = tuple[tuple[str, int, int, int], ...]


def load(
    config: RunConfig,
    present: Sequence[Classifier] = (),
    *,
    kept: Collection[str] = (),
    has_threads: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Classifier]:
    """Return the classifier of each source, loaded and verified (see ``trial``).

    Args:
        config: Settings.
        present: Classifiers in use, one for each source.
        kept: Models whose classifiers in use are taken again.
        has_threads: Whether threads work in this process.
        cancelled: Asked now and then during the trial of a process with threads; the trial ends if it returns True.

    Raises:
        BundleError: There is no such bundle, it is damaged, or its trial ended badly.
        ConfigError: The backend is unknown or not installed.

    """
    by_path: dict[Path, Classifier] = {}
    for source, classifier in zip(config.sources, present, strict=False):
        if source.model in kept:
            by_path[_path_of(source.model)] = classifier
    classifiers = []
    for source in config.sources:
        path = _path_of(source.model)
        if path not in by_path:
            by_path[path] = trial.load(source.model, config.backend, has_threads=has_threads, cancelled=cancelled)
        classifiers.append(by_path[path])
    return classifiers


def describe(classifiers: Sequence[Classifier]) -> str:
    """Return the models of the sources and their backends, each once, for people."""
    return ", ".join(dict.fromkeys(f"{each.bundle.id} ({each.backend})" for each in classifiers))


def names(classifiers: Sequence[Classifier]) -> str:
    """Return the ids of the models of the sources, each once."""
    return ", ".join(dict.fromkeys(each.bundle.id for each in classifiers))


def folder_states(config: RunConfig) -> dict[str, FolderState]:
    """Return the state of the folder of each model without reading its files; empty if there is no folder now."""
    return {source.model: _folder_state(source.model) for source in config.sources}


def _path_of(model: str) -> Path:
    return shipped.find(model).resolve()


def _folder_state(model: str) -> FolderState:
    try:
        folder = shipped.find(model)
        files = [(path, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    except (BundleError, OSError):
        return ()
    return tuple((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in files)
