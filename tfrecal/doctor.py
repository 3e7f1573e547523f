"""Is the installed stack one that works? Names the conflict and the cure."""
from __future__ import annotations


def require() -> None:
    """Raises ImportError when the installed stack cannot work."""
