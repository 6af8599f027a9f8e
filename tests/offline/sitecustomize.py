"""No network: with this folder on PYTHONPATH, no Python process connects anywhere or looks up a name.

Kernels talk to their clients all the same: zmq opens its sockets in C, where no audit hook hears of them.
"""

import sys
from socket import AF_UNIX


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        if arguments[0].family == AF_UNIX or arguments[1] is None:  # None: along a connection, and there is none
            return
        where = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"):
        where = arguments[:2]
    else:
        return
    # Not an OSError: a library would take that for a bad network and go on.
    raise RuntimeError(f"no network in this step, it runs on what the cache holds: {event} to {where!r} is refused")


sys.addaudithook(_refuse)
