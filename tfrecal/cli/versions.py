"""Commands on the versions of a served model: rollback, status."""
from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

from tfrecal.cli.loop import feedback_package


def add_arguments(name: str, command) -> None:
    """Adds the options of one of the commands."""
    command.add_argument("--to", required=True,
                         help="base path of the served model")
    command.add_argument("--address", help="host:port of the server")
    command.add_argument("--model", help="its name there (default: that "
                         "of the base path)")
    command.add_argument("-o", "--output", help="folder of the loop "
                         "(default: TO.loop)")
    command.add_argument("--feedback", help="file or URL of the store "
                         "(default: that of the loop, else the environment "
                         "variable TFRECAL_FEEDBACK)")
    if name == "rollback":
        command.add_argument("--version", type=int, help="to go back to "
                             "(default: the one before the newest)")
        command.add_argument("--timeout", type=float, default=120,
                             help="seconds that the server has (default: "
                             "120)")
        command.add_argument("--force", action="store_true", help="go "
                             "back to a version that knows erased users")


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
        with feedback_package().named_store(name, made=True) as store:
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
    from tfrecal.retrain import forgotten
    from tfrecal.serving.server.version_folders import folders
    base = Path(arguments.to)
    found = folders(base) if base.is_dir() else {}
    if not found:
        why = "which has none" if base.is_dir() else "which is missing"
        raise ValueError("The base path of a model must hold a version. "
                         f"Received: {base}, {why}.")
    wrong: list[str] = []
    manifests = _print_versions(arguments, found, wrong)
    loop = forgotten.loop_folder(arguments.to, arguments.output)
    try:
        with feedback_package().named_store(
                _store_name(arguments.feedback, loop), made=True) as store:
            _print_store(store, loop, found, manifests, wrong)
    except ValueError as error:  # after what is wrong with the versions
        wrong.append(str(error))
    if wrong:
        raise ValueError("\ntfrecal: ".join(dict.fromkeys(wrong)))
    return 0


def _print_store(store, loop, found: dict, manifests: dict, wrong) -> None:
    """Prints what a store tells of the versions, and checks the loop.

    Args:
        store: the `FeedbackStore`.
        loop: the loop's folder.
        found, manifests: version -> its folder, and its manifest if whole.
        wrong: gets what is wrong with files.
    """
    from tfrecal.retrain import forgotten
    from tfrecal.retrain.loop import Loop
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
    _print_feedback(store, max(found), manifests.get(max(found)))
    _print_retrainings(store, set(found))


def _print_versions(arguments, found: dict, wrong: list[str]) -> dict:
    """Prints a line a version; returns version -> manifest of whole ones.

    Args:
        arguments: of the command line.
        found: version -> its folder.
        wrong: gets what is wrong with files and the server.
    """
    from tfrecal.export.manifest import read_manifest
    from tfrecal.retrain import promotion
    states, manifests = {}, {}
    if arguments.address:
        try:
            states = promotion.states(arguments.address, arguments.model
                                      or Path(arguments.to).name)
        except promotion.NotServed as error:
            wrong.append(str(error))
    print(arguments.to)
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
    return manifests


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


def _print_retrainings(store, versions: set[int]) -> None:
    """Prints how the last retrainings ended."""
    import pandas as pd

    from tfrecal.retrain import material, records
    for row in store.retrainings().tail(3).itertuples():
        made = "" if pd.isna(row.version) else f" as version {row.version}"
        if made and row.version not in versions:
            made += ", withdrawn since"
        print(f"retraining {row.run_id}: {row.outcome}{made}"
              + (f", {row.reason}" if row.reason else ""))
        record = records.of_row(row, store.url)
        left = material.tell_left_out(
            record.get("counts", {}), record.get("scale"))
        if left:
            print(f"  {left}")
        gate = record.get("gate")
        if gate and gate["serving"] is not None:
            print(f"  {gate['metric']} served {gate['serving']:.4f}, "
                  f"candidate {gate['candidate']:.4f}, {gate['users']} users")
