"""PredictRequests: what the calls of a client send."""
from __future__ import annotations

import numpy as np
from google.protobuf import json_format

from tfrecal.serving.client import wire

# Argument -> name in the request, and whether a row is a list.
_INPUTS = {"users": ("user_id", False), "items": ("item_id", False),
           "texts": ("text", False), "history": ("history", True),
           "exclude": ("exclude", True)}
# Whatever a row has of these, `rank` takes a list of.
_CANDIDATES = ("items", "texts")
_OPTIONAL = {"recommend": ("history", "exclude"),
             "search": ("users", "exclude"), "score": ("history",),
             "rank": ("users", "history", "items")}


class PredictRequests:
    """Builds requests for one model.

    Args:
        model: the model's name on the server.
        version: the number of a fixed version, or None.
        label: the label of a version, or None.
        blanks: whether inputs that are left out are sent as rows of blanks.
        text_ids: a `text.tokenizers.client_tokenizer.TextIds` that makes
            token ids of texts, or None where the model does so itself.
    """

    def __init__(self, model: str, version: int | None = None,
                 label: str | None = None, blanks: bool = False,
                 text_ids=None):
        self.model, self.version, self.label = model, version, label
        self.blanks = blanks
        self.text_ids = text_ids

    def build(self, call: str, rows: dict) -> wire.PredictRequest:
        """Builds the request of a call.

        Args:
            call: the name of the method, which the signature has too.
            rows: what `rows_of` returned.
        """
        request = wire.PredictRequest()
        spec = request.model_spec
        spec.name, spec.signature_name = self.model, call
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label
        if self.blanks:
            rows = _filled_up(call, rows)
        for name, values in rows.items():
            lists = _are_lists(call, name)
            width = max(map(len, values), default=0) if lists else None
            if name == "texts" and self.text_ids is not None:
                shape = (len(values), width) if lists else (len(values),)
                if lists:
                    values = [text for row in values for text in (
                        *row, *[b""] * (width - len(row)))]
                wire.write_ids(
                    self._ids(values), request.inputs["token_ids"], shape)
                continue
            tensor = request.inputs[_INPUTS[name][0]]
            if lists:
                wire.write_lists(values, width, tensor)
            else:
                wire.write_strings(values, tensor)
        return request

    def _ids(self, texts: list[bytes]) -> list[list[int]]:
        """Returns token ids of texts; none of a text that is blank."""
        found = self.text_ids([text.decode(errors="replace")
                               for text in texts])
        # `_filled_up` tells why what a server pads with must come first.
        first = [-1] if self.blanks else []
        return [first + row if text else first
                for text, row in zip(texts, found)]


def explain(request) -> str:
    """Writes a request as JSON, for clients in other languages.

    The form is the JSON of Protocol Buffers, with bytes in base64.
    `grpcurl -d` takes it.

    Args:
        request: what `Recommender.request` returned.
    """
    return json_format.MessageToJson(
        request, preserving_proto_field_name=True)


def rows_of(call: str, inputs: dict) -> dict:
    """Returns the inputs that are given, with ids and texts as bytes."""
    found = {}
    for name, values in inputs.items():
        if values is None:
            continue
        if name not in _INPUTS:
            raise ValueError(f"An input must be one of {list(_INPUTS)}. "
                             f"Received: {name!r}.")
        lists = _are_lists(call, name)
        if isinstance(values, (str, bytes)) or not hasattr(
                values, "__iter__"):
            raise _wrong_type(name, values, lists)
        read = _list if lists else _bytes
        found[name] = [read(name, value) for value in values]
    sizes = {name: len(values) for name, values in found.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            "There must be inputs, and each must have a row for each of the "
            f"others. Received: {sizes or 'none'}.")
    return found


def candidates_of(rows: dict) -> list[int]:
    """Returns the numbers of candidates of the rows of `rank`.

    Args:
        rows: what `rows_of` returned.

    Raises:
        ValueError: there are none, or a row has not as many texts as items.
    """
    given = [rows[name] for name in _CANDIDATES if name in rows]
    if not given:
        raise ValueError("`rank` must have `items`, `texts` or both. "
                         f"Received: {sorted(rows)}.")
    for number, (first, last) in enumerate(zip(given[0], given[-1])):
        if len(first) != len(last):
            raise ValueError(
                "Each row of `texts` must have as many as that of `items`. "
                f"Received: {len(last)} texts and {len(first)} items in row "
                f"{number}. Give \"\" where there is none.")
    return [len(row) for row in given[0]]


def _are_lists(call: str, name: str) -> bool:
    return _INPUTS[name][1] or call == "rank" and name in _CANDIDATES


def _list(name: str, values) -> tuple[bytes, ...]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise _wrong_type(name, values, True)
    return tuple([_bytes(name, value, True) for value in values])


def _bytes(name: str, value, lists: bool = False) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"`{name}` must be what UTF-8 can write. Received: "
                f"{value!r:.100}. Leave half characters out.") from error
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) \
            and name != "texts":
        return b"%d" % value
    raise _wrong_type(name, value, lists)


def _wrong_type(name: str, value, lists: bool) -> TypeError:
    kind = "texts" if name == "texts" else "ids"
    return TypeError(
        f"`{name}` must be a list of {'lists of ' * lists}{kind}; ids are "
        f"strings or whole numbers. Received: {value!r:.100}.")


def _filled_up(call: str, rows: dict) -> dict:
    """Adds blanks for inputs that are left out.

    TensorFlow Serving pads lists to equal widths with the first element of
    all, so this must be a blank too.
    """
    size = len(next(iter(rows.values())))
    found = dict(rows)
    for name in {**rows, **dict.fromkeys(_OPTIONAL.get(call, ()))}:
        lists = _are_lists(call, name)
        values = rows.get(name, [() if lists else b""] * size)
        found[name] = [(b"", *row) for row in values] if lists else values
    return found
