"""write_tensorboard: writes a report's curves as TensorBoard scalars."""
from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.compare.savings import metric_names
from tfrecal.report.lines import mean_line
from tfrecal.report.results import Results


def write_tensorboard(folder, logdir) -> None:
    """Writes one TensorBoard log for each scenario and strategy.

    Scalars are means over seeds; the step is the number of labels bought.

    Args:
        folder: the folder of a comparison or a run.
        logdir: where the logs go, as `<logdir>/<scenario>/<strategy>`.
    """
    results = Results.of_folder(folder)
    for (scenario, strategy), rows in results.curves.groupby(
            ["scenario", "strategy"], sort=False):
        name = [part.replace("/", "_").lstrip(".") or "_"
                for part in (str(scenario), str(strategy))]
        writer = tf.summary.create_file_writer(
            str(Path(logdir).joinpath(*name)))
        with writer.as_default():
            for metric in metric_names(results.curves):
                line = mean_line(rows, "bought", metric)
                for x, y in () if line is None else zip(line.x, line.y):
                    tf.summary.scalar(
                        metric, y, step=round(x),
                        description=f"On the {results.part} part.")
        writer.close()
