"""Secrets: what a recipe may hold and nobody else may read is left out of everything that is written down."""

import re
from collections.abc import Mapping
from typing import Any

#: user:password@ of a URL
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
#: values in a URL's query: signatures, tokens
_SIGNED = re.compile(r"([?&][\w.-]*(?:sig|signature|token|secret|password|credential|key|auth)[\w.-]*=)[^&#\s]+", re.I)
#: parameters whose whole value is secret
_NAMES = re.compile(r"(?:^|_)(?:secret|password|token|api_?key|credentials|storage_options)$", re.I)


def without_secrets(value: Any) -> Any:
    """`value` (JSON) without what is in it of passwords, tokens and signatures."""
    if isinstance(value, str):
        return _SIGNED.sub(r"\1", _USER.sub("", value)) if "://" in value else value
    if isinstance(value, Mapping):
        return {name: _of_parameter(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _of_parameter(name: Any, value: Any) -> Any:
    is_secret = isinstance(name, str) and _NAMES.search(name) and isinstance(value, str | Mapping)
    return None if is_secret else without_secrets(value)
