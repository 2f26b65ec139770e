"""Redacts credentials from everything written to disk or logs."""

import os
import re
from collections.abc import Mapping
from typing import Any

#: user:password@ in a URL
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
#: secret values in a URL's query: signatures, tokens
_SIGNED = re.compile(r"([?&][\w.-]*(?:sig|signature|token|secret|password|credential|key|auth)[\w.-]*=)[^&#\s]+", re.I)
#: parameters whose whole value is secret
_NAMES = re.compile(
    r"(?:^|_)(?:secret|passw(?:or)?d|passphrase|token|auth|authorization|credentials?|storage_options"
    r"|(?:api|access|private|account)_?keys?)$",
    re.I,
)

#: tokens by their form: Hugging Face, OpenAI, GitHub, AWS
_TOKENS = re.compile(r"\b(?:hf_[A-Za-z]{30,}|sk-[\w-]{32,}|gh[opsu]_[0-9A-Za-z]{36}|AKIA[0-9A-Z]{16})")
_BEARER = re.compile(r"(?<=\bbearer )[^\s'\",]+", re.IGNORECASE)
#: names of environment variables that hold secrets
_VARIABLES = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY", re.IGNORECASE)
_SHORTEST = 8


def without_secrets(value: Any) -> Any:
    """`value` (JSON) with passwords, tokens and signatures redacted."""
    if isinstance(value, str):
        value = _TOKENS.sub("…", value)
        return _SIGNED.sub(r"\1", _USER.sub("", value)) if "://" in value else value
    if isinstance(value, Mapping):
        return {name: _of_parameter(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _of_parameter(name: Any, value: Any) -> Any:
    is_secret = isinstance(name, str) and _NAMES.search(name) and _may_be_secret(value)
    return None if is_secret else without_secrets(value)


def _may_be_secret(value: Any) -> bool:
    """Whether a value may be a secret. Text may be, but not a number: `token: 7` counts tokens."""
    if isinstance(value, list | tuple):
        return any(isinstance(item, str) for item in value)
    return isinstance(value, str | Mapping)


def in_words(text: str) -> str:
    """A message, perhaps from another library, with credentials redacted, for rows and logs."""
    text = _BEARER.sub("…", str(without_secrets(text)))
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _VARIABLES.search(name):
            text = text.replace(value, "…")
    return text
