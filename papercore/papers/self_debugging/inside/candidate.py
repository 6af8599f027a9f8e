"""The candidate's side: load the program, then answer calls. Nothing that it says is trusted."""

import builtins
import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, FOLDER)

import wire  # noqa: E402


def serve() -> None:
    asks, answers = os.fdopen(3, "rb"), os.fdopen(4, "wb")
    entry, failure = None, None
    first = wire.receive(asks)
    names = {"__name__": "program", "__builtins__": builtins}
    try:
        exec(compile(first["program"], "program.py", "exec"), names)
        entry = names[first["entry_point"]]
    except BaseException as error:
        failure = error
    sys.path.remove(FOLDER)
    while (message := wire.receive(asks)) is not None:
        try:
            if failure is not None:
                raise failure
            args = [wire.decode(value) for value in message["args"]]
            kwargs = {name: wire.decode(value) for name, value in message["kwargs"].items()}
            if message.get("trace"):
                sys.path.insert(0, FOLDER)
                import tracer

                answer = {"trace": tracer.trace(first["program"], first["entry_point"], entry, args, kwargs)}
            else:
                answer = {"value": wire.encode(entry(*args, **kwargs))}
        except BaseException as error:
            answer = {"error": type(error).__name__, "message": _text(error)}
        wire.send(answers, answer)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


if __name__ == "__main__":
    serve()
