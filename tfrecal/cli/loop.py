"""Commands of the feedback loop: feedback, retrain, rollback, status."""
from __future__ import annotations

import math
import os
import shlex
import sys
import time
from pathlib import Path

from tfrecal import checks
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
    else:
        command.add_argument("--to", required=True,
                             help="base path of the served model")
        command.add_argument("--address", help="host:port of the server")
        command.add_argument("--model", help="its name there (default: that "
                             "of the base path)")
        command.add_argument("-o", "--output", help="folder of the loop "
                             "(default: TO.loop)")
        command.add_argument("--feedback", help=_STORE)
        if name == "rollback":
            command.add_argument("--version", type=int, help="to go back to "
                                 "(default: the one before the newest)")
            command.add_argument("--timeout", type=float, default=120,
                                 help="seconds that the server has (default: "
                                 "120)")
            command.add_argument("--force", action="store_true", help="go "
                                 "back to a version that knows erased users")


def _feedback_arguments(command) -> None:
    actions = command.add_subparsers(dest="action", required=True,
                                     metavar="ACTION")
    for name, text in (
            ("ingest", "take events in from CSV, JSONL or Parquet files"),
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
            action.add_argument("--quiet", action="store_true",
                                help="no progress bar")
        if name == "erase":
            action.add_argument("--user", required=True)
            action.add_argument("--spill", help="folder of logs without a "
                                "store, which are taken in first")
        if name == "drop":
            action.add_argument("--days", type=float, required=True,
                                help="that are kept")


def _package():
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
    package = _package()
    if arguments.action == "erase" and not arguments.user.strip():
        raise ValueError("`--user` must be an id. Received: "
                         f"{arguments.user!r}.")
    with package.named_store(arguments.feedback, scale,
                             arguments.action != "ingest") as store:
        if arguments.action == "ingest":
            rejected = ratings = 0
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
                    separator=arguments.separator)
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
    _package()
    from tfrecal.retrain import job, watching
    from tfrecal.retrain.refresh import refresh
    if arguments.watch is not None:
        return watching.watch(folder, config, seconds=arguments.watch,
                              least=arguments.least,
                              quiet=arguments.quiet)
    once = refresh if arguments.only_grow else job.retrain
    record = once(folder, config, quiet=arguments.quiet)
    return 0 if record["outcome"] == "promoted" else 1


def rollback(arguments) -> int:
    """Go back to the version before, on disk and on the server."""
    from tfrecal.retrain import promotion
    target = promotion.rollback_target(arguments.to, arguments.version)
    known = _known_erased(arguments, target)
    if known and not arguments.force:
        raise ValueError(
            "A version that is served must know no erased user. Received: "
            f"version {target.name}, which knows {known:,}. Retrain without "
            "them (`tfrecal retrain`), or give --force to serve them again.")
    version, gone = promotion.rollback(arguments.to, arguments.version)
    names = ", ".join(map(str, gone)) or "nothing"
    print(f"withdrawn: {names}; newest is version {version}")
    if known:
        print(f"version {version} knows {known:,} erased users: retrain "
              "without them (`tfrecal retrain`)")
    if arguments.address:
        name = arguments.model or Path(arguments.to).name
        promotion.wait_served(arguments.address, name, version,
                              arguments.timeout)
        print(f"served at {arguments.address}: version {version}")
    return 0


def _known_erased(arguments, folder) -> int:
    """Returns how many erased users a version knows, as `--force` allows.

    Raises:
        ValueError: it cannot be told, because a file is damaged or the store
            does not answer; with `--force`, a line on stderr says so.
    """
    from tfrecal.retrain import forgotten
    loop = forgotten.loop_folder(arguments.to, arguments.output)
    try:
        name = _store_name(arguments.feedback, loop)
        if name is None:
            return _not_told(folder, "no store is named (`--feedback`)")
        with _package().named_store(name, made=True) as store:
            if forgotten.has_begun(loop):
                forgotten.check_store(loop, store)
            return _erased_users(store, folder, loop)
    except (ValueError, OSError) as error:
        if arguments.force:
            return _not_told(folder, error)
        raise ValueError(
            f"Whether version {folder.name} knows erased users must be told "
            f"first. Received: {error} Or give --force to go back all the "
            "same.") from error


def _erased_users(store, folder, loop) -> int:
    """Returns how many erased users a version knows; 0 without its tables.

    Raises:
        ValueError: a file is damaged.
    """
    from tfrecal.retrain import forgotten
    try:
        return forgotten.erased_users(folder, loop, store)
    except forgotten.Unknown as error:
        return _not_told(folder, error)


