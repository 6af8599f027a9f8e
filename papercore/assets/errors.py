"""What can go wrong with bytes, each said in one sentence. Floor: assets."""


class AssetError(RuntimeError):
    """An asset is unknown, badly described, or cannot be stored."""


class AssetUnavailable(AssetError):
    """No source delivers the asset's exact bytes; whoever needs it is untested, the rest goes on."""
