"""Bytes: the catalogue, the verified cached download, hub snapshots, what was opened. The lowest floor: assets.

It imports no other floor. What a notebook needs from the network, it gets here.
"""

from papercore.assets.cache import cache_dir, cache_entries, clear_cache, trim
from papercore.assets.catalogue import Asset, catalogue
from papercore.assets.errors import DISK_FULL, AssetError, AssetUnavailable
from papercore.assets.fetch import fetch, models_table, obtain
from papercore.assets.hub import snapshot
from papercore.assets.opened import opened, record

__all__ = [
    "DISK_FULL",
    "Asset",
    "AssetError",
    "AssetUnavailable",
    "cache_dir",
    "cache_entries",
    "catalogue",
    "clear_cache",
    "fetch",
    "models_table",
    "obtain",
    "opened",
    "record",
    "snapshot",
    "trim",
]
