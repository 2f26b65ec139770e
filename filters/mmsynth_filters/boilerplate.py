"""The filter `boilerplate`: finds captions about something other than the picture. Uses patterns, no model."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

Kind = Literal[
    "assistant", "refusal", "preamble", "prompt", "markup", "stock", "web", "url", "file_name", "camera_data"
]

#: ISO speeds in thirds of a stop; other numbers after ISO are standards
_FILM_SPEEDS = "|".join(str(speed << stops) for speed in (25, 32, 40, 125, 1250) for stops in range(14))
_SEE = r"(?:see|view|access|open|display|process|analy[sz]e|describe|identify|assist|help|provide|generate|comply)"
_CAPTION = r"(?:captions?|descriptions?|summary|sentences?|alt[ -]text|prompt)"

#: kind → its patterns; matched anywhere, ignoring case, with ’ read as '
PATTERNS: Mapping[Kind, Sequence[str]] = {
    # As an AI language model, …
    "assistant": (
        r"\bas an? (?:ai|artificial intelligence|(?:large )?(?:vision[- ])?language model|text-based)\b",
        r"\bi(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model|virtual assistant|chatbot)\b",
    ),
    # I'm sorry, but I cannot see the image. Please provide an image.
    "refusal": (
        rf"\bi(?:'m| am) (?:currently )?(?:not able|unable) to (?:\w+ )?{_SEE}\b",
        rf"\bi (?:can't|cannot|can not|won't) (?:\w+ )?{_SEE}\b",
        r"\bi(?:'m| am) sorry,? (?:but|i)\b|\bsorry,? (?:but )?i (?:can't|cannot|won't|am unable|'m unable)\b",
        r"\bi (?:do not|don't) (?:have access|see an?y? image|have the ability)\b",
        r"\b(?:please|could you|can you) (?:provide|upload|share|attach) (?:an?|the|your|more) (?:image|picture|photo)",
        r"\bno image (?:(?:was|has been|is) )?(?:provided|attached|uploaded)\b",
    ),
    # Sure, here is a caption: …
    "preamble": (
        # "OK, a girl waves" may be a caption; "OK, here is one" is not
        r"^\W*(?:sure|certainly|of course|absolutely|okay|ok)\s*(?:[!.:]|,\s*(?:here|i\b|let me|this is|below"
        r"|the following|the (?:image|picture|photo|caption)))",
        rf"^\W*(?:here(?:'s| is| are)|below is)\b[^.:\n]{{0,60}}\b{_CAPTION}\b",
        rf"^\W*(?:(?:image|photo|short|detailed|suggested|possible) )?(?:title|{_CAPTION})\W*:",
        r"\b(?:let me know if|feel free to|i hope this helps|would you like me to|anything else i can)\b",
    ),
    # the prompt repeated, and roles and placeholders of a chat template
    "prompt": (
        r"\b(?:describe|caption) (?:this|the) (?:image|picture|photo)\b",
        rf"\b(?:write|generate|give|provide|create) (?:me )?(?:an?|the) (?:\w+ )?{_CAPTION} (?:for|of) (?:this|the) "
        r"(?:image|picture|photo)\b",
        r"^\W*(?:user|assistant|human|system|question|answer|response|instruction)\s*:",
    ),
    # <|im_end|>, [INST], &quot;, <br/>
    "markup": (
        r"<\|[^<>|]{1,40}\|>|\[/?inst\]|</?(?:s|unk|pad|bos|eos|image|img|br|p|div|span|a|b|i|h\d|li)\b[^<>]{0,80}/?>",
        r"&(?:amp|quot|nbsp|lt|gt|apos|#\d{1,6});",
    ),
    # stock photo, Getty Images
    "stock": (
        r"\bstock[- ](?:photos?|photography|images?|pictures?|illustrations?|vectors?|footage|videos?)\b",
        r"\broyalty[- ]free\b|\b(?:vector|clip ?art) (?:eps|graphics? download)\b",
        r"\b(?:shutterstock|getty ?images|istock(?:photo)?|alamy|depositphotos|dreamstime|123rf|adobe ?stock)\b",
    ),
    # click to enlarge, all rights reserved
    "web": (
        r"\bclick (?:here|on (?:the|this)|to|for|image)\b",
        r"\b(?:image|picture|photo|media) (?:is )?(?:not available|unavailable|may contain)\b",
        r"\bno (?:image|photo|picture) available\b|\bimage coming soon\b|\bplaceholder image\b",
        r"\ball rights reserved\b|©|(?:\(c\)|\bcopyright) ?(?:19|20)\d\d\b|\bcopyright \(c\)",
        r"\b(?:photo|image|picture) (?:credits?|courtesy)\b|/ ?(?:reuters|afp|epa|ap photo)\b",
        r"\bsign up (?:for|to) (?:our|get|receive)\b|\bfollow (?:us|me) on\b|\bsubscribe to (?:our|my)\b",
        r"\bshare (?:this )?on (?:facebook|twitter|pinterest|instagram|whatsapp)\b|\bfree download\b",
        r"\b(?:add to (?:cart|basket|wishlist)|free shipping|buy now|shop now|read more|view larger)\b",
    ),
    "url": (r"\bhttps?://\S+|\bwww\.[a-z0-9-]+\.[a-z]{2,}",),
    # IMG_1234, photo-final.jpg
    "file_name": (
        r"(?<=[\w)-])\.(?:jpe?g|png|gif|webp|tiff?|bmp|heic|svg|psd|cr2|nef|arw|dng)\b",
        r"\b(?:img|dsc|dscn|dscf|dcim|pxl|mvi|gopr|imgp|sam|cimg|kif|pict)[_-]?\d{3,}\b",
        r"\bp1\d{6}\b|\bscreen ?shot[ _-](?:at[ _-])?(?:19|20)\d\d-?\d\d",
    ),
    # Canon EOS 5D Mark II, f/2.8, ISO 400: metadata, not content
    "camera_data": (
        r"\b(?:canon eos|nikon (?:d|z ?|coolpix )|sony (?:alpha|ilce|dslr|a\d)|fujifilm (?:x|finepix)"
        r"|olympus (?:e-|om-)|panasonic (?:dmc|dc)-|pentax k|leica (?:m|q)\d)[\w -]{0,3}\d",
        r"\bf/\d{1,2}(?:\.\d)?\b|\biso[ -]?(?:"
        + _FILM_SPEEDS
        + r")(?!\d)|\b\d{1,3}(?:-\d{2,3})? ?mm f/?\d|\b1/\d{2,4} ?s(?:ec)?\b",
    ),
}


class Boilerplate(Filter):
    """Drop captions that contain phrases of an assistant, a stock agency, a web page or a camera.

    The score `boilerplate` is the number of kinds found, and `record["boilerplate"]` names them: assistant ("As an
    AI…"), refusal ("I cannot see the image"), preamble ("Sure, here is a caption:"), prompt ("Describe this image",
    "ASSISTANT:"), markup (special tokens, HTML), stock ("stock photo"), web ("click to enlarge"), url, file_name
    ("IMG_1234.jpg"), camera_data ("ISO 400, f/2.8", or camera models), and pattern for `patterns`. The built-in phrases
    are English; give those of other languages as `patterns`.

    Reason: `boilerplate_above_max`. `max: 0` drops every caption with any boilerplate. Without a bound it only scores.
    With one, a sample without a caption is dropped as `no_caption`.
    """

    judges = frozenset({"caption"})

    kinds: list[Kind] | None = Field(None, description="the built-in kinds to look for; all when left out")
    patterns: list[str] = Field(
        default_factory=list, description="more patterns: regular expressions, found anywhere, ignoring case"
    )
    max: int | None = Field(None, ge=0, description="drop if more kinds than this are found")

    @field_validator("patterns")
    @classmethod
    def _patterns_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
            if compiled.match(""):
                raise ValueError(f"'{pattern}' matches nothing at all, and so every caption")
        return patterns

    @model_validator(mode="after")
    def _something_to_find(self) -> Self:
        if self.kinds == [] and not self.patterns:
            raise ValueError("kinds is empty and there are no patterns: nothing would be found")
        return self

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        kinds = get_args(Kind) if self.kinds is None else self.kinds
        texts: dict[str, Sequence[str]] = {**{kind: PATTERNS[kind] for kind in kinds}, "pattern": self.patterns}
        # cheap, because re caches compiled patterns
        looked_for = {kind: [re.compile(text, re.IGNORECASE) for text in own] for kind, own in texts.items()}
        return [self._judged(sample, looked_for) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("boilerplate",)

    def _judged(self, sample: Sample, looked_for: Mapping[str, Sequence[re.Pattern[str]]]) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        text = sample.text.replace("’", "'")
        found = [kind for kind, patterns in looked_for.items() if any(pattern.search(text) for pattern in patterns)]
        return self.judged(sample, {"boilerplate": len(found)}, {"boilerplate": found} if found else None)
