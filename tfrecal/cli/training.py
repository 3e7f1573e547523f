"""Commands that train, compare and report."""
from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

from tfrecal import checks
from tfrecal.cli.options import field_arguments, given_fields


def distill_arguments(command) -> None:
    command.add_argument("--to", required=True, help="new folder of the "
                         "smaller encoder, for `tfrecal export --encoder`")
    command.add_argument("--layers", type=int, default=2, help="of it; 0 is "
                         "a vector a token and their mean (default: 2)")
    command.add_argument("--texts", help="file of further texts to learn, "
                         "one a line, such as searches that were logged")
    command.add_argument("--samples", type=int, default=30_000,
                         help="texts and pieces of them that are learned "
                         "(default: 30000)")
    command.add_argument("--epochs", type=int, default=10,
                         help="passes over them (default: 10)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--quiet", action="store_true", help="no bar")


def run_arguments(command) -> None:
    from tfrecal.runs.config import RunConfig
    command.add_argument("--config", help="JSON file, as in a run folder; "
                         "options given beside it win")
    command.add_argument("--resume", metavar="FOLDER", help="go on with the "
                         "run in this folder; takes no other option")
    field_arguments(command, RunConfig)


def tune_arguments(command) -> None:
    from tfrecal.runs.config import RunConfig
    command.add_argument("-o", "--output", required=True, help="folder of "
                         "the search; one that was begun is gone on with")
    command.add_argument("--config", help="JSON file, as in a run folder: "
                         "the settings that are not searched; options given "
                         "beside it win")
    command.add_argument("--space", help="JSON file: setting -> list of "
                         "values, or {low, high, log} (default: encoder, "
                         "tuning, losses, temperature, dropout)")
    command.add_argument("--trials", type=int, default=20,
                         help="in total (default: 20)")
    command.add_argument("--seconds", type=float, help="after which no "
                         "trial is begun, all calls together")
    command.add_argument("--objective", default="ndcg@10", help="of the "
                         "validation part: ndcg@10 or rmse (default: "
                         "ndcg@10)")
    command.add_argument("--overwrite", action="store_true",
                         help="throw an earlier search in the folder away")
    command.add_argument("--quiet", action="store_true",
                         help="no line a trial")
    field_arguments(command, RunConfig)


def compare_arguments(command) -> None:
    from tfrecal.compare.config import ComparisonConfig
    command.add_argument("-o", "--output", required=True, help="comparison "
                         "folder; one that was begun is gone on with, and "
                         "scenarios, strategies and seeds may be added")
    command.add_argument("--workers", type=int, default=2,
                         help="processes, one thread each (default: 2)")
    command.add_argument("--quiet", action="store_true",
                         help="no plan and no progress bar")
    field_arguments(command, ComparisonConfig)


def run(arguments) -> int:
    """Train and acquire labels in one fit."""
    from tfrecal.runs.config import RunConfig
    if arguments.resume is not None:
        return _resume(arguments, given_fields(arguments, RunConfig))
    return _run(_run_config(arguments), arguments)


def _run_config(arguments):
    """Returns the config of `--config`, changed by the other options."""
    from tfrecal.runs.config import RunConfig
    base = (RunConfig.from_file(arguments.config) if arguments.config
            else RunConfig())
    return dataclasses.replace(base, **given_fields(arguments, RunConfig))


def _resume(arguments, given) -> int:
    from tfrecal.runs.run import resume, verdict
    if given or arguments.config or arguments.output:
        raise ValueError(
            "`--resume` goes on with the run's own config. Received: "
            f"{', '.join(sorted(given)) or '--config or --output'} beside "
            "it. Leave it out, or start a new run.")
    history = resume(arguments.resume, quiet=arguments.quiet)
    print(verdict(history))
    return 0


def demo(arguments) -> int:
    """The main job on MovieLens-100K with a fine-tuned MiniLM."""
    from tfrecal.runs.config import RunConfig
    return _run(RunConfig(), arguments)


def _run(config, arguments) -> int:
    folder = arguments.output or time.strftime(
        f"runs/{config.strategy}-%Y%m%d-%H%M%S")
    data = None
    # Several workers first meet, so that all of them hear of an error.
    if "TF_CONFIG" not in os.environ:
        data = _check_run(config, folder, arguments.quiet)
    from tfrecal.runs.run import run as run_config
    from tfrecal.runs.run import verdict
    history = run_config(config, folder, quiet=arguments.quiet, data=data)
    print(verdict(history))
    return 0


def _check_run(config, folder, quiet):
    """Checks folder and data, and says the plan, before TensorFlow loads."""
    from tfrecal.pool.run_folder import RunFolder
    from tfrecal.runs.data import load_data, load_split
    from tfrecal.runs.plan import Plan
    RunFolder(folder).check_new()
    data = load_data(config)
    plan = Plan.of(config, load_split(config, data))
    if not quiet:
        text = "no text encoder" if config.encoder == "none" else (
            f"{config.encoder} ({config.tuning})")
        print(f"{config.data}, {text}, strategy {config.strategy}, run "
              f"folder {folder}", file=sys.stderr)
    plan.say(quiet)
    return data


