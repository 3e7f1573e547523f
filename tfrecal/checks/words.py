"""Texts: what a message shows, and whether a text is one at all."""
from __future__ import annotations

import difflib
import re
import reprlib
from numbers import Integral

_MOST = 100  # characters of a value
# The password of a URL, and options such as `password=` or `sslpassword=`.
_PASSWORD = re.compile(r"(?i)(://[^:@\s]*:).*(?=@)|(pass\w*\s*=)[^&\s]+",
                       re.DOTALL)


class _Short(reprlib.Repr):
    """`repr` in one line, without the middle of what is long or deep."""

    def __init__(self):
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _MOST
        self.maxlevel, self.maxlist = 4, 6

    def repr_str(self, text, level):
        return super().repr_str(_PASSWORD.sub(
            lambda found: (found[1] or found[2]) + "***", text), level)

    def repr_int(self, number, level):
        if number.bit_length() > 3.3 * _MOST:
            # Python writes no number of more than 4300 digits.
            return f"a number of {number.bit_length():,} bits"
        return repr(number)

    def repr_instance(self, value, level):
        return " ".join(super().repr_instance(value, level).split())


_short = _Short()


def shown(value) -> str:
    """Returns a value as Python writes it, in one line and cut if long.

    Passwords in the texts are left out.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return _short.repr_int(int(value), 0)
    return _short.repr(value)


def is_text(text: str) -> bool:
    """Whether a text has no half of a surrogate pair.

    No file in UTF-8 holds one. Bytes that could not be decoded become such
    halves with `errors="surrogateescape"`.
    """
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def did_you_mean(name: str, known) -> str:
    """Returns `; did you mean ...?` where a known name is near, else ""."""
    near = difflib.get_close_matches(name[:_MOST], list(map(str, known)), 1)
    return f"; did you mean `{near[0]}`?" if near else ""
