"""watch: retrains whenever enough feedback has come."""
from __future__ import annotations

import dataclasses
import sys
import time

from tfrecal import checks
from tfrecal.feedback.log.delivery import take_spilled
from tfrecal.retrain import job
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.material import NothingNew
from tfrecal.retrain.todays_tables import TablesWrong, stamp

# After a failure, the pause until the next look is this many times longer.
_PATIENCE = 10


def watch(folder, config: RetrainConfig | None = None, *,
          seconds: float = 60.0, least: int = 100,
          quiet: bool = False) -> None:
    """Retrains whenever enough feedback has come, until it is stopped.

    Where a database or server does not answer, a line on stderr says so once,
    and the loop waits for it. So it does for tables of today that are wrong
    or missing: it looks again when their files have changed.

    Args:
        folder, config, quiet: see `job.retrain`.
        seconds: time between two looks at the store; ten times that after a
            failure.
        least: number of new responses that start a retraining.

    Raises:
        ValueError: as `job.retrain`, except where there is no new feedback
            or the tables of today are wrong.
    """
    checks.positive(watch=seconds, cure="It is in seconds.")
    loop = Loop(folder, config)
    tables = loop.config.users, loop.config.items
    said, wrong, checked = None, None, False
    loop.check()  # before anything is written
    if config is not None:
        config.write(folder)
    while True:
        patience = 1
        try:
            if not checked:  # not only when feedback is due
                with loop.store() as store:
                    loop.check_files(store)
                checked = True
            # Wrong tables are not read again before they are mended.
            if _is_due(loop, least) and (
                    wrong is None or wrong != stamp(*tables)):
                seen, wrong = stamp(*tables), None
                record = job.retrain(folder, config, quiet=quiet)
                said = None
                if record["outcome"] == "failed":
                    patience = _PATIENCE
                elif config is not None:  # these hold for one retraining
                    config = dataclasses.replace(
                        config, force=False, reset=False)
        except (NothingNew, TablesWrong, OSError) as error:
            if str(error) != said:
                said = str(error)
                print(f"tfrecal: {said}", file=sys.stderr, flush=True)
            patience = _PATIENCE
            if isinstance(error, TablesWrong):
                wrong, patience = seen, 1
        time.sleep(patience * seconds)


def _is_due(loop: Loop, least: int) -> bool:
    """Whether enough feedback is there, or a retraining was interrupted."""
    with loop.store() as store:
        if loop.config.spill:
            take_spilled(store, loop.config.spill)
        return bool(store.counts()["unused_responses"] >= least
                    or (store.retrainings()["outcome"] == "running").any())
