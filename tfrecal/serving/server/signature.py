"""Signature: checks a request and puts its arrays in order."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.serving.server.errors import invalid
from tfrecal.serving.server.tensor_protos import dtype_of, from_proto


class Signature:
    """A SignatureDef, read once.

    Args:
        definition: a `SignatureDef`.

    Attributes:
        feeds, fetches: alias -> name of a tensor, in the order of the
            aliases.
    """

    def __init__(self, definition):
        inputs, outputs = definition.inputs, definition.outputs
        self.method = definition.method_name
        self._inputs = [(alias, inputs[alias].dtype)
                        for alias in sorted(inputs)]
        self.feeds = {alias: inputs[alias].name for alias, _ in self._inputs}
        self.fetches = {alias: outputs[alias].name
                        for alias in sorted(outputs)}
        self._outputs = tuple(self.fetches)
        self._defaults = {alias: from_proto(proto, alias)
                          for alias, proto in definition.defaults.items()}

    def check(self, given: set[str]) -> None:
        """Checks that the inputs, with the defaults, are the signature's.

        Raises:
            ServingError: INVALID_ARGUMENT for other inputs.
        """
        wanted = self.feeds.keys()
        if given == wanted:
            return
        extra, missing = given - wanted, wanted - given
        if len(given) > len(wanted) or (
                len(given) < len(wanted) and not self._defaults):
            raise invalid(
                f"input size does not match signature: {len(given)}!="
                f"{len(wanted)} len({_names(given)}) != "
                f"len({_names(wanted)}). Sent extra: {_names(extra)}. "
                f"Missing but required: {_names(missing)}.")
        for alias in sorted(missing - self._defaults.keys()):
            raise invalid(
                f"Signature input alias: {alias}(feed name: "
                f"{self.feeds[alias]}) not found in request and no default "
                "value provided. Inputs expected to be in the request "
                f"{_names(given)}, or default input alias set: "
                f"{_names(self._defaults)}.")
        if extra:
            raise invalid(
                "Inputs contains invalid name. Used request inputs: "
                f"{_names(given & wanted)}, request input: {_names(given)}")

    def feed(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Returns arrays in order, with defaults for what is left out.

        Raises:
            ServingError: INVALID_ARGUMENT for another dtype.
        """
        arrays = []
        for alias, wanted in self._inputs:
            array = inputs.get(alias)
            if array is None:
                array = self._defaults[alias]
            kind = dtype_of(array)
            if kind != wanted:
                raise invalid(
                    f"Expects arg[{len(arrays)}] to be "
                    f"{tf.as_dtype(wanted).name} but "
                    f"{tf.as_dtype(kind).name} is provided")
            arrays.append(array)
        return arrays

    def outputs(self, aliases=None) -> tuple[str, ...]:
        """Returns the outputs that are asked for, in order.

        Args:
            aliases: names of outputs; None or an empty list for all.

        Raises:
            ServingError: INVALID_ARGUMENT for a name that is no output, or
                that is given twice.
        """
        if not aliases:
            return self._outputs
        for n, alias in enumerate(aliases):
            if alias not in self.fetches:
                raise invalid(
                    "output tensor alias not found in signature: "
                    f"{alias} Outputs expected to be in the set "
                    f"{_names(self._outputs)}.")
            if alias in aliases[:n]:
                raise invalid(f"duplicate output tensor alias: {alias}")
        return tuple(sorted(aliases))


def _names(aliases) -> str:
    return "{" + ",".join(sorted(aliases)) + "}"
