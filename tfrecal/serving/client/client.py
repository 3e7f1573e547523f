"""Recommender: an exported model on a server, as Python calls."""
from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np

from tfrecal import checks
from tfrecal.serving.client import wire
from tfrecal.serving.client.answers import (
    AnswerCache,
    Embeddings,
    Rankings,
    Recommendations,
    Scores,
)
from tfrecal.serving.client.connection import (
    TLS,
    Connection,
    ServingUnavailable,
)
from tfrecal.serving.client.predict_requests import (
    PredictRequests,
    candidates_of,
    explain,
    rows_of,
)

__all__ = ["TLS", "Embeddings", "Rankings", "Recommendations", "Recommender",
           "Scores", "ServingUnavailable", "explain"]

Rows = Sequence | np.ndarray  # a value for each row
# How often a large batch is sent until one version answers all of it.
_TRIES = 3


class Recommender:
    """A model that `tfrecal export` wrote, behind TensorFlow Serving's gRPC.

    Works with `tensorflow_model_server` and with `tfrecal serve`, and from
    many threads. Ids are strings (or whole numbers, which are sent as
    strings); ids that the model does not know are no error.

    Args:
        address: "host:port", or "unix:/path".
        model: its name on the server.
        version: a fixed one; otherwise the newest that is loaded.
        label: a version by its label, in place of `version`.
        timeout: seconds for each request, retries included.
        tls: a `TLS`; None sends everything in the clear.
        max_batch: rows of a request, and candidates of one of `rank`. A
            larger call is sent in several requests, a few at a time, and
            answered by one version.
        cache: number of answers of `search` to keep, for those who search
            for the same. They are up to a minute old.
        batching: whether the server runs with `--enable_batching`.
            TensorFlow Serving then needs every input in every request, so
            blanks are sent for those that are left out; but to `rank` by a
            model that reads texts, give `texts`.
        tokenizer: the folder of the export (its base path or a version). Its
            manifest says whether texts are tokenised here, as those of
            RoBERTa and GPT-2 are. Needed only for texts.
        log: a `FeedbackLog` in which the lists of `recommend` and `search`
            are recorded as they are returned, so ask for what is shown. The
            caller closes it. Lists for the user "" are not recorded.
        explore: an `Exploration` that changes the lists of `recommend`; it
            needs a log, because only the log keeps the probability with
            which each item was shown.

    Raises:
        ValueError: an argument is out of range or does not fit the others.

    Example:
        >>> with Recommender("localhost:8500") as shop:
        ...     found = shop.recommend(["user 7"], exclude=[["item 3"]], k=5)
        >>> found.item_ids[0]
    """

    def __init__(self, address: str, model: str = "recommender", *,
                 version: int | None = None, label: str | None = None,
                 timeout: float = 1.0, tls: TLS | None = None,
                 max_batch: int = 512, cache: int = 0,
                 batching: bool = False, tokenizer=None, log=None,
                 explore=None):
        if explore is not None and log is None:
            raise ValueError("`explore` must come with a `log`. Received: "
                             "log=None.")
        if version is not None and label is not None:
            raise ValueError(
                "Either `version` or `label` can be given. Received: "
                f"version={version!r}, label={label!r}.")
        if version is not None:
            checks.whole(0, version=version)
        checks.whole(1, max_batch=max_batch)
        checks.whole(0, cache=cache)
        self.model, self.max_batch = model, max_batch
        self.log, self.explore = log, explore
        self._connection = Connection(address, timeout, tls)
        text_ids = None
        if tokenizer is not None:
            from tfrecal.text.tokenizers.client_tokenizer import TextIds
            text_ids = TextIds.from_export(tokenizer)
        self._requests = PredictRequests(
            model, version, label, batching, text_ids)
        self._cache = AnswerCache(cache)

    def recommend(self, users: Rows, *, history: Rows | None = None,
                  exclude: Rows | None = None,
                  k: int | None = None) -> Recommendations:
        """Recommends items for users.

        Args:
            users: ids, "" for an unknown user, who gets the most popular
                items where there is no history.
            history: a list of item ids for each user, in place of what the
                model was trained on.
            exclude: a list of item ids for each user that are not wanted.
            k: number of items for each user; None for as many as the model
                was exported for.

        Returns:
            `Recommendations`, one list a user.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.
        """
        found = self._ranked_lists(
            "recommend", k, users=users, history=history, exclude=exclude)
        return self._explore_and_log(found, users, exclude, self.explore,
                                     history)

    def search(self, texts: Rows, *, users: Rows | None = None,
               exclude: Rows | None = None,
               k: int | None = None) -> Recommendations:
        """Finds items for texts.

        Args:
            texts: what is searched for.
            users: who searches, an id for each text.
            exclude: a list of item ids for each text that are not wanted.
            k: number of items for each text; None for as many as the model
                was exported for.

        Returns:
            `Recommendations`, one list a text.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.
        """
        found = self._ranked_lists(
            "search", k, texts=texts, users=users, exclude=exclude)
        return self._explore_and_log(found, users, exclude, None)

    def rank(self, users: Rows | None = None, *, history: Rows | None = None,
             items: Rows | None = None, texts: Rows | None = None
             ) -> Rankings:
        """Orders given candidates for users, histories or both.

        Args:
            users: ids.
            history: a list of item ids for each row, in place of what the
                model was trained on.
            items: a list of candidates for each row, by id.
            texts: a list of texts for each row, for the candidates whose id
                is unknown, "" or left out.

        Returns:
            `Rankings`, one order a row: by popularity where neither user nor
            history is known. A `log` takes them as lists that were shown.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.

        Example:
            >>> news = [["item 3", "new"]]
            >>> found = shop.rank(history=[["item 7", "item 9"]], items=news,
            ...                   texts=[["", "Storm over the North Sea"]])
            >>> [news[0][place] for place in found.order[0]]
        """
        rows = rows_of("rank", {"users": users, "history": history,
                                "items": items, "texts": texts})
        sizes = candidates_of(rows)
        parts, version = self._ask_in_parts("rank", rows, max(
            1, self.max_batch // max(max(sizes, default=1), 1)))
        scores = [row for part in parts for row in _output(part, "scores")]
        order = [row for part in parts for row in _output(part, "order")]
        # A server that batches pads rows; its client sends a blank first.
        first = int(self._requests.blanks)
        found = Rankings(
            [row[(row >= first) & (row < first + size)] - first
             for row, size in zip(order, sizes)],
            [row[first:first + size] for row, size in zip(scores, sizes)],
            version, [name for part in parts for name in _sources(part)])
        return self._log_ranks(found, rows)

    def score(self, users: Rows, items: Rows, *,
              history: Rows | None = None) -> Scores:
        """Scores pairs: the first user with the first item, and so on.

        Args:
            users: ids.
            items: ids, as many as `users`.
            history: a list of item ids for each pair, in place of what the
                model was trained on.

        Returns:
            `Scores`, one value a pair.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.
        """
        found, version = self._ask_or_recall(
            "score", users=users, items=items, history=history)
        return Scores(*(_output(found, name) for name in (
            "score", "rating", "uncertainty")), version, _sources(found))

    def embed_queries(self, users: Rows | None = None, *,
                      history: Rows | None = None,
                      texts: Rows | None = None) -> Embeddings:
        """Embeds queries: each vector is the sum of what its row gives.

        Args:
            users: ids.
            history: a list of item ids for each row.
            texts: what is searched for.

        Returns:
            `Embeddings`, one vector a row.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.
        """
        found, version = self._ask_or_recall(
            "embed_queries", users=users, history=history, texts=texts)
        return Embeddings(_output(found, "embedding"), version)

    def embed_candidates(self, items: Rows | None = None, *,
                         texts: Rows | None = None) -> Embeddings:
        """Embeds items.

        Args:
            items: ids. An unknown id without a text gets a vector of zeros.
            texts: texts of the items whose id is unknown or left out.

        Returns:
            `Embeddings`, one vector a row.

        Raises:
            ValueError: the model cannot answer these arguments.
            ServingUnavailable: no answer came in time.
        """
        found, version = self._ask_or_recall(
            "embed_candidates", items=items, texts=texts)
        return Embeddings(_output(found, "embedding"), version)

    def request(self, call: str, **inputs) -> wire.PredictRequest:
        """Builds the message that a call would send, and does not send it.

        Args:
            call: the name of a method, such as "recommend".
            **inputs: the method's `users`, `items`, `texts`, `history`,
                `exclude`; `items` and `texts` of "rank" are lists.

        Returns:
            The message; `explain` writes it as JSON.

        Raises:
            ValueError: the inputs differ in length, or there are none.
        """
        return self._requests.build(call, rows_of(call, inputs))

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def __enter__(self) -> Recommender:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _ranked_lists(self, call: str, k: int | None, **inputs
                      ) -> Recommendations:
        if k is not None:
            checks.whole(1, k=k)
        outputs, version = self._ask_or_recall(call, **inputs)
        ids, scores = _output(outputs, "item_ids"), _output(outputs, "scores")
        if k is not None and k > ids.shape[1]:
            raise ValueError(
                f"`k` must be at most {ids.shape[1]}, the items for which "
                f"the model was exported. Received: k={k}. Export it with a "
                "larger `k`.")
        ids, scores = ids[:, :k], scores[:, :k]
        return Recommendations(
            [[i.decode("utf-8", "surrogateescape") for i in row if i]
             for row in ids.tolist()],
            [row[there] for row, there in zip(scores, ids != b"")], version,
            source=_sources(outputs))

    def _log_ranks(self, found, rows: dict) -> Rankings:
        """Logs orders of users, less the candidates that have no id."""
        if self.log is None or not {"users", "items"} <= set(rows):
            return found
        request_ids = []
        for user, row, order, scores in zip(
                map(_text, rows["users"]), rows["items"], found.order,
                found.scores):
            ids = [_text(item) for item in row]
            shown = [place for place in order if ids[place]]
            request_ids.append("" if not (user and shown) else self.log.shown(
                user, [ids[place] for place in shown], scores=scores[shown],
                model=self.model, version=found.version))
        return found._replace(request_ids=request_ids)

    def _explore_and_log(self, found, users, exclude, explore, history=None
                         ) -> Recommendations:
        """Adds request ids, explores where that is wanted, and logs."""
        if self.log is None:
            return found
        users = [""] * len(found.item_ids) if users is None else \
            [_text(user) for user in users]
        request_ids = [self.log.new_id() if user else "" for user in users]
        propensities = strategies = [None] * len(users)
        if explore is not None:
            if exclude is not None:
                exclude = [map(_text, row) for row in exclude]
            rows = explore.explore(request_ids, users, found.item_ids,
                                   found.scores, exclude, self.score, history)
            found = found._replace(item_ids=[row.item_ids for row in rows],
                                   scores=[row.scores for row in rows])
            propensities = [row.propensities for row in rows]
            strategies = [row.strategies for row in rows]
        for request_id, user, *row in zip(
                request_ids, users, found.item_ids, found.scores,
                propensities, strategies):
            if user:
                self.log.shown(
                    user, row[0], scores=row[1], propensities=row[2],
                    strategies=row[3], model=self.model,
                    version=found.version, request_id=request_id)
        return found._replace(request_ids=request_ids)

    def _ask_or_recall(self, call: str, **inputs) -> tuple[dict, int]:
        """Returns outputs by name and the version that gave them."""
        rows = rows_of(call, inputs)
        key = None
        if call == "search" and self._cache.size:
            key = tuple((name, *values) for name, values in rows.items())
            found = self._cache.get(key)
            if found is not None:
                return found
        outputs, version = self._ask_server(call, rows)
        self._cache.put(key, outputs, version)
        return outputs, version

    def _ask_server(self, call: str, rows: dict) -> tuple[dict, int]:
        parts, version = self._ask_in_parts(call, rows, self.max_batch)
        if len(parts) == 1:
            return parts[0], version
        try:
            return {name: np.concatenate([part[name] for part in parts])
                    for name in parts[0]}, version
        except (KeyError, ValueError) as error:
            raise self._no_whole_tensors(error) from error

    def _ask_in_parts(self, call: str, rows: dict, size: int
                      ) -> tuple[list[dict], int]:
        """Returns the outputs of requests of `size` rows, of one version."""
        count = len(next(iter(rows.values())))
        requests = [
            self._requests.build(call, {
                name: values[n:n + size] for name, values in rows.items()})
            for n in range(0, max(count, 1), size)]
        for _ in range(_TRIES):
            responses = self._connection.predict(requests)
            versions = {r.model_spec.version.value for r in responses}
            if len(versions) == 1:
                return self._read_outputs(responses), versions.pop()
        raise ServingUnavailable(
            f"One version of the model {self.model!r} must answer all parts "
            f"of a large batch. Received: answers of {sorted(versions)}. "
            "Give the `version`, or ask again later.",
            grpc.StatusCode.ABORTED)

    def _read_outputs(self, responses) -> list[dict]:
        try:
            return [{name: wire.read(tensor)
                     for name, tensor in response.outputs.items()}
                    for response in responses]
        except ValueError as error:
            raise self._no_whole_tensors(error) from error

    def _no_whole_tensors(self, error) -> ServingUnavailable:
        return ServingUnavailable(
            f"The model {self.model!r} must answer with whole tensors of "
            f"strings, float32 and int32. Received: {error} Check that "
            "`tfrecal export` wrote it.", grpc.StatusCode.INTERNAL)


def _text(value) -> str:
    """Returns an id as the server's answers have it."""
    return value.decode("utf-8", "surrogateescape") \
        if isinstance(value, bytes) else str(value)


def _sources(outputs: dict) -> list[str]:
    """Returns what rows come from; nothing for an export of before."""
    return [name.decode() for name in outputs.get("source", ())]


def _output(outputs: dict, name: str) -> np.ndarray:
    if name not in outputs:
        raise ValueError(
            f"The model must answer with `{name}`. Received: "
            f"{sorted(outputs)}. Check that `tfrecal export` wrote it.")
    return outputs[name]
