"""The command line: one small function a command."""
from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import sys
import time
from pathlib import Path

from tfrecal import doctor, loop_commands


def main(argv=None) -> int:
    """Runs a command; returns the exit code (2 for a user's mistake)."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if arguments.command is serve:
        arguments.flags = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.command(arguments) or 0
    except (ValueError, OSError, ImportError) as error:
        print(f"tfrecal: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        # Not imported: commands that need no TensorFlow load none.
        if type(error).__name__ != "WorkersStopped":
            raise
        print(f"tfrecal: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        how = ("The run folder holds the last whole epoch. Go on with "
               "`tfrecal run --resume FOLDER`."
               if arguments.command in (run, demo) else
               "Nothing is half done that the same command would not end.")
        print(f"tfrecal: interrupted. {how}", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without all options before it."""

    def error(self, message):
        self.exit(2, f"tfrecal: {message}. `{self.prog} --help` lists what "
                  "there is.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tfrecal", description="Active learning for recommenders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (
            ("run", run), ("demo", demo), ("acquire", acquire),
            ("label", label), ("compare", compare), ("report", report),
            ("tune", tune), ("distill", distill),
            ("export", export), ("serve", serve), ("recommend", recommend),
            ("feedback", loop_commands.feedback), ("retrain", retrain),
            ("rollback", loop_commands.rollback),
            ("status", loop_commands.status),
            ("datasets", list_datasets), ("doctor", check)):
        text = (function.__doc__ or "").splitlines()[0]
        # The server tells of its own flags.
        command = commands.add_parser(
            name, help=text, description=text, add_help=name != "serve")
        command.set_defaults(command=function)
        if name in ("run", "demo"):
            command.add_argument("-o", "--output", help="run folder")
            command.add_argument("--quiet", action="store_true",
                                 help="no line a round")
        if name == "run":
            _run_arguments(command)
        if name in ("acquire", "label", "distill", "export"):
            command.add_argument(
                "--run", help="run folder; by default the newest in runs/")
        if name == "acquire":
            command.add_argument("--to", required=True, help="new file for "
                                 "the questions, .csv or .jsonl")
            command.add_argument("--batch", type=int)
            command.add_argument("--strategy")
            command.add_argument(
                "--again", action="store_true", help="choose nothing; write "
                "all questions without an answer anew")
        if name == "label":
            command.add_argument("--from", required=True, dest="source",
                                 help="question file with labels filled in")
        if name == "compare":
            _compare_arguments(command)
        if name == "tune":
            _tune_arguments(command)
        if name == "report":
            command.add_argument("folder", help="of a run or a comparison")
            command.add_argument("--to", help="the page (default: "
                                 "report.html in the folder)")
            command.add_argument("--tensorboard", metavar="FOLDER",
                                 help="write the curves of a comparison "
                                 "there too")
        if name == "distill":
            _distill_arguments(command)
        if name == "export":
            _export_arguments(command)
        if name == "recommend":
            _recommend_arguments(command)
        if name in ("feedback", "retrain", "rollback", "status"):
            loop_commands.add_arguments(name, command)
        if name == "retrain":
            from tfrecal.retrain.config import RetrainConfig
            _field_arguments(command, RetrainConfig)
    return parser


def _distill_arguments(command) -> None:
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


def _export_arguments(command) -> None:
    command.add_argument("--to", required=True, help="base path of the "
                         "model, such as models/recommender; a version "
                         "folder is made in it")
    command.add_argument("--index", default="auto",
                         help="auto, exact or scann (default: auto)")
    command.add_argument("--target-recall", type=float, default=0.97,
                         help="of ScaNN (default: 0.97)")
    command.add_argument("--k", type=int, default=20,
                         help="items of an answer (default: 20)")
    command.add_argument("--encoder", help="folder of a smaller encoder that "
                         "reads search texts, of `tfrecal distill`")
    command.add_argument("--precision", help="of the served encoder: "
                         "float32, bfloat16 or int8 (default: the run's)")
    command.add_argument("--for", dest="server", help="the server that must "
                         "be able to run it: stock, scann or tfrecal")


