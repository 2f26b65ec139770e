import torch
import transformers as tf

from mmsynth.models.chat.sampling import Decoding, PromptColumns, RepetitionPenalty, SeededDraw

CPU = torch.device("cpu")


def test_draws_follow_the_softmax_of_the_scores():
    rows, steps = 2000, 4
    scores = torch.tensor([0.0, 1.0, -torch.inf, 2.0, -3.0, 0.5])
    draw = SeededDraw(range(rows), steps, CPU)
    counts = torch.zeros(len(scores))
    for _ in range(steps):
        counts += torch.bincount(draw(torch.zeros(rows, 1), scores.repeat(rows, 1)).argmax(-1), minlength=len(scores))
    expected = scores.softmax(-1) * rows * steps
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_squared = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_squared < 18.5, "five tokens: 4 degrees of freedom, p = 0.001"


def test_draws_of_one_row_at_different_steps_are_independent():
    rows, scores = 4000, torch.zeros(4000, 2)
    draw = SeededDraw(range(rows), 2, CPU)
    first, second = (draw(torch.zeros(rows, 1), scores).argmax(-1) for _ in range(2))
    pairs = torch.bincount(first * 2 + second, minlength=4)
    assert ((pairs - rows / 4) ** 2 / (rows / 4)).sum() < 16.3, "3 degrees of freedom, p = 0.001"


def test_a_rows_draws_do_not_depend_on_the_other_rows():
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together, alone = SeededDraw([5, 6, 7], 3, CPU), SeededDraw([7], 3, CPU)
    for _ in range(3):
        assert together(None, scores)[2].argmax() == alone(None, scores[2:])[0].argmax()


def test_the_last_token_can_be_drawn_and_impossible_ones_never():
    only_last = torch.full((100, 9), -torch.inf)
    only_last[:, 8] = 0
    assert (SeededDraw(range(100), 1, CPU)(None, only_last).argmax(-1) == 8).all()


def test_temperature_and_cuts_come_in_the_order_of_transformers():
    chosen = Decoding(5, temperature=0.7, top_p=0.9, top_k=10).processors([1], CPU)
    assert [type(p).__name__ for p in chosen] == [
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "SeededDraw",
    ]
    assert Decoding(5).processors([1], CPU) == []


def test_the_repetition_penalty_is_that_of_transformers_where_nothing_is_padded():
    ids, scores = torch.tensor([[3, 1, 4], [1, 5, 5]]), torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    expected = tf.RepetitionPenaltyLogitsProcessor(1.3)(ids, scores)
    assert torch.equal(RepetitionPenalty(1.3, torch.ones(2, 2))(ids, scores), expected)
    assert torch.equal(RepetitionPenalty(1.3, None)(ids, scores), expected)


def test_the_repetition_penalty_does_not_see_padding():
    scores = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    padded = RepetitionPenalty(1.3, torch.tensor([[0, 0, 1, 1]]))(torch.tensor([[7, 7, 3, 1, 4]]), scores)
    alone = RepetitionPenalty(1.3, torch.tensor([[1, 1]]))(torch.tensor([[3, 1, 4]]), scores)
    assert torch.equal(padded, alone)


def test_the_prompts_columns_are_counted_once():
    columns, scores = PromptColumns(), torch.zeros(1, 4)
    for length in (3, 4, 5):
        assert columns(torch.zeros(1, length), scores) is scores
    assert columns.count == 3
