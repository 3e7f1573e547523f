"""Commands that take feedback in and learn from it: feedback, retrain."""
from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from tfrecal import checks
from tfrecal.checks import typed
from tfrecal.cli.options import given_fields
from tfrecal.data.columns import read_pairs

_STORE = ("file or URL of the store (default: the environment variable "
          "TFRECAL_FEEDBACK)")


def add_arguments(name: str, command) -> None:
    """Adds the options of one of the commands."""
    if name == "feedback":
        _feedback_arguments(command)
    elif name == "retrain":
        command.add_argument("-o", "--output", help="folder of the loop; "
                             "one that was begun keeps its options "
                             "(default: TO.loop)")
        command.add_argument("--watch", type=float, metavar="SECONDS",
                             help="retrain again and again, as soon as there "
                             "is new feedback, looking every SECONDS")
        command.add_argument("--least", type=int, default=100, help="new "
                             "responses that --watch waits for (default: "
                             "100)")
        command.add_argument("--only-grow", action="store_true", help="train "
                             "nothing: serve new users and items by their "
                             "columns and texts")
        command.add_argument("--quiet", action="store_true")


def _feedback_arguments(command) -> None:
    actions = command.add_subparsers(dest="action", required=True,
                                     metavar="ACTION")
    for name, text in (
            ("ingest", "take events in from CSV, TSV, JSONL or Parquet files"),
            ("erase", "delete all that is stored of a user"),
            ("drop", "delete what is older than some days")):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--feedback", help=_STORE)
        if name == "ingest":
            action.add_argument("files", nargs="+", help="files of events, "
                                "or folders in which logs left their rows")
            action.add_argument("--scale", nargs=2, type=float,
                                metavar=("LOW", "HIGH"), help="of ratings; the "
                                "store keeps it")
            action.add_argument("--columns",
                                metavar="NAME=COLUMN,...", help="columns "
                                "that the files name otherwise, such as "
                                "user=customer,time=at,label=stars")
            action.add_argument("--encoding", default="utf-8", help="of CSV "
                                "and JSONL (default: utf-8)")
            action.add_argument("--separator", help="of CSV; tab for a tab "
                                "(default: comma, semicolon or tab, as in "
                                "the header)")
            action.add_argument("--missing", default="", help="of CSV; "
                                "comma-separated cells that are missing, "
                                "such as NA,null; empty ones are")
            action.add_argument("--quiet", action="store_true",
                                help="no progress bar")
        if name == "erase":
            action.add_argument("--user", required=True)
            action.add_argument("--spill", help="folder of logs without a "
                                "store, which are taken in first")
        if name == "drop":
            action.add_argument("--days", type=float, required=True,
                                help="that are kept")


def feedback_package():
    """Returns `tfrecal.feedback`, whose libraries are an extra.

    Raises:
        ValueError: the libraries are not installed.
    """
    try:
        from tfrecal import feedback
    except ImportError as error:
        raise ValueError(str(error)) from error
    return feedback


