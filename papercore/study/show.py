"""Showing a function's real source in a cell: the idea is seen where it is taught, written once. Floor: study."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable


def show(function: Callable) -> object:
    """Display the source of a function, method or class with its file; raises TypeError for anything without one."""
    from IPython.display import Markdown

    try:
        source = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (TypeError, OSError):
        raise TypeError(f"show() takes a Python function or class with source, not {function!r}") from None
    return Markdown(f"`{function.__module__}.{function.__qualname__}`\n```python\n{source}\n```")
