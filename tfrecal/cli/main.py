"""The command line: one small function a command."""
from __future__ import annotations

import argparse
import sys

import tfrecal
from tfrecal import doctor
from tfrecal.cli import loop as loop_commands
from tfrecal.cli import versions
from tfrecal.cli.check import check, check_arguments
from tfrecal.cli.options import field_arguments
from tfrecal.cli.serving import (
    export,
    export_arguments,
    recommend,
    recommend_arguments,
    serve,
)
from tfrecal.cli.training import (
    acquire,
    compare,
    compare_arguments,
    demo,
    distill,
    distill_arguments,
    label,
    report,
    run,
    run_arguments,
    tune,
    tune_arguments,
)


def main(argv=None) -> int:
    """Runs a command; returns the exit code (2 for a user's mistake)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(next((word for word in argv if word[:1] != "-"), ""))
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
        # The class is not imported, so that commands that need no TensorFlow
        # do not load it.
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
    """Reports a mistake in one line, without listing all options first."""

    def error(self, message):
        self.exit(2, f"tfrecal: {message}. `{self.prog} --help` lists what "
                  "there is.\n")


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Returns the parser; only the chosen command knows its options."""
    parser = _Parser(
        prog="tfrecal", description="Active learning for recommenders.")
    parser.add_argument("--version", action="version",
                        version=f"tfrecal {tfrecal.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (
            ("check", check), ("run", run), ("demo", demo),
            ("acquire", acquire), ("label", label), ("compare", compare),
            ("report", report), ("tune", tune), ("distill", distill),
            ("export", export), ("serve", serve), ("recommend", recommend),
            ("feedback", loop_commands.feedback),
            ("retrain", loop_commands.retrain),
            ("rollback", versions.rollback),
            ("status", versions.status),
            ("datasets", list_datasets), ("doctor", run_doctor)):
        text = (function.__doc__ or "").splitlines()[0]
        # The server describes its own flags.
        command = commands.add_parser(
            name, help=text, description=text, add_help=name != "serve")
        command.set_defaults(command=function)
        if name == chosen:
            _add_arguments(name, command)
    return parser


def _add_arguments(name: str, command) -> None:
    if name in ("run", "demo"):
        command.add_argument("-o", "--output", help="run folder")
        command.add_argument("--quiet", action="store_true",
                             help="no line a round")
    if name == "check":
        check_arguments(command)
    if name == "run":
        run_arguments(command)
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
                             help="question file with labels filled in: "
                             "CSV, TSV, JSONL or Parquet, by its ending")
        command.add_argument("--encoding", default="utf-8",
                             help="of CSV and TSV (default: utf-8)")
        command.add_argument("--separator", help="of CSV; `tab` is a tab "
                             "(default: that which the header has most)")
    if name == "compare":
        compare_arguments(command)
    if name == "tune":
        tune_arguments(command)
    if name == "report":
        command.add_argument("folder", help="of a run or a comparison")
        command.add_argument("--to", help="the page (default: "
                             "report.html in the folder)")
        command.add_argument("--tensorboard", metavar="FOLDER",
                             help="write the curves of a comparison "
                             "there too")
    if name == "distill":
        distill_arguments(command)
    if name == "export":
        export_arguments(command)
    if name == "recommend":
        recommend_arguments(command)
    if name in ("feedback", "retrain"):
        loop_commands.add_arguments(name, command)
    if name in ("rollback", "status"):
        versions.add_arguments(name, command)
    if name == "retrain":
        from tfrecal.retrain.config import RetrainConfig
        field_arguments(command, RetrainConfig)


def list_datasets(arguments) -> int:
    """Named data sets, their size and licence."""
    from tfrecal.data import datasets
    for known in datasets.names():
        print(f"{known.name:23} {known.description} ({known.size}; "
              f"{known.licence})")
    return 0


def run_doctor(arguments) -> int:
    """Is the installed stack one that works?"""
    text, code = doctor.report()
    print(text)
    return code
