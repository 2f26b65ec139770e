"""The filter `toxicity`: finds abusive captions, by a word list or any text classifier of transformers."""

import importlib.resources
import importlib.util
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.errors import PluginError
from mmsynth.models import resolve_dtype
from mmsynth.models.classifiers import TextClassifier, find_classifier
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

WORDS = "words"

#: words on better-profanity's list, made for chats, that are plain words in captions: groups of people, animals,
#: plants, clothes, food and drink, anatomy in art and medicine, things done with hands
_EVERYDAY_WORDS = """
arian aryan asses bondage breasts busty chink cock cocks coon cowgirl cowgirls crap crotch dink dinks dong dopey
drunk dummy dyke dykes enlargement erect erection extasy facial fanny fat fisted flange fondle foobar gay gays
glans god gonad hebe hell hemp heroin herpes hitler hiv hoar hoare homey hooch hookah hooker hooters horny hump
humped humping hussy hymen incest jerk jerked junkie junky kill klan knob kum labia lech leper lesbians lesbos
loin loins lube lust lusty mams maxi menses meth muff murder nad naked napalm nappy nazi nazism niggle
nimrod ninny nipple nipples nob nude nudes omg opiate opium oral orally organ ovary ovum ovums paddy panties
panty pastie pasty pawn pecker pee penis penetrate penetration peyote phalli pimp playboy pms pollock poop pot potty
prick prig prude pube pubic punky puss queer racy raunch rectal rectum rectus reefer reich revue rum rump
sandbar scag scantily scrotum screw screwed scum seaman seamen seduce semen sex sexual shag slave sleazy slope smut
snatch sniper snuff souse soused sperm spunk steamy stoned strip stripclub stroke stupid suck sucked sucking
tampon tawdry teat testes testis threesome throating thrust thug tinkle tit titi tits toke toots tramp
transsexual trashy tush ugly undies unwed urinal urine uterus uzi vagina valium virgin vixen vodka vomit voyeur
vulgar vulva wad wang wazoo wedgie weed weenie weiner weirdo wench whiz willies willy womb woody xx
"""
EVERYDAY = frozenset({*_EVERYDAY_WORDS.split(), "cow girl", "cow girls", "strip club", "LEN", "s0b"})
_ANIMALS = """
donkey donkeys mule mules horse horses foal foals ox oxen goat goats sheep cattle camel zebra herd stable hoof hooves
pasture meadow graze grazes grazing bray brays braying saddle cart plough zoo wildlife species animal animals wild tame
puppy puppies pup pups litter kennel whelp whelps breed pedigree purebred leash collar dog dogs
labrador retriever spaniel poodle terrier hound hounds shepherd collie beagle dachshund bulldog mastiff husky setter
pointer greyhound corgi rottweiler boxer fox foxes wolf wolves otter cubs cub nursing suckling suckles
"""
_FOOD = """
sausage sausages bratwurst hotdog dogs beef pork ham bacon pickle pickles pickled cabbage cabbages fermented ferment jar
bowl plate dish fork sandwich sandwiches reuben rye mustard onion onions apple potato potatoes dumplings soup salad
recipe cooked served kimchi juniper caraway
"""
#: words of the list that also have a plain meaning → words that occur in captions with that meaning
PLAIN_AMONG: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("ass", "bitch", "bitches"), frozenset(_ANIMALS.split())),
    "kraut": frozenset(_FOOD.split()),
    "cum": frozenset({"laude", "magna", "summa", "parish"}),
    "dick": frozenset({"tracy", "moby", "cheney", "clark", "turpin", "whittington"}),
    "bastard": frozenset({"sword", "swords", "toadflax", "file"}),
    "pussy": frozenset({"willow", "willows", "cat", "cats", "puss", "boots"}),
    "damn": frozenset({"yankees"}),
    "fag": frozenset({"end", "ends", "ash", "ashtray", "cigarette", "packet"}),
    "homo": frozenset({"sapiens", "erectus", "habilis", "neanderthalensis", "naledi", "skull", "fossil", "museum"}),
    "retarded": frozenset({"growth", "plant", "motion", "timing", "germination"}),
    "anal": frozenset({"fin", "fins", "gland", "glands", "scales"}),
    "spic": frozenset({"span"}),
    "dildo": frozenset({"newfoundland"}),
    "fucking": frozenset({"austria"}),
}
#: additions to the list
_MORE = frozenset({"piece of crap", "white trash", "kill yourself", "kill yourselves", "kys", "gtfo"})
#: words with fewer letters are not taken for a plural
_SHORTEST_PLURAL = 5
#: words of the list that are also names of people, if another capitalized word is beside them
NAMES = frozenset({"dick", "willy", "fanny", "randy", "butt", "kock", "wank", "dyke", "cox", "cum", "koch", "gaylord"})
#: words near "an ass" that show that a person is meant
_PEOPLE_WORDS = """
you he she they we i who what such like being be him her them your my his their man woman men women boy girl guy boss
big nice fat kick kicks kicked smart dumb
"""
_PEOPLE = frozenset(_PEOPLE_WORDS.split())
#: ways to hide a letter
_LEET = str.maketrans("@4$5013+", "aassoiet")
_WORD = re.compile(r"(?:[^\W_]|[@$])(?:[@$!*+'’-]*[^\W_]+|[@$+]+(?!\w))*")


