"""From tar members to samples: groups members as webdataset does, and reads image, caption, record and the rest.

Knows webdataset's naming and mmsynth's own records. Does not know where tars lie or how they are cut into slices.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmsynth.errors import SampleError
from mmsynth.image_formats import MEMBER_EXTENSIONS
from mmsynth.io.tar import Member
from mmsynth.keys import safe_key
from mmsynth.pictures import pictures_among
from mmsynth.record import has_shape
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable
from mmsynth.sources.captions import (
    caption_of,
    captions_in,
    note,
    printable,
    read_json,
    source_record,
    with_originals,
)

CAPTION_MEMBERS = ("txt", "caption")

# as in webdataset: everything up to the first dot of the base name, and what comes after
_KEY_AND_SUFFIX = re.compile(r"^((?:.*/|)[^./][^./]*)[.]([^/]+)$", re.DOTALL)
_METADATA = re.compile(r"__[^/]*__($|/)")
_CLUTTER = re.compile(r"(?:^|/)(?:\._[^/]*|\.DS_Store)$")


@dataclass(slots=True)
class Group:
    """The members of one sample, or something else in the tar, with a `reason` why it is not a sample."""

    name: str
    start: int
    members: dict[str, bytes] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    #: whether a slice may start here
    is_sample: bool = True
    #: where its last member ends
    end: int = 0
    repaired: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The key, before duplicates are renamed."""
        name = self.name
        while name.startswith("./"):
            name = name[2:]
        return safe_key(name)


def grouped(members: Iterable[tuple[Member, bytes | None]], tar: str) -> Iterator[Group]:
    """The samples of a tar in order. Members that belong to no sample come after the sample that they interrupt."""
    current: Group | None = None
    loose: list[Group] = []
    position = 0
    members = iter(members)
    while True:
        try:
            member, data = next(members)
        except StopIteration:
            break
        except (SampleError, OSError, EOFError, zlib.error) as error:
            loose.extend(_broken(current, error, tar, position))
            break
        position = member.end
        if _is_metadata(member):
            continue
        match = _KEY_AND_SUFFIX.match(member.name)
        if match is None:
            loose.append(_keyless(member))
            continue
        name, suffix = match.groups()
        # a repeated suffix starts another sample with the same key, so that nothing is lost
        if current is None or current.name != name or _has(current, suffix):
            yield from [current] if current else []
            yield from loose
            current, loose = Group(name, member.start), []
        current.end = member.end
        _add(current, member, suffix, data)
    yield from [current] if current else []
    yield from loose


def _is_metadata(member: Member) -> bool:
    return member.kind == "folder" or bool(_METADATA.match(member.name) or _CLUTTER.search(member.name))


def _has(group: Group, suffix: str) -> bool:
    return suffix.lower() in (known.lower() for known in group.members)


def _keyless(member: Member) -> Group:
    detail = "a name must have a key before its first dot and an extension after it"
    keyless = Group(member.name, member.start, reason="member_without_key", detail=detail, is_sample=False)
    keyless.end = member.end
    return keyless


def _add(group: Group, member: Member, suffix: str, data: bytes | None) -> None:
    group.members[suffix] = data or b""
    if member.kind == "large file":
        group.reason, group.detail = "member_too_large", f"{member.name} has {member.size:,} bytes"
    elif member.kind != "file":
        group.reason, group.detail = "member_not_a_file", f"{member.name} is a {member.kind}"
    elif data is not None and len(data) < member.size:
        group.reason, group.detail = "broken_tar", f"the tar ends inside {member.name}"


def _broken(current: Group | None, error: Exception, tar: str, position: int) -> list[Group]:
    """The row for a break, or for bytes that no reader takes, unless the sample that is cut short has it."""
    if current is not None and current.reason == "broken_tar":
        return []
    reason, detail = "broken_tar", f"{type(error).__name__}: {error}"
    if isinstance(error, SampleError):
        reason, detail = error.reason, error.detail
    if current is not None and reason == "broken_tar":
        note(current.repaired, "tar_broken_after")
    return [Group(f"{tar}@{position}", position, reason=reason, detail=detail, is_sample=False)]


def sample_of(group: Group, key: str, tar: str) -> Sample | Unreadable:
    """The group as a sample called `key`. `tar` is the tar's name, for the record."""
    about: dict[str, Any] = {"path": tar, "member": printable(group.name)}
    if not group.reason and (fused := _fused(group.members)):
        group.reason, group.detail = "names_with_dots", f"{group.name}: {fused}"
    if group.reason:
        return Unreadable(key, group.reason, group.detail, f"{tar}/{printable(group.name)}" if group.is_sample else tar)
    repaired = list(group.repaired)
    if key != group.key:
        note(repaired, "duplicate_key")
    if group.key != group.name:
        note(repaired, "key_cleaned")
    images, members = pictures_among(group.members)
    image = images.pop("", None)
    text = _caption(members, repaired)
    data = _take(members, ("json",))
    fields = read_json(data, about, repaired) if data is not None else None
    record = _own_fields(fields or {}, about)
    captions = [text] if text else captions_in(record, repaired)
    record["source"] = source_record("webdataset", about, group.name if key != group.name else None, repaired)
    sample = Sample(key, image, record=record, members=members, images=images)
    return with_originals(sample, captions)


def _fused(members: Mapping[str, bytes]) -> str:
    """What to say of members without a picture of their own, where a dot in a file's name ended the key too early.

    Pictures called `v0.jpg` beside no `jpg` are samples whose names have dots if there are several of them with no text
    between them, or if their texts are called so too.
    """
    if any(name.lower() in _PICTURES for name in members):
        return ""
    pictures = [name for name, last in _last_parts(members) if last in MEMBER_EXTENSIONS]
    stems = {name.rpartition(".")[0] for name in pictures}
    texts = [name for name, last in _last_parts(members) if last in _TEXTS]
    of_stems = [name for name in texts if name.rpartition(".")[0] in stems]
    if not pictures or not (of_stems or (len(pictures) > 1 and not texts)):
        return ""
    shown = ", ".join(f".{printable(name)}" for name in pictures[:3]) + (", …" if len(pictures) > 3 else "")
    return (
        f"{len(pictures)} pictures ({shown}) and none of its own: a key ends at the first dot of a name, so names with "
        "dots make one sample or lose their pictures; rename them (photo.v1.jpg → photo_v1.jpg)"
    )


_TEXTS = frozenset({*CAPTION_MEMBERS, "json"})
_PICTURES = frozenset(MEMBER_EXTENSIONS)


def _last_parts(members: Iterable[str]) -> Iterator[tuple[str, str]]:
    return ((name, name.rpartition(".")[2].lower()) for name in members if "." in name or name.lower() in _TEXTS)


def _caption(members: dict[str, bytes], repaired: list[str]) -> str | None:
    """The text of the first caption member that is not blank. Removes it and the blank ones before it."""
    for suffix in CAPTION_MEMBERS:
        text = caption_of(_take(members, (suffix,)), repaired)
        if text:
            return text
    return None


def _take(members: dict[str, bytes], suffixes: tuple[str, ...]) -> bytes | None:
    """Remove and return the member with the first of these suffixes, ignoring case."""
    for suffix in suffixes:
        for name in members:
            if name.lower() == suffix:
                return members.pop(name)
    return None


def _own_fields(fields: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """The record that a sample's JSON continues. Fields with our names but another shape are kept in `about`."""
    record = dict(fields)
    for name in fields:
        if not has_shape(name, record[name]):
            about.setdefault("json_conflicts", {})[name] = record.pop(name)
    if "source" in record:
        about["origin"] = record.pop("source")
    return record
