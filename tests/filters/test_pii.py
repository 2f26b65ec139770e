"""PersonalData counts what could identify a person, and not every number. All data here is from examples and standards."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import RecipeError
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.pii import PersonalData, has_luhn_digit, is_iban

GOOD = [
    "a photo taken in 1984",
    "from 1999-2005, or 2001 2002 2003",
    "a screen of 1920x1080 or 1920 x 1080 pixels",
    "$1,299.99 or 1 299 kr",
    "ISBN 978-3-16-148410-0",
    "ISBN 0-306-40615-2",
    "isbn 9780306406157, EAN 4006381333931, barcode 5012345678900",
    "a population of 1 402 000, that is 1,402,000",
    "dated 2021-03-05 10:20:33",
    "at 40.7128, -74.0060, scale 1:250000",
    "version 10.2.3.4",
    "a Boeing 747-400 as flight BA 2490",
    "score 21-15, 18-21, 21-19 after 12:30:45",
    "card 4242 4242 4242 4243 whose last digit is wrong",
    "a number plate AB12 CDE",
    "1 2 3 4 5 6 7 8 9 10",
    "3 Red Square tiles",
    "7 Cows Close by",
    "5 people on Oak Street",
    "a poster of 12 Angry Men",
    "lottery numbers 02 14 23 31 45 49",
    "In 2019 Abbey Road was painted; since 1968 Carnaby Street is closed",
    "a Lockheed, type SR71, and SR71 2BD",
    "a 4 lane road, a 2 way street and a 300 year old street",
    "3 men cross the street, 2 dogs run along a road",
    "2 people on a busy road, 5 cars in the street",
    "1 narrow street",
    "article 2127365000 in a shop",
    "a call centre with 2127365000 visitors",
    "a sign @home in a shop, 3@4 for 2",
    "chapter 12.3.4.5 of a book, firmware 1.2.3.4",
    "a 1920 x 1080 Ultra HD Drive",
    "a World War 2 Memorial Drive, a Boeing 737 Max Drive and Route 66 Highway",
    "12 Monkeys Street art, and 2 busy street signs",
    "a 20 mph road sign beside a 40 ton truck road",
    "a 2 tb external drive, a 3 bed terrace, a 10 minute drive",
    "an iphone 12 from 2020, 128 GB, and a phone of 1200 x 1600 pixels",
    "a mobile 4 5 6 7 8 9 10, and the cell 12 34 56 78 of a table",
    "5 o'clock road traffic, and route 66 desert road",
    "a phone of 1500 dollars, a call for 20 people at 10",
]
BAD = {
    "mail to jane.doe@example.co.uk now": {"email": 1},
    "call (212) 736-5000 or +44 20 7946 0958": {"phone": 2},
    "020 7219 3000": {"phone": 1},
    "visit 1-800-275-2273": {"phone": 1},
    "+49 30 901820": {"phone": 1},
    "221B Baker Street": {"address": 1},
    "10 Downing Street, London SW1A 2AA": {"address": 2},
    "42 W. 23rd St, New York, NY 10010": {"address": 2},
    "Hauptstraße 12 in Berlin": {"address": 1},
    "12 rue de Rivoli": {"address": 1},
    "Calle de Alcalá, 48": {"address": 1},
    "Via Roma 10": {"address": 1},
    "P.O. Box 12": {"address": 1},
    "he lives at 42 elm street": {"address": 1},
    "17 old mill road, springfield": {"address": 1},
    "8 st james street": {"address": 1},
    "10 downing street": {"address": 1},
    "she lives at 742 evergreen terrace": {"address": 1},
    "4 privet drive, little whinging": {"address": 1},
    "33 king's road london": {"address": 1},
    "5 Avenue Anatole France": {"address": 1},
    "write to P.O. BOX 345": {"address": 1},
    "john [at] example.org, jane (at) example (dot) com": {"email": 2},
    "call 555-123-4567": {"phone": 1},
    "mobile 07700 900123": {"phone": 1},
    "tel 2127365000": {"phone": 1},
    "Call us now: 2127365000, or whatsapp 02072193000": {"phone": 2},
    "jörg@müller.de, 用户@例子.广告, δοκιμή@παράδειγμα.ελ": {"email": 3},
    "4111 1111 1111 1111 and 378282246310005": {"card": 2},
    "DE89 3704 0044 0532 0130 00 and GB29NWBK60161331926819": {"iban": 2},
    "192.168.0.12, 2001:0db8:85a3:0000:0000:8a2e:0370:7334": {"ip": 2},
}


def counts(caption: str, **parameters: Any) -> dict[str, int]:
    (result,) = PersonalData(**parameters).process([Sample("k", caption=caption)])
    assert isinstance(result, Sample)
    found: dict[str, int] = result.record.get("pii", {})
    assert result.record["scores"] == {"pii": sum(found.values())}
    return found


@pytest.mark.parametrize("caption", GOOD)
def test_years_sizes_prices_and_codes_are_no_personal_data(caption: str) -> None:
    assert counts(caption) == {}


@pytest.mark.parametrize(("caption", "kinds"), BAD.items())
def test_personal_data_is_counted_by_kind(caption: str, kinds: dict[str, int]) -> None:
    assert counts(caption) == kinds


def test_the_text_itself_is_not_repeated_in_the_record() -> None:
    (result,) = PersonalData().process([Sample("k", caption="mail jane@example.org, call +44 20 7946 0958")])
    assert isinstance(result, Sample)
    written = json.dumps(dict(result.record))
    assert "jane" not in written
    assert "7946" not in written


def test_kinds_and_regions_are_the_users_choice() -> None:
    caption = "jane@example.org, 030 901820, 020 7219 3000"
    assert counts(caption, kinds=["email"]) == {"email": 1}
    assert counts(caption, kinds=["phone"], regions=["GB"]) == {"phone": 1}
    assert counts("020 7219 3000", regions=[]) == {}


def test_checksums_decide() -> None:
    assert has_luhn_digit("4111 1111 1111 1111")
    assert not has_luhn_digit("4111 1111 1111 1112")
    assert not has_luhn_digit("0000 0000 0000 0000")
    assert is_iban("GB29 NWBK 6016 1331 9268 19")
    assert not is_iban("GB29 NWBK 6016 1331 9268 18")


def test_a_bound_drops_and_keeps_the_counts() -> None:
    batch = [Sample("a", caption="a dog"), Sample("b", caption="a@example.org"), Sample("c")]
    results = PersonalData(max=0).process(batch)
    assert [getattr(result, "reason", None) for result in results] == [None, "pii_above_max", "no_caption"]
    assert isinstance(results[1], Dropped)
    assert results[1].sample is not None
    assert results[1].sample.record["pii"] == {"email": 1}
    assert isinstance(PersonalData(max=1).process(batch[1:2])[0], Sample)
    assert isinstance(PersonalData().process(batch[2:])[0], Sample)


def test_long_captions_take_no_long_time() -> None:
    for text in ("1 " * 2_000, "1" * 10_000, "a.@" * 3_000, "Ab " * 3_000, ":" * 10_000, "1.1." * 1_000):
        counts(text)


def test_keeps_the_stage_contract() -> None:
    captions = [*GOOD[:5], *BAD, None]
    check_stage(PersonalData(max=0), [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])


def test_a_region_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="knows no UK"):
        PersonalData(regions=["UK"]).check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"regions": ["us"]}, "two capital letters"),
        ({"kinds": ["name"]}, "'email', 'iban'"),
        ({"kinds": []}, "at least 1"),
        ({"max": -1}, "greater than or equal to 0"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PersonalData(**parameters)
