"""Downloads: verified, all or nothing; against a server on this machine."""
from __future__ import annotations

import base64
import hashlib
import http.server
import io
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from tfrecal.data import assets, downloads
from tfrecal.data.assets import Asset
from tfrecal.data.downloads import DownloadError, Url, Wheel


def zip_of(files: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            if name == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


CONTENT = zip_of({"model/config.json": b"{}", "model/big": os.urandom(99_999),
                  "model/run.sh": b"no"})


class Server:
    """Serves CONTENT; `mode` says how badly."""

    def __init__(self):
        server = self
        self.mode, self.hits, self.half_sent = "good", 0, threading.Event()
        self.release = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.hits += 1
                if server.mode == "missing":
                    return self.send_error(404)
                body = CONTENT[::-1] if server.mode == "altered" else CONTENT
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:len(body) // 2])
                self.wfile.flush()
                server.half_sent.set()
                if server.mode == "stalled":
                    server.release.wait(20)
                if server.mode != "truncated":
                    self.wfile.write(body[len(body) // 2:])

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,),
                         daemon=True).start()

    @property
    def source(self) -> Url:
        return Url(f"http://127.0.0.1:{self.http.server_port}/data.zip",
                   hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def server():
    made = Server()
    yield made
    made.release.set()
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFRECAL_OFFLINE", raising=False)
    return tmp_path / "home"


def register(monkeypatch, *sources, members=None, most_bytes=1 << 20):
    monkeypatch.setitem(assets.ASSETS, "thing", Asset(
        sources, "the licence note", members, most_bytes))


MEMBERS = {"model/config.json": "config.json", "model/big": "sub/big"}


def leftovers(home):
    return [path.name for path in (home / "assets").iterdir()]


def test_file_is_fetched_once_and_its_licence_told(
        server, home, monkeypatch, capsys):
    register(monkeypatch, server.source)
    path = assets.fetch("thing")
    assert path.read_bytes() == CONTENT
    assert "the licence note" in capsys.readouterr().err
    assert assets.fetch("thing") == path and server.hits == 1
    assert capsys.readouterr() == ("", "")
    assert leftovers(home) == [path.name]


def test_altered_cached_file_is_fetched_again(server, home, monkeypatch):
    register(monkeypatch, server.source)
    path = assets.fetch("thing")
    path.write_bytes(b"rotten")
    assert assets.fetch("thing").read_bytes() == CONTENT
    assert server.hits == 2


def test_folder_holds_the_named_members_only(server, home, monkeypatch):
    register(monkeypatch, server.source, members=MEMBERS)
    folder = assets.fetch("thing")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*")
             if p.is_file()}
    assert files == {"config.json", "sub/big", "sizes.json"}
    assert assets.fetch("thing") == folder and server.hits == 1
    assert leftovers(home) == [folder.name]


def test_damaged_folder_is_replaced(server, home, monkeypatch):
    register(monkeypatch, server.source, members=MEMBERS)
    folder = assets.fetch("thing")
    (folder / "sub/big").write_bytes(b"cut")
    assert assets.fetch("thing") == folder
    assert (folder / "sub/big").stat().st_size == 99_999
    assert leftovers(home) == [folder.name]


@pytest.mark.parametrize("mode, says", [
    ("truncated", "must be"), ("altered", "SHA-256"), ("missing", "404")])
def test_bad_download_names_source_cause_and_cure(
        server, home, monkeypatch, mode, says):
    server.mode = mode
    register(monkeypatch, server.source, members=MEMBERS)
    with pytest.raises(DownloadError) as error:
        assets.fetch("thing")
    text = str(error.value)
    assert says in text and server.source.url in text
    assert "TFRECAL_HOME" in text and server.source.sha256 in text
    assert leftovers(home) == []
    server.mode = "good"
    assert assets.fetch("thing").is_dir()


def test_more_bytes_than_announced_are_refused(server, home, monkeypatch):
    source = Url(server.source.url, server.source.sha256, 1000)
    register(monkeypatch, source)
    with pytest.raises(DownloadError, match="far more bytes"):
        assets.fetch("thing")


def test_next_source_is_tried_and_said(server, home, monkeypatch, capsys):
    dead = Url("http://127.0.0.1:9/data.zip", "0" * 64, 10)
    register(monkeypatch, dead, server.source)
    assert assets.fetch("thing").read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert said.index("127.0.0.1:9/") < said.index("failed")
    assert said.index("failed") < said.index(server.source.url)


def test_offline_asks_nobody(server, home, monkeypatch):
    register(monkeypatch, server.source)
    monkeypatch.setenv("TFRECAL_OFFLINE", "1")
    with pytest.raises(DownloadError, match="TFRECAL_OFFLINE is set"):
        assets.fetch("thing")
    assert server.hits == 0 and not home.exists()
    monkeypatch.setenv("TFRECAL_OFFLINE", "0")
    path = assets.fetch("thing")
    monkeypatch.setenv("TFRECAL_OFFLINE", "1")
    assert assets.fetch("thing") == path


def start_fetch(server):
    """Another process that fetches the same thing."""
    code = ("import sys; from tfrecal.data import assets, downloads\n"
            "url, sha, size = sys.argv[1:]\n"
            "assets.ASSETS['thing'] = assets.Asset((downloads.Url(url, sha, "
            f"int(size)),), '', {MEMBERS!r})\n"
            "print(assets.fetch('thing'))")
    source = server.source
    return subprocess.Popen(
        [sys.executable, "-c", code, source.url, source.sha256,
         str(source.size)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)


def test_killed_process_leaves_nothing_that_counts(
        server, home, monkeypatch):
    server.mode = "stalled"
    process = start_fetch(server)
    assert server.half_sent.wait(30)
    process.kill()
    process.communicate()
    [partial] = (home / "assets").iterdir()
    assert partial.name.startswith(".partial-")
    server.mode = "good"
    register(monkeypatch, server.source, members=MEMBERS)
    folder = assets.fetch("thing")
    assert (folder / "sub/big").stat().st_size == 99_999
    # What the dead process left goes once it is surely dead: after a day.
    assert partial.exists()
    old = time.time() - 2 * 24 * 3600
    os.utime(partial, (old, old))
    (folder / "config.json").unlink()
    assets.fetch("thing")
    assert leftovers(home) == [folder.name]


def test_processes_may_fetch_at_once(server, home):
    server.mode = "stalled"
    processes = [start_fetch(server) for _ in range(2)]
    deadline = time.monotonic() + 300
    while server.hits < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.hits == 2  # both are in the middle of it
    server.release.set()
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(leftovers(home)) == 1


def test_rename_yields_to_the_process_that_was_first(
        server, home, monkeypatch, tmp_path):
    register(monkeypatch, server.source, members=MEMBERS)
    folder = assets.fetch("thing")
    before = (folder / "sizes.json").stat().st_mtime_ns
    other = tmp_path / "unpacked"
    other.mkdir()
    (other / "sizes.json").write_text("{}")
    assets._rename_folder(other, folder, server.source)
    assert (folder / "sizes.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", [
    "/tmp/x", "../x", "a/../../x", "a\\..\\x", "C:x", ""])
def test_unpack_stays_in_its_folder(tmp_path, name):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"member": b"x"}))
    (tmp_path / "out").mkdir()
    with pytest.raises(DownloadError, match="points out"):
        downloads.unpack(archive, {"member": name}, tmp_path / "out", 100)
    assert not any((tmp_path / "out").iterdir())


