"""Keys: sample names, `[0-9A-Za-z_-]+`, because WebDataset splits a member's name at its first dot."""

import hashlib
import re

_FORBIDDEN = re.compile(r"[^0-9A-Za-z_-]+")
_MAX_LENGTH = 120


def safe_key(name: str) -> str:
    """`name` as a key: unchanged if it is valid, else cleaned, plus a digest of the original against collisions."""
    if name and len(name) <= _MAX_LENGTH and not _FORBIDDEN.search(name):
        return name
    cleaned = _FORBIDDEN.sub("_", name).strip("_")[: _MAX_LENGTH - 20]
    return f"{cleaned or 'key'}-{short_digest(name)}"


def distinct_key(key: str, occurrence: int) -> str:
    """The new key of the `occurrence`-th sample (2, 3, …) with this key."""
    return f"{key}-dup{occurrence}-{short_digest(f'{key}#{occurrence}')}"


def short_digest(text: str) -> str:
    """Eight hex digits of blake2b."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