def _recommend_arguments(command) -> None:
    command.add_argument("--user", default="", help="id of a user")
    command.add_argument("--text", help="search for this, in place of what "
                         "the user likes")
    command.add_argument("--history", nargs="+", metavar="ITEM",
                         help="items that the user liked")
    command.add_argument("--exclude", nargs="+", metavar="ITEM",
                         help="items that are not wanted")
    command.add_argument("--k", type=int, help="items of the answer")
    command.add_argument("--address", default="localhost:8500",
                         help="of the server (default: localhost:8500)")
    command.add_argument("--model", default="recommender",
                         help="its name (default: recommender)")
    command.add_argument("--timeout", type=float, default=5.0,
                         help="seconds (default: 5)")
    command.add_argument("--tokenizer", metavar="FOLDER", help="of the "
                         "export, for --text: a model of RoBERTa or GPT-2 "
                         "has its texts tokenised here")
    command.add_argument("--explain-request", action="store_true",
                         help="print the request as JSON, send nothing")


def _run_arguments(command) -> None:
    from tfrecal.run_config import RunConfig
    command.add_argument("--config", help="JSON file, as in a run folder; "
                         "options given beside it win")
    command.add_argument("--resume", metavar="FOLDER", help="go on with the "
                         "run in this folder; takes no other option")
    _field_arguments(command, RunConfig)


def _tune_arguments(command) -> None:
    from tfrecal.run_config import RunConfig
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
    _field_arguments(command, RunConfig)


def _compare_arguments(command) -> None:
    from tfrecal.comparison_config import ComparisonConfig
    command.add_argument("-o", "--output", required=True, help="comparison "
                         "folder; one that was begun is gone on with, and "
                         "scenarios, strategies and seeds may be added")
    command.add_argument("--workers", type=int, default=2,
                         help="processes, one thread each (default: 2)")
    command.add_argument("--quiet", action="store_true",
                         help="no progress bar")
    _field_arguments(command, ComparisonConfig)


def _field_arguments(command, kind) -> None:
    """An option for each field of a config."""
    shown = _documented(kind)
    for field in dataclasses.fields(kind):
        if field.type == "bool":
            command.add_argument(
                "--" + field.name.replace("_", "-"), action="store_true",
                default=None, help=shown[field.name].replace("%", "%%"))
            continue
        of = {"int": int, "float": float}.get(
            field.type.removesuffix(" | None"), str)
        command.add_argument(
            "--" + field.name.replace("_", "-"), dest=field.name, type=of,
            metavar=of.__name__.upper().replace("STR", "NAME"),
            help=f"{shown[field.name]} (default: {field.default})".replace(
                "%", "%%"))


def _documented(kind) -> dict[str, str]:
    """Name -> text of the arguments in a class's docstring."""
    text = kind.__doc__.partition("Args:\n")[2]
    found = {}
    for part in re.split(r"\n {4,8}(?=\w[\w, ]*: )", "\n" + text):
        names, _, shown = part.strip().partition(": ")
        for name in names.split(", "):
            found[name] = " ".join(shown.split()).rstrip(".")
    return found


def run(arguments) -> int:
    """Train and acquire labels in one fit."""
    from tfrecal.run_config import RunConfig
    if arguments.resume is not None:
        return _resume(arguments, _given(arguments, RunConfig))
    return _run(_run_config(arguments), arguments)


def _run_config(arguments):
    """The config of `--config` and of the options beside it."""
    from tfrecal.run_config import RunConfig
    base = (RunConfig.from_file(arguments.config) if arguments.config
            else RunConfig())
    return dataclasses.replace(base, **_given(arguments, RunConfig))