def feedback(arguments) -> int:
    """Take events in, erase a user, or drop what is old."""
    scale = getattr(arguments, "scale", None)
    if arguments.action == "drop":
        checks.at_least(0, days=arguments.days)
    from tfrecal.feedback.log.delivery import take_spilled
    package = feedback_package()
    from tfrecal.feedback.store.event_files import check_there
    if arguments.action == "erase" and not arguments.user.strip():
        raise ValueError("`--user` must be an id. Received: "
                         f"{arguments.user!r}.")
    with package.named_store(arguments.feedback, scale,
                             arguments.action != "ingest") as store:
        if arguments.action == "ingest":
            rejected = ratings = 0
            for path in arguments.files:  # before one is taken in
                check_there(path)
            for path in arguments.files:
                if Path(path).is_dir():
                    found = take_spilled(store, path)
                    print(f"{path}: {found['written']:,} taken in, "
                          f"{found['rejected']:,} rejected")
                    rejected += found["rejected"]
                    continue
                found = package.ingest(
                    store, path, progress=not arguments.quiet,
                    columns=read_pairs(arguments.columns),
                    encoding=arguments.encoding,
                    separator=arguments.separator,
                    missing=typed.listed(arguments.missing))
                where = (f" (see {found.rejected_path})"
                         if found.rejected else "")
                print(f"{path}: {found.new:,} new, {found.known:,} known, "
                      f"{found.rejected:,} rejected{where}")
                if found.new_users or found.new_items:
                    print(f"{path}: {found.new_users:,} users and "
                          f"{found.new_items:,} items that the store had "
                          "never seen")
                rejected += found.rejected
                ratings += found.ratings
            if ratings and store.scale is None:
                print("The store knows no scale: any rating from 0 on was "
                      "taken. Give `--scale LOW HIGH` once, and it is kept.",
                      file=sys.stderr)
            return 0 if not rejected else 1
        if arguments.action == "erase":
            if arguments.spill:
                # Rows that come from there later are refused.
                take_spilled(store, arguments.spill)
            counts = store.erase_user(arguments.user)
        else:
            counts = store.drop_before(
                time.time() - 86_400 * arguments.days)
    print("deleted: " + ", ".join(
        f"{number:,} {name}" for name, number in counts.items()))
    if arguments.action == "erase":
        print(_not_reached(arguments.user.strip(), store))
    return 0


def _not_reached(user: str, store) -> str:
    """Returns where an erased user may still be, and what clears it."""
    places = [
        ("files of events and tables", "take the user's lines out; events "
         "that are ingested again are refused"),
        ("rejected rows", "rm FILE.rejected.csv SPILL/*.rejected"),
        ("rows that logs have spilled", "tfrecal feedback erase --user "
         f"{shlex.quote(user)} --spill SPILL"),
        ("question and answer files", "rm -r QUEUE/questions QUEUE/answers"),
        ("the loop and the served model", "tfrecal retrain -o LOOP, which "
         "leaves the user out; then rm -r LOOP/runs/OLDER"),
        ("older exported versions", "rm -r BASE/VERSION; a rollback to one "
         "brings the user back"),
        ("run folders", "tfrecal run on tables without the user; then rm -r "
         "RUN")]
    if not store.url.startswith("sqlite"):
        places.append(("PostgreSQL's write-ahead log, replicas, backups",
                       "they keep the rows until they are recycled"))
    width = max(len(place) for place, _ in places)
    return "\n".join(["not reached by this command:", *(
        f"  {place:<{width}}  {cure}" for place, cure in places)])


def retrain(arguments) -> int:
    """Retrain a served model from its feedback, judge it, promote it."""
    from tfrecal.retrain.config import RetrainConfig
    given = given_fields(arguments, RetrainConfig)
    folder = arguments.output or f"{given.get('to', '').rstrip('/')}.loop"
    if folder == ".loop":
        raise ValueError("A retraining needs `--to` or the folder of a loop "
                         "(`-o`). Received: neither.")
    if arguments.watch is not None and arguments.only_grow:
        raise ValueError(
            "`--watch` trains. Received: --only-grow beside it. Leave "
            "one of them out; cron can call `--only-grow`.")
    begun = (Path(folder) / "config.json").exists()
    if not begun and not {"run", "to"} <= set(given):
        lacking = " and ".join(
            f"`--{name}`" for name in ("run", "to") if name not in given)
        raise ValueError(
            "A loop that has not begun needs the folder of its run (`--run`) "
            "and the base path of the served model (`--to`). Received: no "
            f"{lacking}, and no loop in {folder} (`-o`), which "
            + ("holds no config.json" if Path(folder).exists()
               else "is missing") + ".")
    config = (RetrainConfig.from_folder(folder, **given) if begun
              else RetrainConfig(**given))
    feedback_package()
    from tfrecal.retrain import job, watching
    from tfrecal.retrain.refresh import refresh
    if arguments.watch is not None:
        return watching.watch(folder, config, seconds=arguments.watch,
                              least=arguments.least,
                              quiet=arguments.quiet)
    once = refresh if arguments.only_grow else job.retrain
    record = once(folder, config, quiet=arguments.quiet)
    return 0 if record["outcome"] == "promoted" else 1
