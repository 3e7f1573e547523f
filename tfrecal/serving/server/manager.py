"""ModelManager: keeps the aspired versions of all models loaded."""
from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from grpc import StatusCode

from tfrecal.serving.server import model_configs, version_folders
from tfrecal.serving.server.errors import ServingError, invalid
from tfrecal.serving.server.model_versions import Model, State, Version
from tfrecal.serving.server.servable import Servable

_TICK = 0.1
_log = logging.getLogger("tfrecal.serving")


class ModelManager:
    """Polls base paths, loads and unloads, and finds versions for requests.

    Each model is looked at on its own: a base path that is missing or a
    version that cannot be loaded does not hold up the others.

    Args:
        config: a `ModelServerConfig`.
        poll_seconds: time between two looks at the base paths; 0 or less
            looks once and at every reload.
        max_load_retries: number of further tries of a load that failed.
        retry_seconds: time between two tries.
        load_threads: number of models that are loaded at the same time.
        allow_early_labels: whether labels may point to versions that are
            not available yet.
        load: `(folder, name, version) -> Servable`.

    Raises:
        ServingError: the config is not allowed.
    """

    def __init__(self, config, *, poll_seconds: float = 1.0,
                 max_load_retries: int = 5, retry_seconds: float = 60.0,
                 load_threads: int = 2, allow_early_labels: bool = False,
                 load: Callable = Servable):
        self.poll_seconds = poll_seconds
        self.max_load_retries = max_load_retries
        self.retry_seconds = retry_seconds
        self.allow_early_labels = allow_early_labels
        self._load_servable = load
        self._changed = threading.Condition(threading.Lock())
        self._reloading = threading.Lock()
        self._models: dict[str, Model] = {}
        self._labels: dict[str, dict[str, int]] | None = None
        self._stopping = False
        self._pool = ThreadPoolExecutor(load_threads, "tfrecal-load")
        self._thread = threading.Thread(
            target=self._manage, name="tfrecal-manager", daemon=True)
        self._apply(config)

    def start(self) -> None:
        """Loads all models; returns when each answers or has failed once."""
        self._thread.start()
        self._wait(list(self._models))

    def stop(self) -> None:
        """Unloads everything once the requests under way have ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        with self._changed:
            left = [version for model in self._models.values()
                    for version in model.ready.values()]
            for model in self._models.values():
                model.ready = {}
            for version in left:
                version.state = State.UNLOADING
            self._changed.wait_for(
                lambda: not any(v.uses for v in left), timeout=10)
        for version in left:
            if not version.uses:
                version.servable.close()
                version.state = State.END

    @contextlib.contextmanager
    def use(self, spec) -> Iterator[Servable]:
        """Gives the version that a ModelSpec asks for, loaded while in use.

        Raises:
            ServingError: there is no such version.
        """
        with self._changed:
            version = self._find(spec)
            version.uses += 1
        try:
            yield version.servable
        finally:
            with self._changed:
                version.uses -= 1
                if not version.uses and version.state != State.AVAILABLE:
                    self._changed.notify_all()

    def status(self, name: str, version: int | None = None) -> list:
        """Returns the ModelVersionStatus of versions, the highest first.

        Args:
            name: the model's name.
            version: the number of one version, or None for all.

        Raises:
            ServingError: NOT_FOUND for a model or version never seen.
        """
        with self._changed:
            model = self._models.get(name)
            seen = {} if model is None else model.versions
            if version is not None:
                if version not in seen:
                    raise ServingError(
                        StatusCode.NOT_FOUND, "Could not find version "
                        f"{version} of model {name}")
                return [seen[version].status()]
            if not seen:
                raise ServingError(
                    StatusCode.NOT_FOUND,
                    f"Could not find any versions of model {name}")
            return [seen[n].status() for n in sorted(seen, reverse=True)]

    def available(self) -> dict[str, list[int]]:
        """Returns model -> the versions that answer, for each model."""
        with self._changed:
            return {name: sorted(model.ready)
                    for name, model in self._models.items()
                    if model.config is not None}

    def problems(self) -> dict[str, str]:
        """Returns model -> why none of its versions answers."""
        with self._changed:
            return {name: model.problem()
                    for name, model in self._models.items()
                    if model.config is not None and not model.ready}

    def reload(self, config, timeout: float | None = None) -> None:
        """Replaces the config, once all of the new one is checked.

        Waits until each new model answers or has failed once.

        Args:
            config: a `ModelServerConfig`.
            timeout: seconds, after which the call returns and loading goes
                on.

        Raises:
            ServingError: the config is not allowed, a new model did not
                become available (the config stays), or DEADLINE_EXCEEDED.
        """
        with self._reloading:
            with self._changed:
                before = {name for name, model in self._models.items()
                          if model.config is not None}
            self._apply(config)
        new = [model.name for model in config.model_config_list.config
               if model.name not in before]
        if not self._wait(new, timeout):
            raise ServingError(StatusCode.DEADLINE_EXCEEDED,
                               "The models are still being loaded.")
        problems = self.problems()
        failed = [problems[name] for name in new if name in problems]
        if failed:
            raise ServingError(
                StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become "
                f"available: {{{''.join(f'{text}, ' for text in failed)}}}")

    def _apply(self, config) -> None:
        with self._changed:
            before = {name: model.config for name, model
                      in self._models.items() if model.config is not None}
            models = model_configs.models_of(config, before)
            model_configs.check_labels(
                models, self._is_available, self._labels or {},
                self.allow_early_labels)
            for name in {*models, *before}:
                if name in self._models:
                    self._models[name].configure(models.get(name))
                else:
                    self._models[name] = Model(models[name])
            if models or self._labels is not None:
                self._labels = {name: dict(model.version_labels)
                                for name, model in models.items()}
            self._changed.notify_all()

    def _wait(self, names, timeout=None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping or all(
                self._models[name].settled(time.monotonic())
                for name in names), timeout)

    def _is_available(self, name, version) -> bool:
        model = self._models.get(name)
        return model is not None and version in model.ready

    def _find(self, spec) -> Version:
        name = spec.name
        if not name:
            raise invalid("ModelSpec has no name specified.")
        number = None
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            number = spec.version.value
        elif choice == "version_label":
            number = self._labelled(name, spec.version_label)
        model = self._models.get(name)
        ready = {} if model is None else model.ready
        found = ready.get(max(ready, default=None)
                          if number is None else number)
        if found is None:
            what = f"Latest({name})" if number is None \
                else f"Specific({name}, {number})"
            raise ServingError(StatusCode.NOT_FOUND,
                               f"Servable not found for request: {what}")
        return found

    def _labelled(self, name, label) -> int:
        if self._labels is None:
            raise ServingError(StatusCode.UNAVAILABLE,
                               f"Model labels does not init yet.{label}")
        try:
            return self._labels[name][label]
        except KeyError:
            raise invalid("Unrecognized servable version label: "
                          f"{label}") from None

    def _manage(self) -> None:
        """Polls, loads and unloads; the manager's thread runs this."""
        next_poll = 0.0
        while True:
            now = time.monotonic()
            with self._changed:
                if self._stopping:
                    return
                due = self.poll_seconds > 0 and now >= next_poll
                models = [(name, model, model.config) for name, model
                          in self._models.items() if due or not model.polled]
            if due:
                next_poll = now + self.poll_seconds
            for name, model, config in models:
                self._poll(name, model, config)
            with self._changed:
                for name, model in self._models.items():
                    self._load_and_unload(name, model, time.monotonic())
                self._changed.notify_all()
                self._changed.wait(_TICK)

    def _poll(self, name, model, config) -> None:
        try:
            found = {} if config is None else version_folders.folders(
                config.base_path)
        except Exception as failure:
            error = ServingError.of(failure)
            with self._changed:
                if model.config is config:
                    if str(model.error) != str(error):
                        _log.warning("model %s: %s", name, error)
                    model.failed(error)
            return
        with self._changed:
            if model.config is config:
                model.seen(found)

    def _load_and_unload(self, name, model, now) -> None:
        version = model.to_load(now)
        if version is not None:
            model.loading, version.state = True, State.LOADING
            self._pool.submit(self._load, name, model, version)
        version = model.to_unload()
        if version is not None:
            del model.ready[version.number]
            version.state = State.UNLOADING
        for version in model.versions.values():
            if version.state == State.UNLOADING and not version.uses \
                    and version.servable is not None:
                servable, version.servable = version.servable, None
                self._pool.submit(self._unload, name, version, servable)

    def _load(self, name, model, version) -> None:
        error = servable = None
        try:
            servable = self._load_servable(
                version.folder, name, version.number)
        except Exception as failure:
            error = ServingError.of(failure)
            _log.warning("model %s version %d: %s", name, version.number,
                         error)
        else:
            _log.info("model %s version %d is loaded", name, version.number)
        with self._changed:
            model.loading, version.error = False, error
            version.tries += 1
            version.servable = servable
            if error is None:
                version.state = State.AVAILABLE
                model.ready[version.number] = version
            elif model.retries(version, self.max_load_retries):
                version.state = State.START
                version.next_try = time.monotonic() + self.retry_seconds
            else:
                version.state = State.END
            self._changed.notify_all()

    def _unload(self, name, version, servable) -> None:
        servable.close()
        _log.info("model %s version %d is unloaded", name, version.number)
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
