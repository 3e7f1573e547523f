"""People as oracle: writes a file of questions and reads their answers."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from tfrecal import checks
from tfrecal.oracles import CallableOracle, Questions, write_questions
from tfrecal.oracles.question_files import check_format, read_labels
from tfrecal.pool.pool import ASKED
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs.build import restore_trained
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_split


def acquire(folder, to, *, strategy: str | None = None,
            batch: int | None = None, again: bool = False) -> int:
    """Chooses pairs with the model of a run and writes them as questions.

    The pairs are marked as asked before the file is written, and are not
    asked again. If the file is lost, `again` writes it anew.

    Args:
        folder: a run folder.
        to: a .csv or .jsonl file that does not exist yet.
        strategy: name of the acquisition strategy; None takes the config's.
        batch: number of pairs to ask; None takes the config's.
        again: whether to choose nothing and to write every question that has
            no answer yet.

    Returns:
        The number of questions written.

    Raises:
        ValueError: the file exists, or there is nothing (more) to ask.
    """
    folder, to = RunFolder.of_run(folder), Path(to)
    if to.exists():
        raise ValueError("Questions need a new file. Received: "
                         f"{to}, which exists and may hold answers. Choose "
                         "another name.")
    check_format(to)  # before anything counts as asked
    checks.whole(1, **checks.given(batch=batch))
    with folder.lock():
        folder.check_whole()
        built = restore_trained(folder, "Choosing pairs")
        pool = built.pool
        if again:
            questions = _open_questions(pool)
            if not len(questions):
                raise ValueError(
                    "`again` needs questions without an answer. Received: "
                    f"{folder.path}, which has none.")
        else:
            if strategy:
                built.config.strategy = strategy
            callback = built.acquire(
                CallableOracle(_nobody, cost=built.config.cost),
                **({"per_round": batch} if batch else {}))
            callback.set_model(built.model)
            chosen = callback.choose()
            if not len(chosen[0]):
                raise ValueError("There must be something to ask. Received: "
                                 f"{callback.exhausted}. A run with "
                                 "`--oracle people` asks pairs outside of "
                                 "its log.")
            questions = callback.ask(*chosen)
            folder.write(pool)
        data = built.split.train
        write_questions(to, questions, data.users, data.items)
    return len(questions)


def _nobody(user_ids, item_ids):
    raise NotImplementedError("people answer, by `tfrecal label`")


def _open_questions(pool) -> Questions:
    rows = np.flatnonzero(pool.state == ASKED)
    pairs = pool.pairs(pool.user[rows], pool.item[rows])
    return Questions(pool.ticket[rows], pairs.user_id, pairs.item_id,
                     utility=pool.utility[rows])


def label(folder, source, encoding: str = "utf-8",
          separator: str | None = None) -> dict[str, int]:
    """Takes the answers of a file into the pool of a run.

    Args:
        folder: a run folder.
        source: a file that `acquire` wrote, with labels filled in.
        encoding, separator: how a text file is written, see `read_answers`.

    Returns:
        The numbers of rows `labelled`, `declined` and still `open`.

    Raises:
        ValueError: a line of the file is wrong; no answer was taken.
    """
    folder = RunFolder.of_run(folder)
    if not Path(source).is_file():
        why = "a folder" if Path(source).is_dir() else "missing"
        raise ValueError("Answers must stand in a file (`--from`). Received: "
                         f"{source}, which is {why}.")
    with folder.lock():
        config = RunConfig.from_file(folder.checked("config.json"))
        state = folder.state
        if not state:
            raise ValueError("Answers need questions. Received: "
                             f"{folder.path}, where nothing was asked yet. "
                             "Ask with `tfrecal acquire`.")
        pool = folder.pool(load_split(config, folder.data()).train)
        rows = np.flatnonzero((pool.ticket >= 0) & (pool.state != ASKED))
        taken = {int(ticket): float(value) if value == value else None
                 for ticket, value in zip(pool.ticket[rows],
                                          pool.label[rows])}
        found = read_labels(
            source, _open_questions(pool), pool.scale, taken, set(),
            encoding, separator)
        labels = np.array(list(found.values()), np.float32)
        declined = np.isnan(labels)
        pool.answer(list(found), labels, declined,
                    np.where(declined, 0, config.cost))
        changes = {}
        if "acquire" in state:  # the labels are to be trained on
            changes["acquire"] = {
                **state["acquire"], "last_labels": state["epoch"]}
        if found:
            folder.write(pool, **changes)
    return {"labelled": int((~declined).sum()),
            "declined": int(declined.sum()), "open": pool.pending}
