"""Commands that export, serve and ask a server."""
from __future__ import annotations

import shlex
import sys

from tfrecal import checks
from tfrecal.cli.training import run_folder


def export_arguments(command) -> None:
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


def recommend_arguments(command) -> None:
    command.add_argument("--user", default="", help="id of a user")
    command.add_argument("--text", help="search for this, in place of what "
                         "the user likes")
    command.add_argument("--history", nargs="+", metavar="ITEM",
                         help="items that the user liked")
    command.add_argument("--exclude", nargs="+", metavar="ITEM",
                         help="items that are not wanted")
    command.add_argument("--among", nargs="+", metavar="ITEM",
                         help="put these items in order, in place of the "
                         "whole catalogue")
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


def export(arguments) -> int:
    """Write a run's model as a SavedModel that servers load."""
    from tfrecal.export.export_model import check_server, export_model
    from tfrecal.export.manifest import read_manifest
    check_server(arguments.server, arguments.index)
    from tfrecal.pool.run_folder import RunFolder
    from tfrecal.runs.build import restore_trained
    folder = RunFolder.of_run(run_folder(arguments))
    built = restore_trained(folder, "An export")
    encoder = None
    if arguments.encoder:
        from tfrecal.text.distill import student_of
        own = built.model.candidate_tower.encoder
        if own is None:
            raise ValueError("`--encoder` is for a run with texts. Received: "
                             f"{folder.path}, which has no encoder.")
        encoder = student_of(
            own, arguments.encoder, precision=own.precision)
    path = export_model(
        built.model, arguments.to, pool=built.pool, k=arguments.k,
        index=arguments.index, target_recall=arguments.target_recall,
        encoder=encoder, precision=arguments.precision,
        server=arguments.server, metrics=folder.metrics,
        fingerprint=built.split.train.fingerprint(), seed=built.config.seed)
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
        from tfrecal.serving.server import server
    except ImportError as error:
        raise ValueError(
            "`tfrecal serve` needs the extra packages of serving. Received: "
            f"{error}. Install them: `pip install '.[serving]'`."
        ) from error
    return server.main(arguments.flags)


def recommend(arguments) -> int:
    """Ask a server for items for a user or a text."""
    from tfrecal.serving.client.client import (
        Recommender,
        ServingUnavailable,
        explain,
    )

    def one(values):
        return None if values is None else [values]

    if arguments.among is not None:
        if arguments.text is not None or arguments.exclude:
            raise ValueError(
                "`--among` is for items in place of the catalogue. Received: "
                "--text or --exclude beside it. Leave one of them out.")
        call, inputs = "rank", {
            "users": [arguments.user], "history": one(arguments.history),
            "items": [arguments.among]}
    elif arguments.text is None:
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
            found = _ask(client, call, arguments.k, inputs)
        except ServingUnavailable as error:
            raise ValueError(str(error)) from error
    for item, score in zip(found.item_ids[0], found.scores[0]):
        print(f"{item}\t{score:.4f}")
    for source in found.source:
        print(f"by {source}", file=sys.stderr)
    return 0


def _ask(client, call: str, k: int | None, inputs: dict):
    """Returns `Recommendations`, also of a call of `rank`."""
    from tfrecal.serving.client.client import Recommendations
    if call != "rank":
        return getattr(client, call)(k=k, **inputs)
    if k is not None:
        checks.whole(1, k=k)
    found = client.rank(**inputs)
    best = found.order[0][:k]
    return Recommendations(
        [[inputs["items"][0][place] for place in best]],
        [found.scores[0][best]], found.version, source=found.source)
