"""PredictRequests: what the calls of a client send."""
from __future__ import annotations

import numpy as np
from google.protobuf import json_format

from tfrecal.serving.client import wire

# Argument -> name in the request, and whether a row is a list of ids.
_INPUTS = {"users": ("user_id", False), "items": ("item_id", False),
           "texts": ("text", False), "history": ("history", True),
           "exclude": ("exclude", True)}
_OPTIONAL = {"recommend": ("history", "exclude"),
             "search": ("users", "exclude")}


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
            rows = _filled_up(rows, _OPTIONAL.get(call, ()))
        for name, values in rows.items():
            alias, lists = _INPUTS[name]
            if name == "texts" and self.text_ids is not None:
                wire.write_ids(self._ids(values), request.inputs["token_ids"])
                continue
            tensor = request.inputs[alias]
            if lists:
                width = max(map(len, values), default=0)
                wire.write_lists(values, width, tensor)
            else:
                wire.write_strings(values, tensor)
        return request

    def _ids(self, texts: list[bytes]) -> list[list[int]]:
        found = self.text_ids([text.decode(errors="replace")
                               for text in texts])
        # `_filled_up` tells why what a server pads with must come first.
        return [[-1, *row] for row in found] if self.blanks else found


def explain(request) -> str:
    """Writes a request as JSON, for clients in other languages.

    The form is the JSON of Protocol Buffers, with bytes in base64.
    `grpcurl -d` takes it.

    Args:
        request: what `Recommender.request` returned.
    """
    return json_format.MessageToJson(
        request, preserving_proto_field_name=True)


def rows_of(inputs: dict) -> dict:
    """Returns the inputs that are given, with ids and texts as bytes."""
    found = {}
    for name, values in inputs.items():
        if values is None:
            continue
        if name not in _INPUTS:
            raise ValueError(f"An input must be one of {list(_INPUTS)}. "
                             f"Received: {name!r}.")
        if isinstance(values, (str, bytes)):
            raise _wrong_type(name, values)
        if _INPUTS[name][1]:
            found[name] = [_id_list(name, value) for value in values]
        else:
            found[name] = [_bytes(name, value) for value in values]
    sizes = {name: len(values) for name, values in found.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(
            "There must be inputs, and each must have a row for each of the "
            f"others. Received: {sizes or 'none'}.")
    return found


def _id_list(name: str, values) -> tuple[bytes, ...]:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise _wrong_type(name, values)
    return tuple([_bytes(name, value) for value in values])


def _bytes(name: str, value) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) \
            and name != "texts":
        return b"%d" % value
    raise _wrong_type(name, value)


def _wrong_type(name: str, value) -> TypeError:
    kind = "lists of ids" if _INPUTS[name][1] else \
        "texts" if name == "texts" else "ids"
    return TypeError(f"`{name}` must be a list of {kind}; ids are strings or "
                     f"whole numbers. Received: {value!r:.100}.")


def _filled_up(rows: dict, optional) -> dict:
    """Adds blanks for inputs that are left out.

    TensorFlow Serving pads lists to equal widths with the first element of
    all, so this must be a blank too.
    """
    size = len(next(iter(rows.values())))
    found = dict(rows)
    for name in optional:
        lists = _INPUTS[name][1]
        values = rows.get(name, [() if lists else b""] * size)
        found[name] = [(b"", *row) for row in values] if lists else values
    return found
