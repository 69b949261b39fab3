"""Settings and models exchanged under way: by SIGHUP, or because the model's folder has changed."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from harstream import bundle as bundles
from harstream import logs
from harstream.classifier import load_classifier
from harstream.config import OPTIONS, RunConfig
from harstream.errors import BundleError, HarstreamError

if TYPE_CHECKING:
    from harstream.serve.daemon import Daemon

log = logging.getLogger("harstream")

#: How often the model's folder is looked at; it must then have stayed as it is until the next time.
WATCH_EVERY_S = 2.0
Stamps = tuple[tuple[str, int, int, int], ...]


def stamps(model: str) -> Stamps:
    """What shows a change of the model's folder, without reading it; nothing where it is not there just now."""
    try:
        folder = bundles.find(model)
        files = [(path, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    except (BundleError, OSError):
        return ()
    return tuple((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in files)


class Reloader:
    """In a thread of its own, so that nothing waits for a model to be verified.

    What does not verify is refused, logged and counted, and everything stays as it was.
    """

    def __init__(
        self, daemon: Daemon, reread: Callable[[], RunConfig] | None = None, served: Stamps | None = None
    ) -> None:
        """``served``: the folder's stamps from before the daemon's model was read."""
        self._daemon = daemon
        self._reread = reread
        self._asked = threading.Event()
        self._closing = False
        self._served = self._seen = stamps(daemon.config.model) if served is None else served
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """From any thread: read the settings and the model again, whether they have changed or not."""
        self._asked.set()

    def close(self) -> None:
        self._closing = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            asked = self._asked.wait(WATCH_EVERY_S)
            if self._closing:
                return
            self._asked.clear()
            changed = self.changed()
            if asked or changed:
                self._daemon.service.reloading()
                serving = self.reload("SIGHUP" if asked else "the model's folder has changed", settings_too=asked)
                self._daemon.service.ready(serving or self._daemon.classifier.bundle.id)

    def changed(self) -> bool:
        """Whether the folder is another than the one served, and the same as at the last look: nobody writes there."""
        now = stamps(self._daemon.config.model)
        changed = now not in (self._served, ()) and now == self._seen
        self._seen = now
        if changed:  # refused or not, it is not looked at again until it changes again
            self._served = now
        return changed

    def reload(self, why: str, settings_too: bool = True) -> str | None:
        """Now, in this thread; the model served from now on, None where all stays as it was."""
        daemon = self._daemon
        try:
            config = daemon.config
            if settings_too and self._reread is not None:
                config = self._merge(config, self._reread())
            before = stamps(config.model)  # what is written there while it is read shows as a change
            classifier = load_classifier(config.model, config.backend)
            daemon.exchange(config, classifier)
        except Exception as error:
            daemon.metrics.reloads.add(1, "refused")
            known = isinstance(error, HarstreamError | OSError)
            log.error("%s: refused, and all stays as it was: %s", why, error, exc_info=not known)
            return None
        logs.set_up(config.log_level, config.log_format)
        self._served = before
        daemon.metrics.reloads.add(1, "done")
        log.info("%s: serving %s (%s)", why, classifier.bundle.id, classifier.backend)
        return classifier.bundle.id

    @staticmethod
    def _merge(now: RunConfig, read: RunConfig) -> RunConfig:
        """What is read, where it can take effect under way."""
        names = [field.name for field in dataclasses.fields(RunConfig)]
        changed = [name for name in names if getattr(now, name) != getattr(read, name)]
        late = [name for name in changed if not OPTIONS[name].reloadable]
        if late:
            log.warning("changed, but only a restart makes it so: %s", ", ".join(OPTIONS[name].flag for name in late))
        return dataclasses.replace(now, **{name: getattr(read, name) for name in changed if OPTIONS[name].reloadable})
