"""The filter `pii`: finds personal data in captions. Counts it, and never repeats it.

Google's libphonenumber finds phone numbers. Patterns and checksums find the rest.
"""

import importlib.util
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from mmsynth.errors import PluginError, RecipeError
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

Kind = Literal["email", "iban", "card", "ip", "phone", "address"]
Span = tuple[int, int]

# letters of any script, in the domain too (RFC 6531)
_AT, _DOT = r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)", r"(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)"
_EMAIL = re.compile(
    rf"(?<![\w.+-])[\w.+-]{{1,64}}{_AT}(?:[^\W_](?:[^\W_]|-){{0,62}}{_DOT})+[^\W\d_]{{2,24}}(?!\w)", re.IGNORECASE
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
# grouped as on cards, or in one piece; not 13 digits, which are more often bar codes (EAN, ISBN)
_CARD = re.compile(
    r"(?<![\d.,-])(?:[3-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3[47]\d{2}([ -]?)\d{6}\2\d{5}"
    r"|3[068]\d{2}([ -]?)\d{6}\3\d{4})(?![\d-]|[.,]\d)"
)
_IP4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
#: words before four dotted numbers that are not an IP
_NUMBERED = re.compile(
    r"\b(?:version|firmware|release|build|chapter|section|paragraph|article|clause|part|figure|table)\W{0,2}$",
    re.IGNORECASE,
)
_IP6 = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){3,7}(?![\w:])", re.IGNORECASE)

_STREET_TYPE = (
    r"(?:Street|Avenue|Road|Boulevard|Lane|Drive|Terrace|Parkway|Highway|Crescent"
    # words with other meanings too, so only at the end of the name
    r"|(?:Court|Place|Square|Close|Way|Ave|Rd|Blvd|Ln|Dr|Ct|Pl|Pkwy|Hwy|St)\b\.?(?=\s*(?:[,.;)\n]|$)))"
)
#: "street art" is not an address
_NO_STREET = (
    r"(?! (?:art|artists?|food|lamps?|lights?|lighting|signs?|markings?|musicians?|performers?|vendors?|fair|party"
    r"|scenes?|views?|style|wear|fashion|photography|trip|race)\b)"
)
_ADDRESS = re.compile(
    # 221B Baker Street, 1600 Pennsylvania Ave NW; a name must stand between number and street
    # "in 2019 Abbey Road" is a year
    rf"(?<!\b[Ii]n )(?<!\b[Bb]y )(?<!\b[Oo]f )(?<!\b[Ss]ince )(?<!\b[Uu]ntil )(?<!\b[Ff]rom )"
    # … and these numbers belong to the words before them
    r"(?<!\bWar )(?<!\bBoeing )(?<!\bRoute )(?<!\bApollo )(?<!\d x )(?<!\d × )"
    rf"\b\d{{1,5}}[A-Za-z]?,? (?:(?:North|South|East|West|[NSEW]\.?) )?"
    rf"(?:(?:[A-Z][\w'’.-]*|\d+(?:st|nd|rd|th)) ){{1,4}}"
    rf"{_STREET_TYPE}(?!\w){_NO_STREET}"
    # Hauptstraße 12, Lindenweg 3a; 12 rue de Rivoli; Calle de Alcalá, 48; Via Roma 10
    r"|\b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|weg|allee|gasse|platz|straat) \d{1,4} ?[a-z]?\b"
    r"|\b\d{1,4}(?: ?(?:bis|ter))?,? (?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Cc]hemin|[Aa]llée|[Qq]uai) "
    r"(?:d[eu]s? |de la |l'|d')?[A-ZÀ-Ý]\w+"
    r"|\b(?:Calle|Avenida|Paseo|Rua|Via|Viale|Corso|Piazza) "
    r"(?:d[aeio]s?l?l?a? )?[A-ZÀ-Ý]\w+(?: [A-ZÀ-Ý]\w+)?,? \d{1,4}\b"
    # P.O. Box 12; Springfield, IL 62704; London SW1A 1AA
    r"|\b(?:P\.? ?O\.? (?:Box|BOX)|Postfach) \d+"
    r"|\b[A-Z][a-z]+,? [A-Z]{2} \d{5}(?:-\d{4})?\b"
    # a place must come before the postcode, which alone may be the name of a machine
    r"|\b[A-Z][a-z]+,? [A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}\b"
)
#: 42 elm street, in small letters: after any number but 1, a singular "street" is part of a name, not counted …
_SMALL_ADDRESS = re.compile(
    r"(?<![\w.,-])(?<!\broute )(?<!\blevel )(?!1 )\d{1,5}[a-z]? ((?:[a-z][a-z'’.-]* ){1,2})"
    # these three words have other meanings too, so only at the end of the name
    rf"(?:(?:street|avenue|road|boulevard|blvd|rd)\b|(?:drive|lane|terrace)(?=\s*(?:[,.;)\n]|$)))(?![-'’]){_NO_STREET}"
)
#: … unless the number counts or measures something else: "3 men cross a road", "a 4 lane road", "a 300 year old street"
_NO_STREET_NAME = re.compile(
    r"^\w{2,}s\b|\b(?:people|men|women|children"
    r"|an?|the|on|in|at|by|of|to|and|or|with|from|near|along|down|up|off|over|under|across|cross|past|per|is|are"
    r"|lane|way|mile|km|kilomet(?:er|re)|m|met(?:er|re)|foot|ft|inch|year|century|hour|minute|day|week|month"
    r"|person|man|woman|child|car|wheel|star|stor(?:y|e?y)|floor|level|percent|degree|piece|million|thousand|hundred"
    r"|o'clock|mph|kph|kmh|tons?|tonne|kg|lbs?|pound|gb|tb|mb|hard|external|internal|portable|usb|flash|dis[ck]|test|bed|bedroom"
    r"|first|second|third|different|same|other|more)\b"
)
#: only for names of several words: in one-word names these endings are harmless ("10 downing street")
_COUNTED_VERB = re.compile(r"\b\w+(?:ing|ed)\b")
#: words that announce a phone number, so that digits in one piece count as one
_ANNOUNCED = re.compile(
    r"\b(?:tel(?:ephone|efon)?|(?:tele)?phone|call|fax|mob(?:ile)?|cell(?:phone)?|whats ?app|viber|dial|sms|hotline)\b"
    r"(?:[\s.:#()/-]|(?:us|me|him|her|them|now|today|on|at|under|number|no|is)\b){0,8}$",
    re.IGNORECASE,
)


