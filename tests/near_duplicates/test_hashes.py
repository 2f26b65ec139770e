"""Hashes of pictures, and pairs of hashes against comparing all with all."""

import io
import time

import numpy as np
import PIL.Image
import pytest
from PIL import ImageDraw, ImageOps

from mmsynth.near_duplicates import hashes as h
from tests.photos import photographs


def photo(i: int = 0) -> PIL.Image.Image:
    path = next(p for p in photographs() if p.stem == ("astronaut", "coffee", "chelsea")[i])
    return PIL.Image.open(path).convert("RGB")


def apart(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


def by_force(values: np.ndarray, distance: int, mirrored: bool = False) -> set[tuple[int, int]]:
    """Pairs of the first rows of different hashes, and repeats with the first."""
    first: dict[int, int] = {}
    pairs = {(first[int(v)], i) for i, v in enumerate(values) if first.setdefault(int(v), i) != i}
    turned = {v: int(h.mirror(np.array([v], dtype=np.uint64))[0]) for v in first}
    for a, i in first.items():
        for b, j in first.items():
            near = apart(a, b) <= distance or (mirrored and apart(turned[a], b) <= distance)
            if i < j and near:
                pairs.add((i, j))
    return pairs


def test_a_recompressed_and_resized_copy_differs_in_few_bits_and_another_picture_in_many() -> None:
    buffer = io.BytesIO()
    photo().resize((200, 200)).save(buffer, "JPEG", quality=40)
    assert apart(h.hash_of(photo()), h.hash_of(PIL.Image.open(buffer))) <= 2
    assert apart(h.hash_of(photo()), h.hash_of(photo(1))) > 16


def test_without_borders_it_is_imagehashs_phash() -> None:
    import imagehash

    assert h.to_hex(h.hash_of(photo(1))) == str(imagehash.phash(photo(1)))
    assert h.from_hex([h.to_hex(h.hash_of(photo(1)))])[0] == h.hash_of(photo(1))


@pytest.mark.parametrize("border", [(40, 40), (0, 70), (70, 0)])
@pytest.mark.parametrize("colour", ["white", "black"])
def test_a_border_makes_little_difference(border: tuple[int, int], colour: str) -> None:
    assert apart(h.hash_of(photo(1)), h.hash_of(ImageOps.expand(photo(1), border, colour))) <= h.DISTANCE


@pytest.mark.parametrize("colour", ["white", "red"])
def test_a_drawing_that_begins_with_a_tip_loses_its_margins_and_its_frame(colour: str) -> None:
    drawing = PIL.Image.new("RGB", (240, 240), "white")
    pencil = ImageDraw.Draw(drawing)
    pencil.polygon([(120, 20), (200, 110), (150, 220), (60, 180)], fill="navy")
    pencil.ellipse((90, 90, 140, 130), fill="gold")
    assert apart(h.hash_of(drawing), h.hash_of(ImageOps.expand(drawing, 25, colour))) <= h.DISTANCE


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (64, 64)])
@pytest.mark.parametrize("colour", ["red", "white", "#123456"])
def test_a_flat_picture_of_any_size_has_no_hash(size: tuple[int, int], colour: str) -> None:
    flat = PIL.Image.new("RGB", size, colour)
    assert h.hash_of(flat) is None
    buffer = io.BytesIO()
    flat.save(buffer, "JPEG", quality=40)
    assert h.hash_of(PIL.Image.open(buffer)) is None


def test_small_drawings_in_the_middle_of_a_page_are_told_apart() -> None:
    pages = [PIL.Image.new("RGB", (300, 420), "white") for _ in range(2)]
    ImageDraw.Draw(pages[0]).ellipse((140, 200, 164, 224), fill="black")
    ImageDraw.Draw(pages[1]).line((140, 200, 164, 224, 140, 212, 164, 206), fill="black", width=4)
    first, second = map(h.hash_of, pages)
    assert first is not None
    assert second is not None
    assert apart(first, second) > h.DISTANCE


def test_a_picture_with_little_in_it_has_a_hash() -> None:
    faint = PIL.Image.new("RGB", (200, 200), (100, 100, 100))
    faint.paste((110, 110, 110), (20, 30, 90, 150))
    assert h.hash_of(faint) not in {None, h.NO_HASH}