def acquire(arguments) -> int:
    """Choose pairs and write them as questions for people."""
    from tfrecal.runs import ask_people
    folder = run_folder(arguments)
    number = ask_people.acquire(
        folder, arguments.to, strategy=arguments.strategy,
        batch=arguments.batch, again=arguments.again)
    print(f"{number:,} questions of {folder} in {arguments.to}. Fill in the "
          f"column `label`, then: tfrecal label --run {folder} --from "
          f"{arguments.to}")
    return 0


def label(arguments) -> int:
    """Take the answers that people wrote into the pool."""
    from tfrecal.runs import ask_people
    folder = run_folder(arguments)
    found = ask_people.label(folder, arguments.source, arguments.encoding,
                             arguments.separator)
    print(f"{found['labelled']:,} labels and {found['declined']:,} declined "
          f"taken in, {found['open']:,} questions open. Train on them with: "
          f"tfrecal run --resume {folder}")
    return 0


def compare(arguments) -> int:
    """Compare strategies on paired seeds: labels saved, with intervals."""
    from tfrecal.compare import comparison
    from tfrecal.compare.config import ComparisonConfig
    begun = (Path(arguments.output) / "config.json").exists()
    config = dataclasses.replace(
        ComparisonConfig.from_folder(arguments.output) if begun
        else ComparisonConfig(), **given_fields(arguments, ComparisonConfig))
    if len(config.labels) < 2:
        raise ValueError(
            "A comparison needs a strategy beside the baseline. Received: "
            f"--strategies {config.strategies}. Name another one.")
    curves = comparison.compare(config, arguments.output, arguments.workers,
                                quiet=arguments.quiet)
    print(comparison.spoken(comparison.summary(curves)))
    print(f"tfrecal report {arguments.output}", file=sys.stderr)
    return 0


def tune(arguments) -> int:
    """Search for settings, judged on the validation part."""
    from tfrecal.runs.data import load_data
    from tfrecal.runs.tuning.check import check
    config = _run_config(arguments)
    space = (checks.read_json(arguments.space, "A space")
             if arguments.space else None)
    options = {"trials": arguments.trials, "seconds": arguments.seconds,
               "objective": arguments.objective}
    data = load_data(config)
    plan, _ = check(config, data, **options)  # before TensorFlow loads
    plan.say(quiet=True)  # a search plans no rounds
    from tfrecal.runs.tuning.search import search
    found = search(
        config, data, folder=arguments.output, space=space,
        overwrite=arguments.overwrite, quiet=arguments.quiet, **options)
    best_first = found.trials.sort_values(
        arguments.objective, ascending=arguments.objective == "rmse")
    print(best_first.to_string(index=False, na_rep="", float_format="%.4g"))
    print(f"tfrecal run --config {Path(arguments.output) / 'best.json'}",
          file=sys.stderr)
    return 0


def report(arguments) -> int:
    """Write a run or a comparison as one HTML page."""
    try:
        from tfrecal.report import write_report, write_tensorboard
    except ImportError as error:
        raise ValueError(str(error)) from error
    path = arguments.to or str(Path(arguments.folder) / "report.html")
    write_report(arguments.folder, path)
    print(path)
    if arguments.tensorboard:
        write_tensorboard(arguments.folder, arguments.tensorboard)
        print(f"tensorboard --logdir {arguments.tensorboard}")
    return 0


def distill(arguments) -> int:
    """Make a smaller text encoder with the vectors of a run's."""
    from tfrecal.pool.run_folder import RunFolder
    from tfrecal.runs.build import restore_trained
    from tfrecal.text.distill import distill as make
    if Path(arguments.to).exists():
        raise ValueError("`--to` must not exist. Received: "
                         f"{arguments.to}. Choose another name.")
    folder, more = run_folder(arguments), []
    if arguments.texts:
        try:
            more = Path(arguments.texts).read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError("`--texts` must be a file in UTF-8. Received: "
                             f"{arguments.texts}, {error}.") from None
    tower = restore_trained(
        RunFolder.of_run(folder), "Distillation").model.candidate_tower
    if tower.encoder is None:
        raise ValueError("Distillation needs a run with a text encoder. "
                         f"Received: {folder}, which has none.")
    found = make(tower.encoder, [*tower.texts, *more], arguments.to,
                 layers=arguments.layers, samples=arguments.samples,
                 epochs=arguments.epochs, seed=arguments.seed,
                 progress=not arguments.quiet)
    print(f"{arguments.to}: {found['layers']} layers; mean cosine with the "
          f"run's encoder {found['cosine']:.3f}, on texts and pieces that "
          "were not learned")
    print(f"tfrecal export --run {folder} --encoder {arguments.to} --to "
          "models/recommender", file=sys.stderr)
    return 0


def run_folder(arguments) -> str:
    if arguments.run is not None:
        return arguments.run
    found = sorted(Path("runs").glob("*/config.json"),
                   key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError("There must be a run in runs/. Received: none. "
                         "Start one with `tfrecal run`, or name its folder "
                         "with `--run`.")
    return str(found[-1].parent)
