"""Reload of settings and models while the daemon runs: on SIGHUP, or after a change of a model's folder."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from harstream import logs
from harstream.classifier import Classifier
from harstream.config import OPTIONS, RunConfig
from harstream.errors import HarstreamError
from harstream.serve import models
from harstream.serve.daemon import IDLE_WAIT_S, Daemon
from harstream.serve.labelling import ModelChanged
from harstream.serve.models import FolderState, folder_states
from harstream.source_config import SOURCE_SETTINGS

log = logging.getLogger("harstream")

#: Seconds between two looks at the models' folders. A change counts after a folder stayed the same for one interval.
WATCH_EVERY_S = 2.0


class Reloader:
    """Thread that reloads settings and models, so that nothing else waits while a model is verified.

    A process of its own verifies a model first (see ``trial``). A model or setting that cannot be used is refused,
    logged and counted, and the daemon goes on as before.

    Args:
        daemon: Daemon to be changed.
        read_config: Reads the settings again. Without it only the models are reloaded.
        loaded: State of the folder of each model before the daemon's classifiers were loaded; default: the present
            states.

    """

    def __init__(
        self,
        daemon: Daemon,
        read_config: Callable[[], RunConfig] | None = None,
        loaded: Mapping[str, FolderState] | None = None,
    ) -> None:
        self._daemon = daemon
        self._read_config = read_config
        self._requested = threading.Event()
        self._closing = False
        # State of the folder of each model when it was loaded, and at the last look.
        self._loaded = dict(folder_states(daemon.config) if loaded is None else loaded)
        self._seen = self._loaded
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self) -> None:
        """Ask the thread to reload settings and models, changed or not. Any thread may call this."""
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
            changed = self.changed_models()
            if requested or changed:
                self._daemon.notifier.reloading()
                if requested:
                    self.reload("SIGHUP")
                else:
                    self.reload("the model's folder changed", changed)
                self._daemon.notifier.ready(models.names(self._daemon.sources.classifiers))

    def changed_models(self) -> set[str]:
        """Return the models whose folder differs from the loaded one, and is the same as at the last look.

        A change is reported once, whether or not the new model can be used. While files are written there, the folder
        differs from look to look, and no change is reported.
        """
        states = folder_states(self._daemon.config)
        changed = {
            model
            for model, state in states.items()
            if state not in (self._loaded.get(model), ()) and state == self._seen.get(model)
        }
        self._seen = states
        self._loaded |= {model: states[model] for model in changed}
        return changed

    def reload(self, reason: str, changed: set[str] | None = None) -> str | None:
        """Reload now, in the calling thread.

        Args:
            reason: Beginning of the log line.
            changed: Models to load again; None: all of them, and the settings.

        Returns:
            Ids of the models, or None if the reload was refused.

        """
        daemon = self._daemon
        try:
            config = daemon.config
            if changed is None and self._read_config is not None:
                config = merge(config, self._read_config())
            states = folder_states(config)  # taken before loading, so that a change meanwhile is noticed later
            classifiers = models.load(
                config,
                daemon.sources.classifiers,
                kept=() if changed is None else states.keys() - changed,
                has_threads=True,
                cancelled=lambda: self._closing,
            )
            _change(daemon, config, classifiers)
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
        self._loaded = states
        daemon.metrics.observe_reload("done")
        log.info("%s: reloaded, the model is now %s", reason, models.describe(classifiers))
        return models.names(classifiers)


def _change(daemon: Daemon, config: RunConfig, classifiers: Sequence[Classifier]) -> None:
    """Let the daemon use other settings and other, verified models from now on.

    No window is lost: the present models still classify the windows that are already due.

    Args:
        daemon: The daemon.
        config: Settings with the same sources.
        classifiers: Classifier of each source.

    Raises:
        BundleError: A model needs other windows.
        ConfigError: A certificate or key file cannot be used.

    """
    changes = list(zip(daemon.sources, classifiers, strict=True))
    for source, classifier in changes:
        source.check_windows(classifier)
    connection = daemon.connection
    if connection is not None and (settings := config.read_broker_settings()) is not None:
        connection.replace_credentials(settings)
        for part in (daemon.workers, daemon.homeassistant):
            if part is not None:
                part.replace_credentials(settings)
    daemon.config = config
    if daemon.homeassistant is not None:  # the devices of each source are announced again with its model, below
        daemon.homeassistant.change_idle(config.idle_s)
    if connection is not None:
        connection.limit_payload(config.max_payload_bytes)
    for source, classifier in changes:
        source.pipeline.decoder.max_payload_bytes = config.max_payload_bytes
        item = ModelChanged(source.pipeline, classifier, config.smoothing_of(classifier.bundle.smoothing))
        while not daemon.stopping.is_set() and not daemon.labelling.hand_over(item, IDLE_WAIT_S):
            pass
    if daemon.durability is not None:
        daemon.durability.ask_for_checkpoint()


def merge(current: RunConfig, new: RunConfig) -> RunConfig:
    """Return the current settings, with the new values of those that can change in a running daemon; log the others."""
    own = SOURCE_SETTINGS if current.source else ()  # of each source, not of the top level
    changed = [name for name in OPTIONS if getattr(current, name) != getattr(new, name)]
    waiting = [OPTIONS[name].flag for name in changed if not OPTIONS[name].reloadable and name not in own]
    values = {name: getattr(new, name) for name in changed if OPTIONS[name].reloadable}
    after = {source.name: source for source in new.sources if new.source}
    tables, in_sources = [], []
    for table, before in zip(current.source, current.sources, strict=False):  # without tables there is one source more
        source = after.pop(before.name, None)
        if source is None:
            in_sources.append(f"{before.where}removed")
            source = before
        different = [name for name in SOURCE_SETTINGS if getattr(before, name) != getattr(source, name)]
        in_sources += [f"{before.where}{OPTIONS[name].flag}" for name in different if not OPTIONS[name].reloadable]
        # By name, because the default may be another one from now on.
        tables.append(
            {**table, **{name: getattr(source, name) for name in SOURCE_SETTINGS if OPTIONS[name].reloadable}}
        )
    in_sources += [f"{source.where}added" for source in after.values()]
    if waiting or in_sources:
        log.warning(
            "restart harstream to apply the changed settings: %s%s",
            ", ".join([*waiting, *in_sources]),
            "; subscriptions and windows in progress depend on those of sources" if in_sources else "",
        )
    return dataclasses.replace(current, **values, source=tuple(tables))