class Toxicity(Filter):
    """Drop captions with abusive or obscene words, or that a classifier calls toxic.

    With `model: words`, the default, the score `toxicity` is the number of words and phrases of a list in the caption.
    The list is better-profanity's English list without everyday words (gay, god, tit, rum, nude, …: see EVERYDAY).
    `words` adds to it, and `allow` removes from it. Only whole words and their plurals count. Digits or signs in place
    of letters are read as letters, and a * inside a word as any letter. For a few words that are also plain words, the
    words around them decide (PLAIN_AMONG, NAMES): an ass or a bitch among animals, kraut among food, Dick beside
    another name. The list knows no other context: it misses cruelty in polite words, and abuse with these few words if
    a dog or a sausage is in the same caption.

    With a hub id or a local folder of a text classifier of transformers (`unitary/toxic-bert`), the score is the
    largest probability among `labels`: the label's own if the model is multi-label, else from the softmax. The filter
    ignores text over the model's context, and the record then says `toxicity_truncated: true`.

    Reasons: `toxicity_above_max`, and `toxicity_not_finite` for a model's NaN. Without a bound it only scores. With
    one, a sample without a caption is dropped as `no_caption`.
    """

    judges = frozenset({"caption"})

    model: str = Field(WORDS, min_length=1, description="words, a hub id or a local folder of a text classifier")
    max: float | None = Field(None, ge=0, description="drop above this many words, or this probability")
    words: list[str] = Field(default_factory=list, description="more words and phrases, for model: words")
    allow: list[str] = Field(default_factory=list, description="words and phrases of the list to accept")
    labels: list[str] = Field(default_factory=list, description="the model's labels that count as toxic")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    _list: "WordList | None" = PrivateAttr(default=None)
    _classifier: TextClassifier | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _words_or_model(self) -> Self:
        if self.model == WORDS and (self.labels or self.revision):
            raise ValueError("labels and revision go with a model, and model is 'words'")
        if self.model != WORDS and (self.words or self.allow):
            raise ValueError(f"words and allow go with model: words, and model is '{self.model}'")
        if self.model != WORDS and not self.labels:
            raise ValueError("labels must say which of the model's labels are toxic, such as [toxic]")
        if self.model != WORDS and self.max is not None and self.max > 1:
            raise ValueError(f"max is a probability for a model, at most 1, got {self.max:g}")
        if any(not word.strip() for word in (*self.words, *self.allow)):
            raise ValueError("words and allow must not hold blank entries")
        return self

    def check(self) -> None:
        if self.model != WORDS:
            find_classifier("text", self.model, self.revision, self.labels)
        elif importlib.util.find_spec("better_profanity") is None:
            raise PluginError("the filter 'toxicity' needs 'better_profanity': pip install 'mmsynth[safety]'")

    def setup(self, device: str) -> None:
        if self.model == WORDS:
            self._list = WordList(
                {*_listed(), *_MORE, *self.words}, allow={*EVERYDAY, *self.allow} - {*self.words}, own=self.words
            )
            return
        found = find_classifier("text", self.model, self.revision, self.labels)
        self._classifier = TextClassifier(found, self.labels, device, resolve_dtype(self.dtype, device))
        self.record_model(self._classifier.info)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        judged = iter(self._judged([sample for sample in batch if sample.text is not None]))
        return [self.without_caption(sample) if sample.text is None else next(judged) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("toxicity",)

    def _judged(self, batch: Sequence[Sample]) -> list[Result]:
        """The results for samples that have captions."""
        captions = [sample.text or "" for sample in batch]
        if self._classifier is None:
            if self._list is None:
                raise RuntimeError("Toxicity.setup() must run before the first batch")
            counts = [float(self._list.count(caption)) for caption in captions]
            return [self.judged(sample, {"toxicity": count}) for sample, count in zip(batch, counts, strict=True)]
        results: list[Result] = []
        for sample, found in zip(batch, self._classifier.scores(captions), strict=True):
            told = sample.with_record(toxicity_truncated=True) if found.truncated else sample
            # NaN counts as the largest, which max() may overlook
            worst = max(found.scores, key=lambda score: (math.isnan(score), score))
            results.append(self.judged(told, {"toxicity": round(worst, 6)}))
        return results


class WordList:
    """Words and phrases that count, in any spelling that `_LEET` undoes."""

    def __init__(self, words: set[str], allow: set[str], own: Collection[str] = ()) -> None:
        allowed = {_plain(word) for word in allow}
        self._phrases = {_plain(word) for word in words} - allowed
        self._allowed = allowed
        #: the user's words, which count in any context
        self._own = {_plain(word)[0] for word in own if len(_plain(word)) == 1}
        self._longest = max((len(phrase) for phrase in self._phrases), default=0)

    def count(self, text: str) -> int:
        """The number of matches in `text`. Of overlapping matches, the longest counts."""
        written = _WORD.findall(text)
        words, found, start = _plain(text), 0, 0
        while start < len(words):
            size = self._phrase_at(words, start)
            counts = size > 0 and (words[start] in self._own or size > 1 or not _is_plain(words, start, written))
            found, start = found + counts, start + max(size, 1)
        return found

    def _phrase_at(self, words: tuple[str, ...], start: int) -> int:
        longest = min(self._longest, len(words) - start)
        known = (n for n in range(longest, 0, -1) if words[start : start + n] in self._phrases)
        return next(known, int(self._is_disguised(words[start])))

    def _is_disguised(self, word: str) -> bool:
        """Whether it is a plural of a word of the list, or one with letters starred out."""
        if "*" in word:
            hidden = re.compile(re.escape(word).replace(r"\*", r"\w"))
            return any(len(phrase) == 1 and hidden.fullmatch(phrase[0]) for phrase in self._phrases)
        one = word.removesuffix("s")
        return (
            one != word and len(word) >= _SHORTEST_PLURAL and (one,) in self._phrases and (word,) not in self._allowed
        )


def _is_plain(words: Sequence[str], at: int, written: Sequence[str]) -> bool:
    """Whether the words around this one show its plain meaning."""
    word, around = words[at], {*words[:at], *words[at + 1 :]}
    if tuple(words[max(0, at - 2) : at]) == ("of", "a"):  # son of a …, piece of a …
        return False
    if around & PLAIN_AMONG.get(word, frozenset()):
        return True
    # "an ass" without disguise, and no person nearby
    if word == "ass" and at and words[at - 1] == "an" and not around & _PEOPLE:
        return True
    if word not in NAMES or not written[at].istitle():
        return False
    beside = (*written[max(0, at - 1) : at], *written[at + 1 : at + 2])
    return any(other.istitle() and other.lower() not in {"a", "i", "the", "an"} for other in beside)


def _plain(text: str) -> tuple[str, ...]:
    """A text's words in lower case, with disguised letters undone. Numbers stay numbers."""
    found = (word.lower().replace("’", "'") for word in _WORD.findall(text))
    return tuple(word if word.isdigit() else word.translate(_LEET) for word in found)


def _listed() -> list[str]:
    path = importlib.resources.files("better_profanity") / "profanity_wordlist.txt"
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    # skip "shi+", "masterbat*": without the sign they are no words
    return [line for line in lines if line and not line.endswith(("+", "*"))]
