"""The command line: one small function a command."""
from __future__ import annotations

import argparse
import dataclasses
import sys
import time

from tfrecal import doctor


def main(argv=None) -> int:
    """Runs a command; returns the exit code (2 for a user's mistake)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments) or 0
    except (ValueError, OSError) as error:
        print(f"tfrecal: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tfrecal: interrupted; the run folder holds the last whole "
              "epoch.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfrecal", description="Active learning for recommenders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function in (("run", run), ("demo", demo),
                           ("datasets", list_datasets), ("doctor", check)):
        text = (function.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if name in ("run", "demo"):
            command.add_argument("-o", "--output", help="run folder")
            command.add_argument("--quiet", action="store_true",
                                 help="no line a round")
        if name == "run":
            _run_arguments(command)
    return parser


def _run_arguments(command) -> None:
    """An option for each field of `RunConfig`."""
    types = {"initial": float, "batch": int, "rounds": int, "top_n": int,
             "final_epochs": int, "budget": float, "batch_size": int,
             "learning_rate": float, "encoder_learning_rate": float,
             "dropout": float, "seed": int}
    command.add_argument("--config", help="JSON file, as in a run folder; "
                         "options given beside it win")
    for name in ("data", "users", "items", "encoder", "tuning", "strategy",
                 *types):
        command.add_argument("--" + name.replace("_", "-"), dest=name,
                             type=types.get(name, str))


def run(arguments) -> int:
    """Train and acquire labels in one fit."""
    from tfrecal.run import RunConfig
    given = {f.name: getattr(arguments, f.name)
             for f in dataclasses.fields(RunConfig)
             if getattr(arguments, f.name) is not None}
    base = (RunConfig.from_file(arguments.config) if arguments.config
            else RunConfig())
    return _run(dataclasses.replace(base, **given), arguments)


def demo(arguments) -> int:
    """The main job on MovieLens-100K with a fine-tuned MiniLM."""
    from tfrecal.run import RunConfig
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