def _not_told(folder, why) -> int:
    print(f"tfrecal: whether version {folder.name} knows erased users is not "
          f"checked: {why}", file=sys.stderr)
    return 0


def _store_name(given: str | None, loop) -> str | None:
    """Returns the store of an option, of a loop, or of the environment."""
    from tfrecal.retrain import forgotten
    from tfrecal.retrain.config import RetrainConfig
    if not given and forgotten.has_begun(loop):
        given = RetrainConfig.from_folder(loop).feedback
    return given or os.environ.get("TFRECAL_FEEDBACK") or None


def status(arguments) -> int:
    """The loop at a glance: versions, feedback since, the last gate."""
    from tfrecal.export.manifest import read_manifest
    from tfrecal.retrain import forgotten, promotion
    from tfrecal.retrain.loop import Loop
    from tfrecal.serving.server.version_folders import folders
    base = Path(arguments.to)
    found = folders(base) if base.is_dir() else {}
    if not found:
        why = "which has none" if base.is_dir() else "which is missing"
        raise ValueError("The base path of a model must hold a version. "
                         f"Received: {base}, {why}.")
    states, wrong = {}, []
    if arguments.address:
        try:
            states = promotion.states(
                arguments.address, arguments.model or base.name)
        except promotion.NotServed as error:
            wrong.append(str(error))
    print(f"{base}")
    manifests = {}
    for version in sorted(found):
        try:
            manifest = read_manifest(found[version])
        except ValueError as error:
            wrong.append(str(error))
            print(f"  version {version}  broken")
            continue
        manifests[version] = manifest
        words = [f"  version {version}", manifest["made"]]
        words += [f"{name} {value:.4f}" for name, value in
                  list(manifest["metrics"].items())[:2]]
        if version in states:
            words.append(states[version][0])
        print("  ".join(words))
    loop = forgotten.loop_folder(arguments.to, arguments.output)
    with _package().named_store(_store_name(arguments.feedback, loop),
                                made=True) as store:
        if forgotten.has_begun(loop):
            try:
                Loop(loop).check_files(store)
            except ValueError as error:
                wrong.append(str(error))
        for version in manifests:
            try:
                known = _erased_users(store, found[version], loop)
            except ValueError as error:
                wrong.append(str(error))
                continue
            if known:
                print(f"version {version} knows {known:,} erased users")
        retrainings = store.retrainings()
        _print_feedback(store, max(found), manifests.get(max(found)))
    _print_retrainings(retrainings, set(found), store.url)
    if wrong:
        raise ValueError("\ntfrecal: ".join(dict.fromkeys(wrong)))
    return 0


def _print_feedback(store, version: int, manifest) -> None:
    """Prints how much feedback there is, and what would not be learned."""
    from tfrecal.feedback.labels import feedback_labels
    from tfrecal.retrain import material, records
    made = records.of_run(store, (manifest or {}).get("run", ""))
    until = made.get("until", -math.inf)
    counts = store.counts(since=until)
    print(f"feedback in {store.url}: {counts['responses']:,} responses, "
          f"{counts['shown']:,} items shown; version {version} has "
          f"not learned {counts['later_responses']:,} responses")
    scale = (manifest or {}).get("scale")
    if scale and counts["later_responses"]:
        _, found = feedback_labels(
            store.responses(since=until), store.shown(since=until), scale,
            now=time.time())
        left = material.tell_left_out(found, scale)
        if left:
            print(f"  of these, {left}")
    print(f"questions: {counts['open']:,} open, "
          f"{counts['answered']:,} answered, "
          f"{counts['expired']:,} expired")


def _print_retrainings(retrainings, versions: set[int], url: str) -> None:
    """Prints how the last retrainings ended."""
    import pandas as pd

    from tfrecal.retrain import material, records
    for row in retrainings.tail(3).itertuples():
        made = "" if pd.isna(row.version) else f" as version {row.version}"
        if made and row.version not in versions:
            made += ", withdrawn since"
        print(f"retraining {row.run_id}: {row.outcome}{made}"
              + (f", {row.reason}" if row.reason else ""))
        record = records.of_row(row, url)
        left = material.tell_left_out(
            record.get("counts", {}), record.get("scale"))
        if left:
            print(f"  {left}")
        gate = record.get("gate")
        if gate and gate["serving"] is not None:
            print(f"  {gate['metric']} served {gate['serving']:.4f}, "
                  f"candidate {gate['candidate']:.4f}, {gate['users']} users")
