"""Model: the versions of one model and what should happen to them next."""
from __future__ import annotations

from pathlib import Path

from grpc import StatusCode
from tensorflow_serving.apis import get_model_status_pb2

from tfrecal.serving.server import version_folders
from tfrecal.serving.server.errors import ServingError

State = get_model_status_pb2.ModelVersionStatus.State


class Version:
    """One version, from the time that it is seen until it is unloaded.

    Args:
        number: the version's number.
        folder: the version's folder.

    Attributes:
        state: a `ModelVersionStatus.State`.
        servable: the `Servable` while it is loaded, else None.
        error: the error of the last try to load it, or None.
        tries: number of tries to load it.
        next_try: time of the next try, by `time.monotonic`.
        uses: number of requests that it is answering.
        left: whether it has left the aspired versions since it was seen.
    """

    def __init__(self, number: int, folder: Path):
        self.number, self.folder = number, folder
        self.state = State.START
        self.servable = None
        self.error: ServingError | None = None
        self.tries, self.next_try, self.uses = 0, 0.0, 0
        self.left = False

    def status(self) -> get_model_status_pb2.ModelVersionStatus:
        """Returns GetModelStatus's form; waiting for a retry is LOADING."""
        found = get_model_status_pb2.ModelVersionStatus(
            version=self.number, state=self.state)
        found.status.SetInParent()
        if self.state == State.START and self.tries:
            found.state = State.LOADING
        elif self.state == State.END and self.error is not None:
            found.status.error_code = self.error.code.value[0]
            found.status.error_message = self.error.message
        return found


class Model:
    """Decides what happens to a model's versions; the manager does it.

    The manager holds its lock around every call.

    A new version is loaded before an old one is unloaded, and an old one
    stays for as long as the new one fails. Where nothing is loaded and the
    latest versions fail, the next older one on disk takes their place.

    Args:
        config: a `ModelConfig`, or None for a model that is to be unloaded.

    Attributes:
        versions: number -> `Version`, for all that were ever seen.
        ready: number -> `Version`, for those that answer requests.
        error: why the base path could not be read, or None.
        polled: whether the base path was looked at under this config.
        loading: whether a load is under way.
    """

    def __init__(self, config):
        self.versions: dict[int, Version] = {}
        self.ready: dict[int, Version] = {}
        self.loading = False
        self._found: dict[int, Path] = {}
        self._wanted: set[int] = set()
        self.configure(config)

    def configure(self, config) -> None:
        """Takes another config, which counts from the next poll on."""
        self.config, self.error, self.polled = config, None, False

    def seen(self, found: dict[int, Path]) -> None:
        """Takes the result of a poll: version -> folder."""
        self.polled, self.error, self._found = True, None, found
        self._wanted = set()
        if self.config is not None:
            self._wanted = version_folders.aspired(
                found, self.config.model_version_policy)
        for number, version in list(self.versions.items()):
            if number not in self._wanted:
                version.left = True
                if version.state == State.START and not version.tries:
                    del self.versions[number]
                elif version.state == State.START:
                    version.state = State.END
        for number in self._wanted:
            self._see(number)

    def failed(self, error: ServingError) -> None:
        """Takes the failure of a poll; what is loaded stays."""
        self.polled, self.error = True, error

    def to_load(self, now: float) -> Version | None:
        """Returns the version to be loaded next, the highest first."""
        if self.loading:
            return None
        chosen = [self.versions[number] for number in self._wanted]
        if not self.ready and chosen and all(v.tries for v in chosen):
            chosen += self._instead()
        chosen = [v for v in chosen
                  if v.state == State.START and v.next_try <= now]
        return max(chosen, key=lambda v: v.number, default=None)

    def to_unload(self) -> Version | None:
        """Returns the version to be unloaded next, the lowest first."""
        idle = self.ready.keys() - self._wanted
        if idle and (self.ready.keys() & self._wanted or not self._wanted
                     or len(idle) > 1):
            return self.ready[min(idle)]
        return None

    def settled(self, now: float) -> bool:
        """Whether the model answers, or cannot before a change or a retry."""
        return bool(self.ready) or (
            self.polled and not self.loading and self.to_load(now) is None)

    def retries(self, version: Version, most: int) -> bool:
        """Whether a load that failed is to be tried again."""
        return version.number in self._wanted and version.tries <= most

    def problem(self) -> str:
        """Says why no version answers, in TensorFlow Serving's form."""
        name, which, error = self.config.name, "", self.error
        failed = [v for v in self.versions.values() if v.error is not None]
        if error is None and failed:
            last = max(failed, key=lambda v: v.number)
            which, error = f" version: {last.number}", last.error
        if error is None:
            error = ServingError(StatusCode.NOT_FOUND, "no version in "
                                 f"{self.config.base_path}")
        return (f"{{name: {name}{which}}} due to error: {error.code.name}: "
                f"{error.message}")

    def _see(self, number: int) -> Version:
        version = self.versions.get(number)
        if version is None or version.state == State.END and version.left:
            version = Version(number, self._found[number])
            self.versions[number] = version
        version.left = False
        return version

    def _instead(self) -> list[Version]:
        """Returns the highest version that has not failed, for "latest"."""
        policy = self.config.model_version_policy
        if policy.WhichOneof("policy_choice") in ("all", "specific"):
            return []
        for number in sorted(self._found.keys() - self._wanted, reverse=True):
            version = self.versions.get(number)
            if version is None or version.error is None:
                return [self._see(number)]
        return []
