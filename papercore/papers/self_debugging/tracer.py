"""Basic-block states of one call, by sys.settrace. Standard library only: the sandbox runs this file inside.

A block starts at a leader: the first statement of the function and of each branch, loop, handler and with body, each
loop's header, and each statement after a control statement (the leaders of Aho et al., on lines). A line event comes
before its line runs, so the variables at leader k + 1 are the state after block k. The trace is V_0, b_1, V_1, b_2, ...
of the paper's section on in-execution feedback, and its cut is that of LDB (Zhong et al. 2024): 100 characters a value,
the first and the last five blocks.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import reprlib
import sys

EVENTS = 2000
VALUE = 100  # characters of a value
SHOWN = 5  # blocks at each end
_CONTROL = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Match)
_LOOPS = (ast.For, ast.While)


class TraceError(ValueError):
    """A program that has no trace."""


def entry(program: str, name: str) -> tuple[ast.FunctionDef, bool]:
    """The definition of `name` at top level, the last one if there are several, and whether there are."""
    found = [node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not found:
        raise TraceError(f"the program does not define {name!r}")
    return found[-1], len(found) > 1


def leaders(function: ast.FunctionDef) -> list[int]:
    """Line numbers where a basic block of the function starts, in order."""
    found: set[int] = set()

    def walk(body: list[ast.stmt]) -> None:
        start = 1 if body is function.body and ast.get_docstring(function) is not None else 0
        after = True
        for node in body[start:]:
            if after or isinstance(node, _LOOPS):
                found.add(node.lineno)
            after = isinstance(node, _CONTROL)
            for inner in _bodies(node):
                if inner and inner[0].lineno > node.lineno:  # on the header's own line, no event tells them apart
                    walk(inner)

    walk(function.body)
    return sorted(found)


def _bodies(node: ast.stmt) -> list[list[ast.stmt]]:
    if not isinstance(node, _CONTROL):
        return []
    found = [getattr(node, name, []) for name in ("body", "orelse", "finalbody")]
    found += [handler.body for handler in getattr(node, "handlers", [])]
    return found + [case.body for case in getattr(node, "cases", [])]


def blocks(program: str, name: str) -> dict[int, str]:
    """Source of each basic block by its first line."""
    function, _ = entry(program, name)
    lines, starts = program.splitlines(), leaders(function)
    ends = [*starts[1:], function.end_lineno + 1]
    return {start: "\n".join(lines[start - 1 : end - 1]).rstrip() for start, end in zip(starts, ends, strict=True)}


def trace(program: str, name: str, function, args: list, kwargs: dict) -> dict:
    """Call the function and watch it: {"events": [{line, depth, variables}], "returned" or "raised", "cut", "twice"}.

    variables maps names to cut reprs, dunder names left out. Events of recursive calls carry their depth; after EVENTS
    of them the call runs on unwatched.
    """
    node, twice = entry(program, name)
    starts, events, depth = set(leaders(node)), [], 0

    def watch(frame, event, argument):
        nonlocal depth
        if event == "call":
            if frame.f_code.co_filename != "program.py" or frame.f_code.co_name != name:
                return None
            depth += 1
            return watch
        if event == "line" and frame.f_lineno in starts:
            if len(events) >= EVENTS:
                sys.settrace(None)
                return None
            variables = {n: cut(v) for n, v in frame.f_locals.items() if not n.startswith(("__", "."))}
            events.append({"line": frame.f_lineno, "depth": depth, "variables": variables})
        if event == "return":
            depth -= 1
        return watch

    found = {"events": events, "twice": twice}
    sys.settrace(watch)
    try:
        value = function(*args, **kwargs)
        if inspect.isgenerator(value):
            value = list(itertools.islice(value, EVENTS))
    except Exception as error:
        found["raised"] = f"{type(error).__name__}: {cut(str(error))}"
    else:
        sys.settrace(None)
        found["returned"] = cut(value)
    finally:
        sys.settrace(None)
    return found | {"cut": len(events) >= EVENTS}


class _Repr(reprlib.Repr):
    def __init__(self):
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = self.maxdeque = 40
        self.maxstring = self.maxlong = self.maxother = 2 * VALUE


def cut(value) -> str:
    """The value's repr, beyond VALUE characters its first and last half."""
    try:
        text = _Repr().repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = re.sub(r" at 0x[0-9a-f]+", "", text)  # an address says nothing and differs from run to run
    return text if len(text) <= VALUE else f"{text[: VALUE // 2]}...{text[-VALUE // 2 :]}"


def render(program: str, name: str, found: dict) -> str:
    """The trace as text: V_0, then each block's source with what it changed; the first and last SHOWN blocks."""
    source, events = blocks(program, name), found["events"]
    if not events:
        raise TraceError(f"no block of {name!r} ran")
    end = f"returned {found['returned']}" if "returned" in found else f"raised {found['raised']}"
    texts = [f"# at the start: {_values(events[0]['variables'])}"]
    for number, event in enumerate(events, 1):
        if number == SHOWN + 1 and len(events) > 2 * SHOWN:
            texts.append(f"... {len(events) - 2 * SHOWN} blocks ...")
        if SHOWN < number <= len(events) - SHOWN:
            continue
        after = events[number] if number < len(events) else None
        said = end
        if after is not None:
            before = event["variables"] if after["depth"] == event["depth"] else {}
            changed = {n: v for n, v in after["variables"].items() if before.get(n) != v}
            said = _values(changed) if changed else "nothing changed"
        texts.append(f"[BLOCK-{number}]\n{source[event['line']]}\n# {said}")
    return "\n".join(texts)


def _values(variables: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in variables.items()) or "no variables"
