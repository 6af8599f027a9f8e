"""How values cross between checker and candidate: as JSON of plain types, so that no object, with methods of its own,
reaches the checker. Standard library only.
"""

import json
import struct

MOST = 16_000_000  # bytes of a message; items of an iterator
_SEQUENCES = (("l", list), ("t", tuple), ("s", set), ("f", frozenset))


class WireError(TypeError):
    """A value that is not plain."""


def encode(value, deep: int = 0):
    """JSON for a plain value. Instances of subclasses lose what those add; ranges and iterators keep their kind.

    Raises WireError for anything else.
    """
    if deep > 200:
        raise WireError("a value nested deeper than 200 levels")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return ["i", hex(int.__int__(value))]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, bytes | bytearray):
        return ["b", bytes(value).hex()]
    if isinstance(value, dict):
        return ["d", [[encode(k, deep + 1), encode(v, deep + 1)] for k, v in dict.items(value)]]
    for mark, kind in _SEQUENCES:
        if isinstance(value, kind):
            return [mark, [encode(item, deep + 1) for item in kind.__iter__(value)]]
    if isinstance(value, range):
        return ["r", value.start, value.stop, value.step]
    if hasattr(type(value), "__next__") or type(value).__name__ in ("dict_keys", "dict_values", "dict_items"):
        items = []
        for item in value:
            items.append(encode(item, deep + 1))
            if len(items) > 1_000_000:
                raise WireError("an iterator of more than 1,000,000 items")
        return ["it", items]
    raise WireError(f"a value of type {type(value).__name__}")


def decode(said):
    """The value again."""
    if not isinstance(said, list):
        return said
    mark, *rest = said
    match mark:
        case "i":
            return int(rest[0], 16)
        case "c":
            return complex(*rest)
        case "b":
            return bytes.fromhex(rest[0])
        case "d":
            return {decode(k): decode(v) for k, v in rest[0]}
        case "r":
            return range(*rest)
        case "it":
            return iter([decode(item) for item in rest[0]])
    kind = dict(_SEQUENCES)[mark]
    return kind(decode(item) for item in rest[0])


def send(file, message) -> None:
    """One message: its length, then JSON."""
    body = json.dumps(message).encode()
    if len(body) > MOST:
        raise WireError("a value of more than 16 MB")
    file.write(struct.pack(">I", len(body)) + body)
    file.flush()


def receive(file):
    """The next message; None at the end of the stream. Raises WireError where it is none."""
    head = file.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack(">I", head)
    if length > MOST:
        raise WireError("a message of more than 16 MB")
    body = file.read(length)
    try:
        return json.loads(body) if len(body) == length else None
    except ValueError:
        raise WireError("a message that is not JSON") from None
