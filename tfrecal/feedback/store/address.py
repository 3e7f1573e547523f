"""Addresses of feedback databases: read, and shown without their passwords.

SQLAlchemy, which is an extra, reads them. Without it, every URL but that of
an SQLite file is taken for one with a password.
"""
from __future__ import annotations

import re

try:
    import sqlalchemy as sa
    from sqlalchemy.engine import URL, make_url
except ImportError:
    sa = None

FORMS = ("The feedback database must be the path of an SQLite file, "
         "`sqlite:///file`, or `postgresql://user:password@host/name`.")
# Text that is no URL and no path: of libpq, or a URL with a slip.
_FOREIGN = re.compile(
    r"(?i)\b(host(addr)?|port|dbname|user|\w*pass\w*|service)\s*="
    r"|^\s*(postgres|mysql|mariadb|oracle|mssql|sqlite)[\w+]*:"
    r"|[^/\s]:(?![\\/])[^@]*@")
_SQLITE = re.compile(r"sqlite:///[^?]*")
_SECRET = re.compile(r"(?i)pass|secret|token|pwd|oauth|credential")
_OPTION = re.compile(r"(?i)pass\w*\s*=")


def check_no_password(**addresses: str) -> None:
    """Checks that addresses, which will be stored, hold no password.

    Raises:
        ValueError: one does, or cannot be read.
    """
    for name, text in addresses.items():
        if _may_hold_password(text):
            raise ValueError(
                f"`{name}` is stored and must hold no password. Received: an "
                "address with one, or one that cannot be read. Give it by "
                "the environment variable TFRECAL_FEEDBACK.")


def parse_address(address) -> URL:
    """Returns an address as SQLAlchemy's URL, with the driver.

    Args:
        address: a path or a URL.

    Raises:
        ValueError: it is none of `FORMS`. The message shows no password.
    """
    text = str(address)
    # Text that cannot be read is not shown, because it may hold a password.
    unread = f"{FORMS} Received: text that is neither."
    if "\0" in text or not text.strip() or any(
            "\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(unread)
    if "://" not in text:
        if _FOREIGN.search(text):
            raise ValueError(unread)
        return URL.create("sqlite", database=text)
    try:
        parsed = make_url(text)
        backend = parsed.get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(unread) from None
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        if parsed.query or parsed.host or parsed.username:
            raise ValueError(f"{FORMS} Received: {hide_password(parsed)} "
                             "with options, which a file does not take.")
        return parsed.set(drivername="sqlite")
    if backend == "postgresql":
        if _OPTION.search(f"{parsed.host} {parsed.database}"):
            raise ValueError(f"{FORMS} Received: a URL with a password that "
                             "does not follow a question mark.")
        if "@" in f"{parsed.host} {parsed.database}":
            raise ValueError(
                f"{FORMS} Received: a URL with several @. Write those of a "
                "user or password as %40.")
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(f"{FORMS} Received: {hide_password(parsed)}.")


def hide_password(url: URL) -> str:
    """Returns a URL as text without its password and its options."""
    shown = url.set(query={})
    if url.get_backend_name() != "sqlite" and _is_torn(url):
        return f"{url.drivername}://***"
    return shown.render_as_string(hide_password=True)


def hide_secrets(url: URL, text: str) -> str:
    """Returns a text, such as a driver's error, without a URL's secrets."""
    values = [url.password, *(
        value for key, given in url.query.items() if _SECRET.search(key)
        for value in ([given] if isinstance(given, str) else given))]
    for value in sorted(filter(None, map(str, filter(None, values))),
                        key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def _may_hold_password(text: str) -> bool:
    if "://" not in text:
        return bool(_FOREIGN.search(text))
    if sa is None:
        return not _SQLITE.fullmatch(text)
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        return True
    if url.password or any(
            _SECRET.search(f"{key} {value}") or "@" in str(value)
            for key, value in url.query.items()):
        return True
    return url.get_backend_name() != "sqlite" and _is_torn(url)


def _is_torn(url: URL) -> bool:
    """Whether a password may have been read as another part of the URL.

    Such as one with `/`, `@` or `:` in it, or a `password=` without the `?`.
    """
    place = f"{url.host} {url.database}"
    return ("@" in place or ":" in (url.username or "")
            or bool(_OPTION.search(place)))
