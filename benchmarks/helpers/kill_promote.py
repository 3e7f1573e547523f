"""The scene of `kill.py` in which a server must come to serve a version."""
from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers.kill_processes import call, start
from helpers.kill_scenes import RetrainScene, digest, rows

from tfrecal.retrain import promotion
from tfrecal.serving.client.client import Recommender, ServingUnavailable
from tfrecal.serving.server.version_folders import folders

MODEL = "shop"
USERS = [f"u{number}" for number in range(8)]
_POLL = 2  # seconds; a long wait for the server is hit more often
_PAUSE = 0.1  # of the client


class PromoteScene(RetrainScene):
    """`tfrecal retrain` that waits for a server.

    The server and a client of it live through all the kills of a life.
    """

    name = "promote"
    address = ""

    @contextlib.contextmanager
    def beside(self, folder: Path):
        self.lay_out(folder)
        socket = folder / "server.sock"
        self.address = f"unix:{socket}"
        with open(folder / "server.log", "w", encoding="utf-8") as log:
            server = subprocess.Popen([
                sys.executable, "-m", "tfrecal", "serve", "--port=0",
                f"--grpc_socket_path={socket}", f"--model_name={MODEL}",
                f"--model_base_path={folder / 'models' / MODEL}",
                f"--file_system_poll_wait_seconds={_POLL}",
                "--max_num_load_retries=0"], stdout=log, stderr=log)
        try:
            call(folder / "log", promotion.wait_served, self.address, MODEL,
                 1)
            client = start(lambda: self.ask_on(folder), folder / "client.log")
            try:
                yield
            finally:
                os.kill(client, signal.SIGKILL)
                os.waitpid(client, 0)
            if server.poll() is not None:
                raise RuntimeError("The server ended by itself:\n"
                                   + (folder / "server.log").read_text())
        finally:
            server.terminate()
            server.wait(30)

    def options(self, folder: Path):
        return dataclasses.replace(
            super().options(folder), address=self.address, timeout=120.0)

    def half_visible(self, folder: Path) -> list[str]:
        there = folders(folder / "models" / MODEL)
        runs = rows(folder / "feedback.db", "runs", "run_id, outcome")
        if len(there) > 1 and (runs["outcome"] == "running").any():
            with open(folder / "after_export", "a") as file:
                file.write(".")
        found = super().half_visible(folder)
        found += [
            f"version {version} on the server: {state} {message}"
            for version, (state, message) in promotion.states(
                self.address, MODEL).items() if message]
        version, answer = self.ask()
        if version not in there:
            found.append(f"an answer of version {version}: {answer}")
        return found

    def bought(self, folder: Path) -> dict[str, int]:
        told, kills = answers(folder), folder / "after_export"
        return {**super().bought(folder),
                "after_export": kills.stat().st_size if kills.exists() else 0,
                "answers": len(told),
                "unanswered": sum(not version for version, _ in told)}

    def outcome(self, folder: Path) -> dict[str, str]:
        made = max(folders(folder / "models" / MODEL))
        recorded = rows(folder / "feedback.db", "runs",
                        "run_id, version")["version"].iloc[-1]
        last = self.ask()
        state, _ = promotion.states(self.address, MODEL)[made]
        versions = {made, int(recorded), last[0]}
        told = [answer for answer, _ in itertools.groupby(
            [*answers(folder), last])]
        return {**super().outcome(folder),
                "served": state if len(versions) == 1 else str(versions),
                # First the old version's, then the new one's and no other.
                "answers": json.dumps([answer for _, answer in told])}

    def ask(self) -> tuple[int, str]:
        with Recommender(self.address, MODEL, timeout=30) as client:
            return answer(client)

    def ask_on(self, folder: Path) -> None:
        """Asks now and then, until it is killed."""
        with Recommender(self.address, MODEL, timeout=30) as client, open(
                folder / "answers.jsonl", "w", encoding="utf-8") as file:
            while True:
                file.write(json.dumps(answer(client)) + "\n")
                file.flush()
                time.sleep(_PAUSE)


def answer(client: Recommender) -> tuple[int, str]:
    """Version and digest of what a server recommends; 0 and an error."""
    try:
        found = client.recommend(USERS)
    except (ServingUnavailable, ValueError) as error:
        return 0, str(error)
    return found.version, digest(
        json.dumps(found.item_ids).encode(),
        *(scores.tobytes() for scores in found.scores))


def answers(folder: Path) -> list[tuple[int, str]]:
    """What the client of a life has heard so far."""
    content = (folder / "answers.jsonl").read_text(encoding="utf-8")
    return [tuple(json.loads(line))
            for line in content[:content.rfind("\n") + 1].splitlines()]
