"""Equal texts of a batch go through a text encoder once, and come out as if each had gone by itself."""

from typing import Any

import pytest
import torch
from transformers import BatchEncoding, CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from mmsynth_renderers.text_once import once_each

IDS = torch.tensor([[1, 5, 7, 2], [1, 2, 2, 2], [1, 5, 7, 2], [1, 2, 2, 2], [1, 6, 2, 2]])


def clip() -> torch.nn.Module:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=9, eos_token_id=2, **small)).eval()


def t5() -> torch.nn.Module:
    torch.manual_seed(0)
    return T5EncoderModel(T5Config(vocab_size=9, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)).eval()


@pytest.mark.parametrize("make", [clip, t5])
@pytest.mark.parametrize("hidden", [False, True])
@torch.inference_mode()
def test_gives_what_the_encoder_gives_for_fewer_rows(make: Any, hidden: bool) -> None:
    encoder = make()
    seen: list[int] = []
    whole = encoder.forward

    def counted(ids: torch.Tensor, **options: Any) -> Any:
        seen.append(len(ids))
        return whole(ids, **options)

    once = once_each(counted)
    for mask in (None, (IDS != 2).long()):
        expected, found = (call(IDS, attention_mask=mask, output_hidden_states=hidden) for call in (whole, once))
        assert type(found) is type(expected)
        assert found.keys() == expected.keys()
        torch.testing.assert_close(found[0], expected[0])
        if hidden:
            torch.testing.assert_close(found.hidden_states, expected.hidden_states)
    assert seen == [3, 3]


@torch.inference_mode()
def test_texts_that_differ_in_their_mask_only_are_two() -> None:
    encoder = clip()
    ids, mask = IDS[:1].repeat(2, 1), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1]])
    found = once_each(encoder.forward)(ids, attention_mask=mask)
    torch.testing.assert_close(found[0], encoder(ids, attention_mask=mask)[0])
    assert not torch.equal(found[0][0], found[0][1])


def test_what_it_does_not_know_it_leaves_alone() -> None:
    def forward(*values: Any, **options: Any) -> Any:
        return values, options

    once = once_each(forward)
    embedded = torch.ones(2, 3)
    values, options = once(None, attention_mask=None, inputs_embeds=embedded)
    assert values == (None,)
    assert options["inputs_embeds"] is embedded
    # an answer that is no rows: what the call would have given
    assert once(IDS, some=BatchEncoding({}))[0][0] is IDS
