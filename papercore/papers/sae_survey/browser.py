"""Feature cards to leaf through: a drop-down list where widgets run, else one page that opens and closes by itself."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from html import escape


def browse(cards: Sequence[dict]):
    """Cards of `meaning.cards`: an ipywidgets drop-down in a live notebook that has them, else static HTML."""
    from IPython.display import HTML

    # A run without a reader keeps its outputs, and a widget without its kernel is an empty box.
    if "PAPERCORE_RUN_DIR" in os.environ or importlib.util.find_spec("ipywidgets") is None:
        return HTML(page(cards))
    import ipywidgets

    pages = {f"latent {one['latent']}": _card(one) for one in cards}
    choice, shown = ipywidgets.Dropdown(options=pages, description="card"), ipywidgets.HTML()
    ipywidgets.link((choice, "value"), (shown, "value"))
    return ipywidgets.VBox([choice, shown])


def page(cards: Sequence[dict]) -> str:
    """All cards as HTML, each behind a line that opens it; needs no script."""
    return "".join(
        f"<details><summary>latent {one['latent']}: fires on {100 * one['density']:.2g} % of the tokens; writes "
        f"{escape(', '.join(repr(token) for token, _ in one['up'][:4]))}</summary>{_card(one)}</details>"
        for one in cards
    )


def _card(one: dict) -> str:
    strongest = max((max(codes) for _, _, codes in one["windows"]), default=0) or 1.0
    lines = []
    for kind, tokens, codes in one["windows"]:
        marked = "".join(_marked(token, code / strongest) for token, code in zip(tokens, codes, strict=True))
        lines.append(f"<tr><td>{kind}</td><td style='text-align:left;font-family:monospace'>{marked}</td></tr>")
    sides = "".join(
        f"<p>writes {what} of: {escape(', '.join(f'{token!r} {value:+.1f}' for token, value in one[side]))}</p>"
        for what, side in (("more", "up"), ("less", "down"))
    )
    return f"<table>{''.join(lines)}</table>{sides}"


def _marked(token: str, share: float) -> str:
    said = escape(token.replace("\n", "\\n")).replace("$", "&#36;")  # a page must not take prices for formulas
    return f"<span style='background:rgba(230,159,0,{share:.2f})'>{said}</span>" if share > 0 else said