def _given(arguments, kind) -> dict:
    """Fields of a config that were given as options."""
    return {f.name: getattr(arguments, f.name)
            for f in dataclasses.fields(kind)
            if getattr(arguments, f.name) is not None}


def _resume(arguments, given) -> int:
    from tfrecal.run import resume, verdict
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
    from tfrecal.run_config import RunConfig
    return _run(RunConfig(), arguments)


def _run(config, arguments) -> int:
    from tfrecal.run import run as run_config
    from tfrecal.run import verdict
    folder = arguments.output or time.strftime(
        f"runs/{config.strategy}-%Y%m%d-%H%M%S")
    if not arguments.quiet:
        text = "no text encoder" if config.encoder == "none" else (
            f"{config.encoder} ({config.tuning})")
        print(f"{config.data}, {text}, strategy {config.strategy}, run "
              f"folder {folder}", file=sys.stderr)
    history = run_config(config, folder, quiet=arguments.quiet)
    print(verdict(history))
    return 0


def acquire(arguments) -> int:
    """Choose pairs and write them as questions for people."""
    from tfrecal import labelling
    folder = _run_folder(arguments)
    number = labelling.acquire(
        folder, arguments.to, strategy=arguments.strategy,
        batch=arguments.batch, again=arguments.again)
    print(f"{number:,} questions of {folder} in {arguments.to}. Fill in the "
          f"column `label`, then: tfrecal label --run {folder} --from "
          f"{arguments.to}")
    return 0


def label(arguments) -> int:
    """Take the answers that people wrote into the pool."""
    from tfrecal import labelling
    folder = _run_folder(arguments)
    found = labelling.label(folder, arguments.source)
    print(f"{found['labelled']:,} labels and {found['declined']:,} declined "
          f"taken in, {found['open']:,} questions open. Train on them with: "
          f"tfrecal run --resume {folder}")
    return 0


def compare(arguments) -> int:
    """Compare strategies on paired seeds: labels saved, with intervals."""
    from tfrecal import experiment
    from tfrecal.comparison_config import ComparisonConfig
    begun = (Path(arguments.output) / "config.json").exists()
    config = dataclasses.replace(
        ComparisonConfig.from_folder(arguments.output) if begun
        else ComparisonConfig(), **_given(arguments, ComparisonConfig))
    curves = experiment.compare(config, arguments.output, arguments.workers,
                                quiet=arguments.quiet)
    print(experiment.spoken(experiment.summary(curves)))
    print(f"tfrecal report {arguments.output}", file=sys.stderr)
    return 0


def tune(arguments) -> int:
    """Search for settings, judged on the validation part."""
    from tfrecal.tuner import search
    space = None
    if arguments.space:
        try:
            space = json.loads(Path(arguments.space).read_text())
        except ValueError as error:
            raise ValueError("A space must be a JSON file. Received: "
                             f"{arguments.space}: {error}.") from error
    found = search(
        _run_config(arguments), folder=arguments.output, space=space,
        trials=arguments.trials, seconds=arguments.seconds,
        objective=arguments.objective, overwrite=arguments.overwrite,
        quiet=arguments.quiet)
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
    from tfrecal.distill import distill as make
    from tfrecal.run import restore_trained
    from tfrecal.run_folder import RunFolder
    if Path(arguments.to).exists():
        raise ValueError("`--to` must not exist. Received: "
                         f"{arguments.to}. Choose another name.")
    folder, more = _run_folder(arguments), []
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


