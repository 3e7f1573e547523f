"""ServingError: the answer to a request that fails."""
from __future__ import annotations

import grpc
import tensorflow as tf

# Numbers of TensorFlow's error codes are those of gRPC.
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Python's, before the message of the session.
_PREFIX = "Graph execution error:\n\n"


class ServingError(Exception):
    """A status code and a message, as TensorFlow Serving would give them.

    Args:
        code: a `grpc.StatusCode`.
        message: the whole message; gRPC cuts it where it is too long.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def of(cls, error: Exception) -> ServingError:
        """Returns the same failure as a `ServingError`."""
        if isinstance(error, cls):
            return error
        if isinstance(error, tf.errors.OpError):
            text = (error.message or "").removeprefix(_PREFIX)
            return cls(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN),
                       text)
        if isinstance(error, MemoryError):
            return cls(grpc.StatusCode.RESOURCE_EXHAUSTED,
                       f"Out of memory: {error}")
        return cls(grpc.StatusCode.INTERNAL,
                   f"{type(error).__name__}: {error}")


def invalid(message: str) -> ServingError:
    """Returns an INVALID_ARGUMENT, the most frequent error."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
