"""A model behind an OpenAI-compatible server, for models that outgrow this machine. Floor: models.

The key comes from the environment (PAPERCORE_ENDPOINT_KEY, else OPENAI_API_KEY) and goes nowhere but into the request.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from papercore.models.errors import ModelError

KEYS = ("PAPERCORE_ENDPOINT_KEY", "OPENAI_API_KEY")
_AGAIN = (408, 409, 429, 500, 502, 503, 504)
TRIES = 5


class Endpoint:
    """Chat completions of one model at `url` (up to and with /v1); nothing is sent before `complete`."""

    def __init__(self, url: str, model: str, *, timeout: float = 600.0, sleep: Callable[[float], Any] = time.sleep):
        self.url, self.model, self.timeout, self._sleep = url.rstrip("/"), model, timeout, sleep

    @property
    def identity(self) -> str:
        """What names the model in a key: server and name. Weights behind a server can change unseen."""
        return f"{self.url}#{self.model}"

    def complete(self, messages: list[dict], *, max_new_tokens: int, stop: Sequence[str] = ()) -> tuple[str, int]:
        """The greedy answer to a talk of role/content messages and its number of tokens (0 where unsaid).

        Busy servers are asked again, up to TRIES times. Raises ModelError, one sentence without the key.
        """
        import httpx

        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        asked: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": max_new_tokens}
        asked |= {"temperature": 0, "seed": 0} | ({"stop": list(stop)} if stop else {})
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for attempt in range(TRIES):
            last = attempt == TRIES - 1
            try:
                got = httpx.post(f"{self.url}/chat/completions", json=asked, headers=headers, timeout=self.timeout)
            except httpx.HTTPError as error:
                if last:
                    raise ModelError(f"{self.url} does not answer: {type(error).__name__}") from None
            else:
                if got.status_code == 200:
                    return _read(got, self.url)
                if got.status_code not in _AGAIN or last:
                    hint = f"; set {KEYS[0]}" if got.status_code == 401 and not key else ""
                    raise ModelError(f"{self.url} refuses {self.model!r} with status {got.status_code}{hint}")
            self._sleep(2.0**attempt)
        raise AssertionError("the last try returns or raises")


def _read(got, url: str) -> tuple[str, int]:
    try:
        said = got.json()
        text = said["choices"][0]["message"]["content"]
        if not isinstance(text, str | None):
            raise TypeError
        return text or "", int((said.get("usage") or {}).get("completion_tokens") or 0)
    except (ValueError, KeyError, IndexError, TypeError):
        raise ModelError(f"{url} answers something that is no chat completion") from None
