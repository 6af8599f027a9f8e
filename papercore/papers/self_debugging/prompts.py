"""What the model is asked, and how a program is read from its answer. The paper's wording is not known; this is ours.

A talk is a list of role/content messages. Where it ends with an assistant's message, the model goes on from there: the
function's header as that beginning saves it from copying the docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from papercore.papers.self_debugging.problems import Problem

Talk = list[dict[str, str]]
FENCE = "```"
STOP = (FENCE,)
_ONLY = "Answer with one code block and nothing else."
WRONG = "This program is wrong."


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def block(code: str) -> str:
    """Code between fences."""
    return f"{FENCE}python\n{code.rstrip()}\n{FENCE}"


def code(problem: Problem) -> Talk:
    """Complete the function."""
    header = f"{FENCE}python\n{problem.prompt}"
    return [_user(f"Complete this Python function. {_ONLY}\n\n{block(problem.prompt)}"), _assistant(header)]


def tests(problem: Problem, n: int) -> Talk:
    """Write `n` numbered asserts from the specification alone; no program is shown."""
    asked = (
        f"Write {n} tests for this Python function. Number them from 1 to {n}, each in the form "
        f"`assert {problem.entry_point}(...) == ...` with literal arguments and a literal expected value, and with "
        f"other inputs than the docstring's examples. Do not implement the function.\n\n{block(problem.prompt)}"
    )
    return [_user(asked), _assistant(f"{FENCE}python\n# Test 1 of {n}\nassert")]


def _again(problem: Problem, program: str, said: str) -> Talk:
    """The talk of `code` with the program as its answer, and one more turn."""
    first, header = code(problem)
    return [first, _assistant(block(bare(program))), _user(f"{said} {_ONLY}"), header]


def wrong(problem: Problem, program: str) -> Talk:
    """Label feedback: that the program is wrong, and not a word more."""
    return _again(problem, program, f"{WRONG} Rewrite it.")


def detail(problem: Problem, program: str, call: str, expected: str, got: str) -> Talk:
    """Detail feedback: one failed test, as call, expected value and what came instead."""
    return _again(problem, program, f"{WRONG} `{call}` should give `{expected}`, but it gives `{got}`. Rewrite it.")


def retry(problem: Problem, program: str) -> Talk:
    """No feedback at all: a second sample."""
    return _again(problem, program, "Write the function again.")


def inspect(problem: Problem, program: str, call: str, trace: str) -> Talk:
    """In-execution: the states that one call goes through; no expected value, no verdict."""
    asked = (
        f"This is what happens in your program when `{call}` runs. After each block of lines stand the values of the "
        f"variables.\n\n{FENCE}\n{trace}\n{FENCE}\n\nSay in a sentence for each block whether these values agree with "
        "the docstring. Then give the whole function in one Python code block without its docstring, unchanged where "
        "it needs no change."
    )
    return [code(problem)[0], _assistant(block(bare(program))), _user(asked)]


def bare(program: str) -> str:
    """A program without the docstrings of its functions, which the first turn holds already; else line for line."""
    lines = program.splitlines()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None and len(node.body) > 1:
            doc = node.body[0]
            lines[doc.lineno - 1 : doc.end_lineno] = [None] * (doc.end_lineno - doc.lineno + 1)
    return "\n".join(line for line in lines if line is not None) + "\n"


def program(problem: Problem, answer: str, *, continued: bool = True) -> str | None:
    """The program in an answer; None where there is none.

    continued: the answer goes on from the problem's header. Otherwise its last code block with the entry point counts.
    Kept are imports, functions, classes and assignments at top level; the model's own calls, prints and asserts are
    dropped, and so are last lines that a cut answer left incomplete.
    """
    if continued:
        return clean(problem.prompt + answer.partition(FENCE)[0], problem.entry_point)
    blocks = answer.split(FENCE)[1::2]
    for text in reversed(blocks):
        text = text.partition("\n")[2] if text[:20].lstrip().lower().startswith("py") else text
        if (found := clean(text, problem.entry_point)) is not None:
            imports = "\n".join(ast.unparse(n) for n in ast.parse(problem.helpers).body)
            return f"{imports}\n{found}" if imports else found
    return None


_KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def clean(text: str, entry_point: str) -> str | None:
    """The definitions in `text` as source, if `entry_point` is among them and does something; else None."""
    lines = text.splitlines()
    for end in range(len(lines), 0, -1):
        try:
            body = ast.parse("\n".join(lines[:end])).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        entries = [n for n in body if isinstance(n, ast.FunctionDef) and n.name == entry_point]
        if not entries or not _does_something(entries[-1].body):
            return None
        kept = [node for node in body if isinstance(node, _KEPT)]
        return "\n".join("\n".join(lines[_first(node) - 1 : node.end_lineno]) for node in kept) + "\n"
    return None


def _first(node: ast.stmt) -> int:
    """First line of a statement, its decorators included."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])


def _does_something(body: Sequence[ast.stmt]) -> bool:
    """Whether a function has more than its docstring."""
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
