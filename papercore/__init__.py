"""The front door: `load_model`, `Study`, `card`, `fetch`, `show`, each imported on first use, so this import is free.

No module of the package imports it; notebooks and readers do.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors, and for the import closure that a run's key covers
    from papercore.assets import fetch
    from papercore.models import load_model
    from papercore.study import Study
    from papercore.study.render import card
    from papercore.study.show import show

__all__ = ["Study", "card", "fetch", "load_model", "show"]

_HOMES = {
    "Study": "papercore.study",
    "card": "papercore.study.render",
    "fetch": "papercore.assets",
    "load_model": "papercore.models",
    "show": "papercore.study.show",
}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"papercore has no {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
