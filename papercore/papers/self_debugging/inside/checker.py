"""The checker's side: run trusted tests, or calls with expected values, against the candidate across a pipe.

Stdin holds the task, stdout takes one JSON line a result and, after the last of them, the token.
"""

import builtins
import ctypes
import json
import math
import os
import sys

ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) if sys.platform == "linux" else None  # nobody may look into this process
os.write(5, b"!")
os.close(5)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import wire  # noqa: E402

asks, answers = os.fdopen(4, "wb"), os.fdopen(3, "rb")


class CandidateEnded(BaseException):
    """The candidate stopped answering. No Exception, so that no test catches it."""


class CandidateError(Exception):
    """An exception of the candidate's that is not a built-in one."""


def say(**line) -> None:
    print(json.dumps(line), flush=True)


def request(message: dict) -> dict:
    try:
        wire.send(asks, message)
        answer = wire.receive(answers)
    except (BrokenPipeError, wire.WireError) as error:
        raise CandidateEnded(str(error)) from None
    if not isinstance(answer, dict):
        raise CandidateEnded("no answer")
    return answer


def call(*args, **kwargs):
    """The candidate's entry point, from here: plain values go there and come back."""
    said = {"args": [wire.encode(a) for a in args], "kwargs": {n: wire.encode(a) for n, a in kwargs.items()}}
    answer = request(said)
    if "error" in answer:
        name, text = str(answer["error"]), str(answer.get("message", ""))
        kind = getattr(builtins, name, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception) and kind is not AssertionError):
            raise CandidateError(f"{name}: {text}")
        try:
            raised = kind(text)
        except TypeError:  # UnicodeDecodeError and the like want more than a text
            raised = CandidateError(f"{name}: {text}")
        raise raised
    try:
        return wire.decode(answer["value"])
    except Exception as error:
        raise CandidateEnded(f"an answer that cannot be read: {error}") from None


def same(a, b) -> bool:
    """Equal, with floats to 1e-6 (absolute or relative), the tolerance of EvalPlus."""
    if isinstance(a, float) or isinstance(b, float):
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
        return bool(numbers and (a == b or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)))
    if type(a) is type(b) and isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def main() -> int:
    task = json.load(sys.stdin)
    wire.send(asks, {"program": task["program"], "entry_point": task["entry_point"]})
    if "check" in task:
        names = {"__name__": "check"}
        exec(compile(task["check"], "check.py", "exec"), names)
        names[task["entry_point"]] = call  # one test of HumanEval calls the program by its own name
        try:
            names["check"](call)
        except AssertionError as error:
            line = error.__traceback__
            while line.tb_next is not None:
                line = line.tb_next
            say(end="failed", line=line.tb_lineno, message=str(error)[:200])
            return 0
        except Exception as error:
            say(end="error", error=type(error).__name__, message=str(error)[:300])
            return 0
    for number, one in enumerate(task.get("calls", [])):
        say(call=number)
        args, kwargs = [wire.decode(a) for a in one["args"]], {n: wire.decode(a) for n, a in one["kwargs"].items()}
        try:
            value = call(*args, **kwargs)
            right = "expected" in one and same(value, wire.decode(one["expected"]))
            say(call=number, value=repr(value)[:400], right=right)
        except Exception as error:
            name = type(error).__name__ if not isinstance(error, CandidateError) else str(error).partition(":")[0]
            say(call=number, error=name, message=str(error)[:300])
    if "trace" in task:
        answer = request({**task["trace"], "trace": True})
        say(trace=answer.get("trace"), error=answer.get("error"), message=answer.get("message"))
    print(task["token"], flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CandidateEnded as error:
        say(end="ended", message=str(error)[:200])
        sys.exit(3)