def export(arguments) -> int:
    """Write a run's model as a SavedModel that servers load."""
    from tfrecal.export import check_server, export_model, read_manifest
    check_server(arguments.server, arguments.index)
    from tfrecal.run import restore_trained
    from tfrecal.run_folder import RunFolder
    folder = RunFolder.of_run(_run_folder(arguments))
    parts = restore_trained(folder, "An export")
    encoder = None
    if arguments.encoder:
        from tfrecal.distill import student_of
        own = parts.model.candidate_tower.encoder
        if own is None:
            raise ValueError("`--encoder` is for a run with texts. Received: "
                             f"{folder.path}, which has no encoder.")
        encoder = student_of(
            own, arguments.encoder, precision=own.precision)
    path = export_model(
        parts.model, arguments.to, pool=parts.pool, k=arguments.k,
        index=arguments.index, target_recall=arguments.target_recall,
        encoder=encoder, precision=arguments.precision,
        server=arguments.server, metrics=folder.metrics,
        fingerprint=parts.split.train.fingerprint(), seed=parts.config.seed)
    manifest = read_manifest(path)
    found = manifest["index"]
    print(f"{path}: {found['candidates']:,} items; {found['note']}; recall "
          f"{found['recall']:g}")
    if "encoder" in manifest:
        own = manifest["encoder"]
        print(f"encoder in {own['precision']}, {own['bytes'] / 1e6:.1f} MB; "
              f"mean cosine with the run's {own['cosine']:g}")
    print("ops outside TensorFlow's core: "
          f"{', '.join(sorted(set(manifest['ops'].values()))) or 'none'}; "
          f"can be served by: {', '.join(manifest['servers'])}")
    base = path.parent.resolve()
    print(shlex.join(["tfrecal", "serve", f"--model_name={base.name}",
                      f"--model_base_path={base}"]))
    return 0


def serve(arguments) -> int:
    """Serve exported models as tensorflow_model_server does."""
    try:
        from tfrecal.serving import server
    except ImportError as error:
        raise ValueError(
            "`tfrecal serve` needs the extra packages of serving. Received: "
            f"{error}. Install them: `pip install '.[serving]'`."
        ) from error
    return server.main(arguments.flags)


def recommend(arguments) -> int:
    """Ask a server for items for a user or a text."""
    from tfrecal.serving.client import Recommender, ServingUnavailable, explain

    def one(values):
        return None if values is None else [values]

    if arguments.text is None:
        call, inputs = "recommend", {
            "users": [arguments.user], "history": one(arguments.history),
            "exclude": one(arguments.exclude)}
    else:
        if arguments.history:
            raise ValueError(
                "A search takes no history. Received: --history beside "
                "--text. Leave one of them out.")
        call, inputs = "search", {
            "texts": [arguments.text], "users": one(arguments.user or None),
            "exclude": one(arguments.exclude)}
    with Recommender(arguments.address, arguments.model,
                     timeout=arguments.timeout,
                     tokenizer=arguments.tokenizer) as client:
        if arguments.explain_request:
            print(explain(client.request(call, **inputs)))
            return 0
        try:
            found = getattr(client, call)(k=arguments.k, **inputs)
        except ServingUnavailable as error:
            raise ValueError(str(error)) from error
    for item, score in zip(found.item_ids[0], found.scores[0]):
        print(f"{item}\t{score:.4f}")
    return 0


def retrain(arguments) -> int:
    """Retrain a served model from its feedback, judge it, promote it."""
    from tfrecal.retrain.config import RetrainConfig
    return loop_commands.retrain(arguments, _given(arguments, RetrainConfig))


def _run_folder(arguments) -> str:
    if arguments.run is not None:
        return arguments.run
    found = sorted(Path("runs").glob("*/config.json"),
                   key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError("There must be a run in runs/. Received: none. "
                         "Start one with `tfrecal run`, or name its folder "
                         "with `--run`.")
    return str(found[-1].parent)


def list_datasets(arguments) -> int:
    """Named data sets, their size and licence."""
    from tfrecal import datasets
    for known in datasets.names():
        print(f"{known.name:16} {known.description} ({known.size}; "
              f"{known.licence})")
    return 0


def check(arguments) -> int:
    """Is the installed stack one that works?"""
    text, code = doctor.report()
    print(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
