"""The filter `language`: detects a caption's language with py3langid, which includes its model."""

import copy
import difflib
import functools
import importlib.metadata
import importlib.util
import math
import unicodedata
from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.bounds import Bound
from mmsynth.errors import PluginError, RecipeError
from mmsynth.models import ModelInfo
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter

#: undetermined: too short, or no letters
UNDETERMINED = "und"
#: the most words of a name
_NAME_WORDS = 3
#: the model's label for text in no language
_NO_LANGUAGE = "zxx"


class Language(Filter):
    """Detect each caption's language, and drop captions in unwanted languages.

    `record["language"]` gets the language as two letters of ISO 639-1 (en, de, zh, …). It gets `und` for captions with
    fewer than `min_letters` letters, in no language, of up to three words that all start with a capital (like names),
    or whose likeliest language is less likely than `und_below`. The score `language_confidence` is the probability of
    the likeliest of all possible languages (too short captions have none). Reasons: `language_not_kept` (not in
    `keep`, which may name `und` too), `language_confidence_below_min`, and, with `min_confidence`,
    `language_undetermined` for `und` unless `keep` names it. With `keep` alone, `und` goes on, because a guess is no
    reason to drop. Without `keep` and `min_confidence` it only scores. With one, a sample without a caption is dropped
    as `no_caption`.

    The model knows 139 languages. Close ones (Norwegian and Danish, Russian and Macedonian) share the probability of
    short captions: a whole sentence gets 0.7 and more, but three words may be right at 0.1 and wrong at 0.3. If only
    some languages can occur, name them in `among`. That makes the model surer, but it takes a caption in another
    language for one of these. Names within a sentence, and loanwords, mislead it. Lui and Baldwin 2012 (langid.py, ACL
    P12-3005).
    """

    judges = frozenset({"caption"})

    keep: list[str] | None = Field(None, min_length=1, description="languages to keep, such as [en, de]; und too")
    min_confidence: float | None = Field(None, ge=0, le=1, description="drop when the language is less sure")
    among: list[str] | None = Field(None, min_length=2, description="the languages that captions may have; else all")
    und_below: float = Field(0.25, ge=0, le=1, description="a language that is less likely is a guess: und")
    min_letters: int = Field(
        6, ge=1, description="captions with fewer letters are und; ideographs, kana and hangul count as two"
    )

    _identifier: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _kept_are_possible(self) -> Self:
        impossible = sorted(set(self.keep or ()) - {*(self.among or ()), UNDETERMINED}) if self.among else []
        if impossible:
            raise ValueError(f"keep names {', '.join(impossible)}, which among leaves out")
        return self

    def check(self) -> None:
        if importlib.util.find_spec("py3langid") is None:
            raise PluginError("the filter 'language' needs 'py3langid': pip install 'mmsynth[safety]'")
        if self.keep is None and self.among is None:
            return
        known = set(_identifier().labels)
        for name in (*(self.keep or ()), *(self.among or ())):
            if name not in known | {UNDETERMINED}:
                close = difflib.get_close_matches(name[:2].lower(), known, n=1)
                meant = f" Did you mean '{close[0]}'?" if close else ""
                raise RecipeError(f"language: no language '{name}'.{meant} Known: {', '.join(sorted(known))}")

    def setup(self, device: str) -> None:
        self._identifier = _identifier()
        if self.among is not None:
            self._identifier.set_languages([name for name in self.among if name != UNDETERMINED])
        self.record_model(ModelInfo("py3langid", importlib.metadata.version("py3langid"), "float32"))

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._judged(sample) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("language_confidence",)

    def bounds(self) -> tuple[Bound, ...]:
        return (Bound("language_confidence", min="min_confidence"),)

    def bound_parameters(self) -> tuple[str, ...]:
        return (*super().bound_parameters(), "keep")

    def _judged(self, sample: Sample) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        language, confidence = self.classify(sample.text)
        confidence = round(confidence, 4)
        told = sample if language == UNDETERMINED else sample.with_scores(language_confidence=confidence)
        if language == UNDETERMINED or confidence < self.und_below:
            told = told.with_record(language=UNDETERMINED)
            kept = self.min_confidence is None or UNDETERMINED in (self.keep or ())
            return told if kept else Dropped("language_undetermined", told)
        if self.keep is not None and language not in self.keep:
            return Dropped("language_not_kept", told.with_record(language=language))
        return self.judged(sample, {"language_confidence": confidence}, {"language": language})

    def classify(self, text: str) -> tuple[str, float]:
        """The likeliest language and its probability, or und and 0 if there is too little text."""
        if count_letters(text) < self.min_letters or reads_as_names(text):
            return UNDETERMINED, 0.0
        language, confidence = self._identifier.classify(text)
        sure = float(confidence)
        return (str(language), sure) if language != _NO_LANGUAGE and math.isfinite(sure) else (UNDETERMINED, 0.0)


def reads_as_names(text: str) -> bool:
    """Whether the text may be a name, which has no language: few words, each with a capital."""
    words = [word for word in text.split() if any(map(str.isalpha, word))]
    return 0 < len(words) <= _NAME_WORDS and all(word.strip("\"'“”‘’()[].,:;!?").istitle() for word in words)


def count_letters(text: str) -> int:
    """Count letters. Those that stand for a syllable or a word count as two."""
    return sum(2 if unicodedata.east_asian_width(c) == "W" else 1 for c in text if c.isalpha())


def _identifier() -> Any:
    """An identifier on which to call set_languages. It shares the model's data with the others."""
    return copy.copy(_read_model())


@functools.cache
def _read_model() -> Any:
    """Read the model once per process, because unpacking takes seconds."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
