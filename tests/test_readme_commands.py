"""Every command of the README runs, on files of one's own.

Ids are whole numbers, times ISO 8601, texts German and Chinese, some rows
bad; the second log has clicks only. Numbers that would take minutes are
smaller here, and the text encoder is a small one.
"""
from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pandas as pd
import pytest
from serving_models import free_port

pytestmark = pytest.mark.large  # a minute

README = Path(__file__).parent.parent / "README.md"
OWN = ["--data", "ratings.csv", "--users", "users.csv", "--items",
       "items.csv"]
# Options of a command in place of those of the README.
SMALLER = {
    "ml-100k": OWN, "--batch": 60, "--trials": 1, "--seconds": 60,
    "--seeds": 2, "--questions": 20, "--layers": 1}
TITLES = ("Der Schatz im Silbersee", "霸王别姬", "Große Freiheit",
          "花样年华", "Spiel mir das Lied vom Tod")


def commands() -> list[list[str]]:
    """Returns the words of each command in the README's shell blocks."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("tfrecal "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


def write_files(folder: Path) -> None:
    rng = np.random.default_rng(0)
    users, items = np.arange(1, 61), np.arange(100, 180)
    pd.DataFrame({
        "user_id": users, "age": rng.integers(15, 70, 60),
        "country": rng.choice(["DE", "AT", "中国"], 60)}).to_csv(
            folder / "users.csv", index=False)
    pd.DataFrame({
        "item_id": items,
        "title": [f"{TITLES[n % 5]}, Teil {n}" for n in items],
        "genres": rng.choice(["Krimi|Drama", "喜剧", "Drama"], 80),
        "year": rng.integers(1960, 2020, 80)}).to_csv(
            folder / "items.csv", index=False)
    rows = pd.MultiIndex.from_product(
        [users, items], names=["user_id", "item_id"]).to_frame(index=False)
    rows = rows.sample(2000, random_state=0)
    rows["label"] = np.where(rows["item_id"] % 2 == rows["user_id"] % 2,
                             rng.integers(4, 6, 2000),
                             rng.integers(1, 4, 2000))
    rows["timestamp"] = (pd.Timestamp("2026-05-01T10:00:00Z")
                         + pd.to_timedelta(rng.integers(0, 10 ** 6, 2000),
                                           "s")).strftime(
                                               "%Y-%m-%dT%H:%M:%S.%f+00:00")
    text = rows.to_csv(index=False)
    (folder / "ratings.csv").write_text(
        text + "7,101,viel,2026-05-02\n,102,3,2026-05-02\n"
        '8,"103,3,2026-05-02\n9,999,3,2026-05-02\n9,100,3,9999-12-31\n')
    clicks = rows[rows["label"] > 3].rename(columns={
        "user_id": "visitor", "item_id": "page", "timestamp": "at"})
    clicks.drop(columns="label").to_csv(
        folder / "clicks.tsv", sep="\t", index=False)
    place = rows.groupby("user_id").cumcount() // 5
    rows.assign(
        label=(rows["label"] > 3).astype(int),
        impression_id=rows["user_id"].astype(str) + "-" + place.astype(str)
    ).to_csv(folder / "shown.csv", index=False)
    now = time.time() - 10_000
    (folder / "events.jsonl").write_text("".join(json.dumps({
        "event_id": f"e{n}", "user_id": int(rng.choice([*users, 700])),
        "item_id": str(rng.choice([*items, 180])), "time": now + n,
        "kind": "rating", "value": int(rng.integers(1, 6))}) + "\n"
        for n in range(300)))


def answer(path) -> None:
    """Fills a file of questions in, as people do."""
    sheet = pd.read_csv(path, dtype=str)
    assert sheet.astype(str).apply(
        lambda column: column.str.contains("Schatz|花样年华")).any(axis=None)
    sheet["label"] = ["decline", "4", "1"] * (len(sheet) // 3) + ["2"] * (
        len(sheet) % 3)
    sheet.to_csv(path, index=False)


class Shop:
    """A folder in which the commands of the README are run in turn."""

    def __init__(self, folder, encoder, call):
        self.folder, self.encoder, self.call = folder, encoder, call
        self.port = free_port()
        self.server = None

    def run(self, words: list[str]) -> None:
        code, said = self.do(words)
        assert code in self.codes(words), (words, said)
        assert "Traceback" not in said
        self.after(words, said)

    def do(self, words):
        if words[0] == "serve":
            return self.serve(words), ""
        return self.call(*self.changed(words))

    def changed(self, words) -> list:
        """Returns a command with the smaller numbers and own files."""
        found = list(words)
        for name, value in SMALLER.items():
            if name in found and name.startswith("-"):
                found[found.index(name) + 1] = value
        if "ml-100k" in found:
            place = found.index("ml-100k") - 1
            found[place:place + 2] = OWN
        kind = words[0]
        if kind in ("run", "tune", "compare") and "--resume" not in found and (
                "--config" not in found):
            found += ["--bad-rows", "drop"]
            found += ["--encoder", "none" if kind != "run" else self.encoder]
        if kind == "run" and "--resume" not in found:
            found += ["--quiet"]
            if "--rounds" not in found and "people" not in found:
                found += ["--rounds", 2]
            if "-o" not in found and "--seed" in found:
                found += ["-o", self.named("--resume")]
        if kind == "tune":
            (self.folder / "space.json").write_text(
                '{"dropout": [0.0, 0.2]}')
            found += ["--space", "space.json", "--rounds", 1]
        if kind == "recommend" or "--address" in found:
            if "--address" in found:
                del found[found.index("--address"):][:2]
            found += ["--address", f"localhost:{self.port}"]
        if kind == "compare":
            found += ["--rounds", 2, "--steps", 20, "--first-steps", 20]
        if kind == "check":
            found += ["--encoder", self.encoder]
        return found

    @staticmethod
    def named(option: str) -> str:
        """Returns what the README gives an option the first time."""
        return next(words[words.index(option) + 1] for words in commands()
                    if option in words)

    @staticmethod
    def codes(words) -> tuple[int, ...]:
        if words[0] == "check":
            return (2,)  # there are bad rows
        # 1: the new model is not better, of which there is no certainty.
        return (0, 1) if words[0] == "retrain" else (0,)

    def after(self, words, said) -> None:
        if words[0] == "check":
            for part in (": 5 rows", "lines 2002", "--bad-rows drop"):
                assert part in said.replace("is no row", ": 5 rows")
        if words[0] == "acquire":
            answer(words[words.index("--to") + 1])
        if "clicks.tsv" in words:
            assert "nothing to ask" in said and "each row is a click" in said
        if words[0] == "recommend":
            found = [line.split("\t")[0] for line in said.splitlines()
                     if "\t" in line]
            assert len(found) == len(set(found)) >= 10
            assert set(map(int, found)) <= set(range(100, 182))

    def serve(self, words) -> int:
        path = str(self.folder / "models" / "recommender")
        self.server = subprocess.Popen(
            [sys.executable, "-c", "from tfrecal.cli import main; main()",
             "serve",
             "--model_name=recommender", f"--model_base_path={path}",
             f"--port={self.port}"], cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert f"--model_base_path=$PWD/{Path(path).relative_to(self.folder)}"\
            in words
        with grpc.insecure_channel(f"localhost:{self.port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=600)
        return 0


def test_every_command_runs_on_own_files(
        tmp_path, monkeypatch, command_line, tiny_bert_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFRECAL_FEEDBACK", "feedback.db")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    write_files(tmp_path)
    shop = Shop(tmp_path, tiny_bert_folder, command_line)
    try:
        for words in commands():
            started = time.time()
            shop.run(words)
            print(f"{time.time() - started:6.1f} s  {shlex.join(words)}")
    finally:
        if shop.server:
            shop.server.terminate()
            shop.server.wait(120)