#: digits in groups, at least one of three digits or more, and no sizes
_MAY_BE_DIALLED = re.compile(r"(?=.*\d{3})[\d\s().+/-]+")


class PersonalData(Filter):
    """Drop captions that hold e-mail addresses, phone numbers, postal addresses, card or account numbers, or IPs.

    The score `pii` is the number found. `record["pii"]` counts them by kind, and never holds the text itself:
    `{"email": 1, "phone": 2}`. The caption stays unchanged. Reason: `pii_above_max`. `max: 0` drops every caption with
    any. Without a bound it only scores. With one, a sample without a caption is dropped as `no_caption`.

    - email, and ip (IPv4 and IPv6, but not version numbers)
    - phone: numbers with a +, and those written as in one of `regions`, valid by libphonenumber
    - card: 14 to 19 digits with the Luhn digit; iban: with its checksum
    - address: a street with a number (English, German, Dutch, French, Spanish, Italian, Portuguese forms), a post box,
      a US or British postcode

    After a word that announces one (tel, call, whatsapp), any possible number counts as a phone number, in one piece
    too. Streets in small letters count if the number cannot be their count (42 elm street). The filter does not look
    for people's names. It misses addresses of other forms and languages, house numbers in words, and phone numbers in
    words or in one piece without an announcement. It finds some titles, such as "21 Jump Street", and type numbers
    after a maker's name that look like British postcodes.
    """

    judges = frozenset({"caption"})

    kinds: list[Kind] = Field(default=list(get_args(Kind)), min_length=1, description="what to look for")
    regions: list[str] = Field(
        ["US", "GB"], description="countries whose national phone numbers count, as two letters; empty: only with a +"
    )
    max: int | None = Field(None, ge=0, description="drop if more than this are found")

    @field_validator("regions")
    @classmethod
    def _regions_are_codes(cls, regions: list[str]) -> list[str]:
        for region in regions:
            if not re.fullmatch(r"[A-Z]{2}", region):
                raise ValueError(f"a region is two capital letters such as US, got '{region}'")
        return regions

    def check(self) -> None:
        if "phone" not in self.kinds:
            return
        if importlib.util.find_spec("phonenumbers") is None:
            raise PluginError(
                "the filter 'pii' needs 'phonenumbers' to know phone numbers: pip install 'mmsynth[safety]'"
            )
        import phonenumbers

        if unknown := sorted(set(self.regions) - set(phonenumbers.SUPPORTED_REGIONS)):
            raise RecipeError(f"regions: libphonenumber knows no {', '.join(unknown)} (two letters such as US, GB, DE)")

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [self._judged(sample) for sample in batch]

    def score_names(self) -> tuple[str, ...]:
        return ("pii",)

    def _judged(self, sample: Sample) -> Result:
        if sample.text is None:
            return self.without_caption(sample)
        counts = self.count(sample.text)
        return self.judged(sample, {"pii": sum(counts.values())}, {"pii": counts} if counts else None)

    def count(self, text: str) -> dict[str, int]:
        """The number of each kind. Text found as one kind does not count as another."""
        counts: dict[str, int] = {}
        for kind in get_args(Kind):
            if kind not in self.kinds:
                continue
            found = _phones(text, self.regions) if kind == "phone" else _FINDERS[kind](text)
            for start, end in found:
                counts[kind] = counts.get(kind, 0) + 1
                # overwrite the match at the same length, with characters that no other pattern can continue from
                text = text[:start] + "\0" * (end - start) + text[end:]
        return counts


