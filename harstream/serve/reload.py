"""Reload of settings and model while the daemon runs: on SIGHUP, or after a change of the model's folder."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable

from harstream import logs, shipped, trial
from harstream.config import OPTIONS, RunConfig
from harstream.errors import BundleError, HarstreamError
from harstream.serve.daemon import Daemon

log = logging.getLogger("harstream")

#: Seconds between two looks at the model's folder. A change counts after the folder stayed the same for one interval.
WATCH_EVERY_S = 2.0
#: Name, time of modification (ns), size (bytes) and inode of each file in a folder.
FolderState = tuple[tuple[str, int, int, int], ...]


def folder_state(model: str) -> FolderState:
    """Return the state of the model's folder without reading its files; empty if there is no folder now."""
    try:
        folder = shipped.find(model)
        files = [(path, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    except (BundleError, OSError):
        return ()
    return tuple((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in files)


class Reloader:
    """Thread that reloads settings and model, so that nothing else waits while a model is verified.

    A process of its own verifies a model first (see ``trial``). A model or setting that cannot be used is refused,
    logged and counted, and the daemon goes on as before.

    Args:
        daemon: Daemon to be changed.
        read_config: Reads the settings again. Without it only the model is reloaded.
        loaded: State of the model's folder before the daemon's classifier was loaded; default: the present state.

    """

    def __init__(
        self, daemon: Daemon, read_config: Callable[[], RunConfig] | None = None, loaded: FolderState | None = None
    ) -> None:
        self._daemon = daemon
        self._read_config = read_config
        self._requested = threading.Event()
        self._closing = False
        # State of the folder when the model was loaded, and at the last look.
        self._loaded = self._seen = folder_state(daemon.config.model) if loaded is None else loaded
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self) -> None:
        """Ask the thread to reload settings and model, changed or not. Any thread may call this."""
        self._requested.set()

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._requested.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            requested = self._requested.wait(WATCH_EVERY_S)
            if self._closing:
                return
            self._requested.clear()
            changed = self.folder_changed()
            if requested or changed:
                self._daemon.notifier.reloading()
                reason = "SIGHUP" if requested else "the model's folder changed"
                model = self.reload(reason, settings_too=requested)
                self._daemon.notifier.ready(model or self._daemon.pipeline.classifier.bundle.id)

    def folder_changed(self) -> bool:
        """Return whether the model's folder differs from the loaded one, and is the same as at the last look.

        A change is reported once, whether or not the new model can be used. While files are written there, the folder
        differs from look to look, and no change is reported.
        """
        state = folder_state(self._daemon.config.model)
        changed = state not in (self._loaded, ()) and state == self._seen
        self._seen = state
        if changed:
            self._loaded = state
        return changed

    def reload(self, reason: str, settings_too: bool = True) -> str | None:
        """Reload now, in the calling thread.

        Args:
            reason: Beginning of the log line.
            settings_too: Whether to read the settings again, not only the model.

        Returns:
            Id of the new model, or None if the reload was refused.

        """
        daemon = self._daemon
        try:
            config = daemon.config
            if settings_too and self._read_config is not None:
                config = self._merge(config, self._read_config())
            state = folder_state(config.model)  # taken before loading, so that a change meanwhile is noticed later
            classifier = trial.load(config.model, config.backend, has_threads=True, cancelled=lambda: self._closing)
            daemon.change_model(config, classifier)
        except Exception as error:
            if self._closing:  # the trial was given up
                return None
            daemon.metrics.observe_reload("refused")
            expected = isinstance(error, HarstreamError | OSError)
            log.error(
                "%s: reload refused, settings and model stay as they are: %s", reason, error, exc_info=not expected
            )
            return None
        logs.set_up(config.log_level, config.log_format)
        self._loaded = state
        daemon.metrics.observe_reload("done")
        log.info("%s: reloaded, the model is now %s (%s)", reason, classifier.bundle.id, classifier.backend)
        return classifier.bundle.id

    @staticmethod
    def _merge(current: RunConfig, new: RunConfig) -> RunConfig:
        """Return the current settings, with the new values of those that can change in a running daemon."""
        names = [field.name for field in dataclasses.fields(RunConfig)]
        changed = [name for name in names if getattr(current, name) != getattr(new, name)]
        ignored = [name for name in changed if not OPTIONS[name].reloadable]
        if ignored:
            flags = ", ".join(OPTIONS[name].flag for name in ignored)
            log.warning("restart harstream to apply the changed settings: %s", flags)
        return dataclasses.replace(
            current, **{name: getattr(new, name) for name in changed if OPTIONS[name].reloadable}
        )
