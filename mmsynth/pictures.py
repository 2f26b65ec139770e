"""Maps tar members to a sample's pictures, and pictures to member names, by one rule for both directions.

- `jpg`, or another image extension alone, is the main picture; of several, the first in `MEMBER_EXTENSIONS`
- `before.jpg` is the further picture `before`, if it has a picture's header
- everything else, `a.b.png` too, is a plain member

Reading gives back what was written. A picture gets the extension of its content, unless readers would then take another
member for it. In that case it gets the first extension without a conflict, such as its original one.
"""

from collections.abc import Mapping
from dataclasses import replace

from mmsynth.errors import ImageError, PluginError
from mmsynth.image import Image
from mmsynth.image_formats import MEMBER_EXTENSIONS
from mmsynth.sample import Sample, is_picture_name

_RANK = {extension: rank for rank, extension in enumerate(MEMBER_EXTENSIONS)}


def pictures_among(members: Mapping[str, bytes]) -> tuple[dict[str, Image], dict[str, bytes]]:
    """Pictures by name (the main picture's is ""), and the remaining members."""
    if len(plain := [member for member in members if member in _RANK]) == 1 and not any("." in m for m in members):
        rest = dict(members)  # nearly every sample: one picture, and nothing that could be another
        if not any(member.lower() in _RANK for member in members if member != plain[0]):
            return {"": Image(rest.pop(plain[0]))}, rest
    by_name: dict[str, list[tuple[int, str, str]]] = {}
    for member in members:
        if (parts := _parts(member)) is not None:
            by_name.setdefault(parts[0].lower(), []).append((_RANK[parts[1]], parts[0], member))
    pictures, rest = {}, dict(members)
    for candidates in by_name.values():
        for _, name, member in sorted(candidates):
            image = Image(members[member])
            # a broken main picture fails the sample; a broken further picture stays a plain member
            if not name or image.has_header:
                pictures[name] = image
                del rest[member]
                break
    return pictures, rest


def as_members(sample: Sample) -> dict[str, bytes]:
    """The sample's members and pictures, by their names in a tar."""
    named = {} if sample.image is None else {"": sample.image}
    pictures = {member_of(name, image, sample): image.data for name, image in {**named, **sample.images}.items()}
    return {**sample.members, **pictures}


def member_of(name: str, image: Image, sample: Sample) -> str:
    """The name of the member that holds `image`, the picture `name` of `sample`. Raises ImageError, PluginError."""
    extension = image.extension
    before = f"{name}." if name else ""
    taken = {parts[1]: member for member in sample.members if (parts := _parts(member)) and _same(parts[0], name)}
    if taken:
        read = [_RANK[other] for other, member in taken.items() if not name or Image(sample.members[member]).has_header]
        first = min(read, default=len(_RANK))
        free = [other for other in (extension, *_RANK) if other not in taken and _RANK[other] < first]
        if not free:
            raise PluginError(
                f"a stage put '{before}{MEMBER_EXTENSIONS[first]}' among the members of {sample.key}, where "
                f"it would be read as its picture: give pictures with with_image()"
            )
        extension = free[0]
    return before + extension


def set_aside(sample: Sample, names: list[str]) -> Sample:
    """`sample` with these undecodable pictures as plain members, so that their bytes are kept."""
    members = dict(sample.members)
    for name in names:
        image = sample.images[name]
        try:
            members[member_of(name, image, sample) if image.has_header else f"{name}.bin"] = image.data
        except ImageError:  # an unreadable file has no bytes to keep
            continue
    images = {name: image for name, image in sample.images.items() if name not in names}
    source = sample.record.get("source")
    source = dict(source) if isinstance(source, dict) else {}
    source["repaired"] = [*dict.fromkeys([*source.get("repaired", ()), "picture_unreadable"])]
    return replace(sample, images=images, members=members).with_record(source=source)


def _parts(member: str) -> tuple[str, str] | None:
    """Picture name and extension of a member with a picture's name, or None."""
    name, dot, extension = member.rpartition(".")
    extension = extension.lower()
    if extension not in _RANK or (dot and not is_picture_name(name)):
        return None
    return name, extension


def _same(one: str, other: str) -> bool:
    # readers ignore case in members' names
    return one.lower() == other.lower()
