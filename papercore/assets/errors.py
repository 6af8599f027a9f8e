"""What can go wrong with bytes, each said in one sentence. Floor: assets."""

import errno
import re

# What a full disk, a quota and a limit on a file's size say.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class AssetError(RuntimeError):
    """An asset is unknown, badly described, or cannot be stored."""


class AssetUnavailable(AssetError):
    """No source delivers the asset's exact bytes; whoever needs it is untested, the rest goes on."""


def redacted(text: str) -> str:
    """`text` without its URLs: a token may sit in any part of one."""
    return re.sub(r"\b[A-Za-z][\w+.-]*://\S*[^\s'\"),;:.]", "<URL>", text)


def said(error: Exception) -> str:
    """What an error says, in one line and without URLs; its kind where it says nothing."""
    return redacted(" ".join(str(error).split())) or type(error).__name__
