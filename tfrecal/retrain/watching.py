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

# After a failure, the pause until the next look is this many times longer.
_PATIENCE = 10


def watch(folder, config: RetrainConfig | None = None, *,
          seconds: float = 60.0, least: int = 100,
          quiet: bool = False) -> None:
    """Retrains whenever enough feedback has come, until it is stopped.

    Where a database or server does not answer, a line on stderr says so, and
    the loop waits for it.

    Args:
        folder, config, quiet: see `job.retrain`.
        seconds: time between two looks at the store; ten times that after a
            failure.
        least: number of new responses that start a retraining.

    Raises:
        ValueError: as `job.retrain`, except where there is no new feedback.
    """
    checks.positive(watch=seconds, cure="It is in seconds.")
    loop = Loop(folder, config)
    loop.check()  # before anything is written
    if config is not None:
        config.write(folder)
    while True:
        patience = 1
        try:
            if _is_due(loop, least):
                record = job.retrain(folder, config, quiet=quiet)
                if record["outcome"] == "failed":
                    patience = _PATIENCE
                elif config is not None:  # these hold for one retraining
                    config = dataclasses.replace(
                        config, force=False, reset=False)
        except (NothingNew, OSError) as error:
            print(f"tfrecal: {error}", file=sys.stderr, flush=True)
            patience = _PATIENCE
        time.sleep(patience * seconds)


def _is_due(loop: Loop, least: int) -> bool:
    """Whether enough feedback is there, or a retraining was interrupted."""
    with loop.store() as store:
        if loop.config.spill:
            take_spilled(store, loop.config.spill)
        return bool(store.counts()["unused_responses"] >= least
                    or (store.retrainings()["outcome"] == "running").any())