@pytest.mark.parametrize("colours", [("green", "white", "red"), ("blue", "yellow"), ("red", "white", "blue", "white")])
@pytest.mark.parametrize("turned", [False, True])
def test_stripes_have_no_hash(colours: tuple[str, ...], turned: bool) -> None:
    """Flags of any colours would be each other's near-duplicates."""
    side = 60 * len(colours)
    flag = PIL.Image.new("RGB", (side, 200))
    for i, colour in enumerate(colours):
        flag.paste(colour, (60 * i, 0, 60 * i + 60, 200))
    assert h.hash_of(flag.transpose(PIL.Image.Transpose.ROTATE_90) if turned else flag) is None


def test_a_symmetric_picture_has_a_hash() -> None:
    left = photo(2).crop((0, 0, 150, 300))
    both = PIL.Image.new("RGB", (300, 300))
    both.paste(left, (0, 0))
    both.paste(ImageOps.mirror(left), (150, 0))
    assert h.hash_of(both) is not None


def test_no_photograph_is_flat() -> None:
    assert all(h.hash_of(PIL.Image.open(path).convert("RGB")) for path in photographs(12))


@pytest.mark.parametrize("i", range(3))
def test_a_mirrored_hash_is_near_that_of_the_mirrored_picture(i: int) -> None:
    mirrored = h.mirror(np.array([h.hash_of(photo(i))], dtype=np.uint64))
    assert apart(int(mirrored[0]), h.hash_of(ImageOps.mirror(photo(i)))) <= 8


@pytest.mark.parametrize("bits", [8, 12, 63])
@pytest.mark.parametrize("distance", [0, 1, 3, 6, 11, 64])
@pytest.mark.parametrize("mirrored", [False, True])
def test_pairs_are_those_of_brute_force(bits: int, distance: int, mirrored: bool) -> None:
    values = np.random.default_rng(bits + distance).integers(0, 2**bits, 60, dtype=np.uint64)
    found = [tuple(pair) for pair in h.pairs_within(values, distance, mirrored=mirrored).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == by_force(values, distance, mirrored)


@pytest.mark.parametrize("distance", [0, 4, 6, 9])
@pytest.mark.parametrize("number", [3, 4, 5, 8, 16])
def test_however_many_bands_there_are(number: int, distance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(number)
    values = rng.integers(0, 2**64, 80, dtype=np.uint64)
    values[40:] = values[:40] ^ (np.uint64(1) << rng.integers(0, 64, 40, dtype=np.uint64))
    values[60:] ^= np.uint64(0b1011) << rng.integers(0, 60, 20, dtype=np.uint64)
    if distance // number > 1:
        number = 5
    monkeypatch.setattr(h, "plan", lambda n, m, distance: h._bands(number, distance))
    found = [tuple(pair) for pair in h.pairs_within(values, distance).tolist()]
    assert set(found) == by_force(values, distance)


def test_equal_hashes_are_joined_to_the_first_and_not_to_each_other() -> None:
    pairs = h.pairs_within(np.full(200_000, 7, dtype=np.uint64))
    assert len(pairs) == 199_999
    assert (pairs[:, 0] == 0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_and_one_row_have_no_pairs(n: int) -> None:
    assert h.pairs_within(np.zeros(n, dtype=np.uint64)).shape == (0, 2)


def test_planted_copies_among_many_are_found_in_seconds() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 2**64, 30_000, dtype=np.uint64)
    values[-500:] = values[:500] ^ (np.uint64(0b111) << rng.integers(0, 61, 500, dtype=np.uint64))
    start = time.process_time()
    pairs = h.pairs_within(values)
    assert time.process_time() - start < 10
    assert {(i, 29_500 + i) for i in range(500)} <= {tuple(pair) for pair in pairs.tolist()}


def test_the_nearest_of_another_set_is_found_the_first_of_equals() -> None:
    others = np.array([0b1111, 0b1, 0b1, 2**40], dtype=np.uint64)
    rows = np.array([0, 0b111, 2**63 + 2**20 + 2**33, 2**40], dtype=np.uint64)
    assert h.nearest_within(rows, others, 2).tolist() == [1, 0, -1, 3]
    assert h.nearest_within(rows, others[:0], 2).tolist() == [-1] * 4
    assert h.nearest_within(rows[:0], others, 2).tolist() == []
    assert h.nearest_within(h.mirror(rows), others, 2, mirrored=True).tolist() == [1, 0, -1, 3]


def test_bits_are_counted_without_numpy_2_too() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    assert h._count_by_bytes(values).tolist() == [bin(int(v)).count("1") for v in values]
    assert h.ones(values).tolist() == h._count_by_bytes(values).tolist()