def test_unpack_ignores_members_that_climb(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of({"../evil": b"x", "good": b"y"}))
    (tmp_path / "out").mkdir()
    downloads.unpack(archive, {"good": "good"}, tmp_path / "out", 100)
    assert not (tmp_path / "evil").exists()
    assert (tmp_path / "out/good").read_bytes() == b"y"


def test_unpack_refuses_links_bombs_and_gaps(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zip_of(
        {"link": b"/etc/passwd", "zeros": bytes(5 << 20)}, link="link"))
    for number, (member, says) in enumerate((
            ("link", "not a plain file"), ("zeros", "more than 1000 bytes"),
            ("absent", "absent"))):
        out = tmp_path / str(number)
        out.mkdir()
        with pytest.raises(DownloadError, match=says):
            downloads.unpack(archive, {member: "file"}, out, 1000)
    archive.write_bytes(b"no zip")
    with pytest.raises(DownloadError, match="a.zip"):
        downloads.unpack(archive, {"m": "file"}, tmp_path / "0", 1000)


def wheel_bytes() -> bytes:
    """The smallest wheel that pip takes."""
    info = "tfrecal_thing-1.0.dist-info"
    files = {
        "tfrecal_thing/data": b"payload",
        f"{info}/METADATA":
            b"Metadata-Version: 2.1\nName: tfrecal-thing\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\n"
            b"Root-Is-Purelib: true\nTag: py3-none-any\n"}
    rows = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(
            hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    record = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    return zip_of({**files, f"{info}/RECORD": record})


def test_wheel_comes_through_pip(home, monkeypatch, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    content = wheel_bytes()
    (links / "tfrecal_thing-1.0-py3-none-any.whl").write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    digest = hashlib.sha256(content).hexdigest()
    register(monkeypatch, Wheel("tfrecal-thing==1.0", digest, len(content)),
             members={"tfrecal_thing/data": "data"})
    assert (assets.fetch("thing") / "data").read_bytes() == b"payload"
    register(monkeypatch, Wheel("tfrecal-thing==2.0", "1" * 64, 10))
    with pytest.raises(DownloadError, match="tfrecal-thing==2.0"):
        assets.fetch("thing")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path
    monkeypatch.delenv("TFRECAL_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_folder().name == "tfrecal"


def test_unknown_name():
    with pytest.raises(ValueError, match="one of minilm, .*'ml-9k'"):
        assets.fetch("ml-9k")


def test_encoder_folder_of_yours_is_itself(tmp_path):
    assert assets.encoder_folder(tmp_path) == tmp_path
    assert assets.encoder_folder(str(tmp_path)) == tmp_path


def test_encoder_from_the_hub(monkeypatch, tmp_path):
    import huggingface_hub

    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.delenv("TFRECAL_OFFLINE", raising=False)
    assert assets.encoder_folder("some/bert") == tmp_path
    assert asked["name"] == "some/bert" and not asked["local_files_only"]
    assert not any(pattern.endswith((".bin", ".h5", ".py", "*"))
                   for pattern in asked["allow_patterns"])


def test_encoder_that_is_nowhere(monkeypatch):
    monkeypatch.setenv("TFRECAL_OFFLINE", "1")
    with pytest.raises(DownloadError, match="(?s)some/bert.*\"minilm\""):
        assets.encoder_folder("some/bert")


@pytest.mark.large
def test_minilm(minilm_folder):
    assert (minilm_folder / "vocab.txt").read_text("utf-8").count("\n") > 3e4
    assert (minilm_folder / "model.safetensors").stat().st_size == 90_868_376