def _emails(text: str) -> list[Span]:
    return [found.span() for found in _EMAIL.finditer(text)]


def _addresses(text: str) -> list[Span]:
    small = [found for found in _SMALL_ADDRESS.finditer(text) if _may_be_a_name(found[1].strip())]
    return _without_overlaps(sorted(found.span() for found in (*_ADDRESS.finditer(text), *small)))


def _may_be_a_name(words: str) -> bool:
    return not _NO_STREET_NAME.search(words) and not (" " in words and _COUNTED_VERB.search(words))


def _ibans(text: str) -> list[Span]:
    return [found.span() for found in _IBAN.finditer(text) if is_iban(found.group())]


def _cards(text: str) -> list[Span]:
    return [found.span() for found in _CARD.finditer(text) if has_luhn_digit(found.group())]


def _ips(text: str) -> list[Span]:
    found = [*_IP4.finditer(text), *_IP6.finditer(text)]
    return [one.span() for one in found if _is_ip(one.group()) and not _NUMBERED.search(text[: one.start()])]


def _phones(text: str, regions: Sequence[str]) -> list[Span]:
    """Phone numbers with a + first, then in each region's form. National numbers must be grouped in the usual way."""
    if sum(map(str.isdigit, text)) < 7:
        return []
    import phonenumbers

    levels = phonenumbers.Leniency
    spans: dict[Span, Any] = {}
    for region in (None, *regions):
        # announced numbers need not be assigned (555-…) or grouped
        for leniency in (levels.VALID,) if region is None else (levels.STRICT_GROUPING, levels.POSSIBLE):
            for match in phonenumbers.PhoneNumberMatcher(text, region, leniency=leniency):
                announced = region is not None and is_announced(text, match.start)
                announced = announced and _MAY_BE_DIALLED.fullmatch(match.raw_string) is not None
                written = leniency != levels.POSSIBLE and _is_written_as_a_phone_number(match.raw_string)
                if region is None or announced or written:
                    spans.setdefault((match.start, match.end), None)
    return _without_overlaps(sorted(spans))


def _is_written_as_a_phone_number(raw: str) -> bool:
    """Whether it has three groups, an area code in brackets or a +. Ten plain digits may be a count or an ISBN."""
    return len(re.findall(r"\d+", raw)) >= 3 or raw.lstrip().startswith("(") or raw.lstrip().startswith("+")


def is_announced(text: str, start: int) -> bool:
    """Whether the words before `start` announce a phone number."""
    return _ANNOUNCED.search(text[max(0, start - 40) : start]) is not None


def _without_overlaps(spans: Sequence[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in spans:
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def has_luhn_digit(number: str) -> bool:
    """Whether the digits' Luhn sum is a multiple of ten (ISO/IEC 7812)."""
    digits = [int(c) for c in reversed(number) if c.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) if i % 2 else digit for i, digit in enumerate(digits)]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def is_iban(text: str) -> bool:
    """Whether the letters and digits are an IBAN by length and checksum (ISO 13616)."""
    packed = text.replace(" ", "")
    if not 15 <= len(packed) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1


def _is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified


_FINDERS: Mapping[str, Callable[[str], list[Span]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ip": _ips,
    "address": _addresses,
}
