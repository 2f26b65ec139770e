"""The engine `transformers`: every reply is the one that its request would get alone, whatever shares its batch."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers import pre_tokenizers

from mmsynth.errors import ImageError, ModelError, SampleError
from mmsynth.image import Image
from mmsynth.models.chat import ModelSpec, Reply, Request
from mmsynth.models.chat.transformers_engine import TransformersChat, TransformersEngine
from mmsynth.sample import Sample
from tests.captioners import checkpoints

TOKENS = 8
WORDS = ["ba de", "fi lo ku", "ga", "te vi zo zu", "mo ra"]

#: as those of Llama: content is text that is joined to other text
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role: ' + m['role']) }}{% endif %}"
    "{{ 'START' if loop.first else '' }}{{ 'OPEN' + m['role'] + ' : ' + m['content'] + 'END' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant : ' }}{% endif %}"
)


def written(template: str, start: str, before: str, after: str) -> str:
    return template.replace("START", start).replace("OPEN", before).replace("END", after)


def llama(folder: Path, template: str | None = written(TEMPLATE, "<s>", "", " </s> ")) -> Path:
    """The architecture of Llama, with words as tokens. Its tokenizer puts a <s> before every text."""
    words = checkpoints.tokenizer(["<unk0>", "<s>", "</s>"], "<s> $A", bos_token="<s>", eos_token="</s>")
    words.chat_template = template
    config = tf.LlamaConfig(**checkpoints.TEXT, vocab_size=len(words), tie_word_embeddings=False)
    return checkpoints.save(folder, tf.LlamaForCausalLM(config), words)


def qwen2(folder: Path) -> Path:
    """The architecture of Qwen2, with bytes as tokens, and a repetition penalty."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate([*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "extra_special_tokens": ["<|im_start|>"]}
    letters = tf.Qwen2Tokenizer(vocab=vocabulary, merges=[], **named)
    letters.chat_template = written(TEMPLATE, "", "<|im_start|>", "<|im_end|>")
    config = tf.Qwen2Config(**checkpoints.TEXT, vocab_size=len(letters), tie_word_embeddings=False)
    generation = {"eos_token_id": [2, 0], "pad_token_id": 0, "repetition_penalty": 1.2, "do_sample": True, "top_k": 3}
    return checkpoints.save(folder, tf.Qwen2ForCausalLM(config), letters, **generation)


@pytest.fixture(scope="module")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {build.__name__: build(tmp_path_factory.mktemp(build.__name__)) for build in (llama, qwen2)}


@pytest.fixture(scope="module")
def load() -> Callable[[str | Path], TransformersChat]:
    """Gives a model in float32, loaded once."""
    loaded: dict[str, TransformersChat] = {}

    def load(folder: str | Path) -> TransformersChat:
        spec = ModelSpec(str(folder), dtype="float32")
        if spec.model not in loaded:
            engine = TransformersEngine()
            engine.check(spec)
            loaded[spec.model] = engine.load(spec, "cpu")
        return loaded[spec.model]

    return load


def image_part(name: str = "") -> dict[str, str]:
    return {"type": "image", "image": name}


def message(role: str, *parts: str | dict[str, str]) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def about(sample: Sample, text: str, **options: Any) -> Request:
    return Request([message("user", image_part(), text)], {"": image_of(sample)}, **{"max_tokens": TOKENS, **options})


def told(text: str, **options: Any) -> Request:
    return Request([message("user", text)], **{"max_tokens": TOKENS, **options})


def answered(model: TransformersChat, requests: Sequence[Request]) -> list[Reply | Exception]:
    return model.answer(requests, model.assemble(requests))


def alone(model: TransformersChat, request: Request) -> Reply:
    """As a stage gets it outside an engine."""
    return asyncio.run(model.chat(request))


def image_of(sample: Sample) -> Image:
    assert sample.image is not None
    return sample.image


def several_turns() -> list[dict[str, Any]]:
    return [
        message("system", "answer in one sentence"),
        message("user", image_part(), "what is this ?"),
        message("assistant", "ba de fi"),
        message("user", "what colour is the ba ?"),
    ]


@cache
def plainly_loaded(folder: str | Path) -> tuple[Any, Any]:
    model: Any = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return tf.AutoProcessor.from_pretrained(folder), model


def by_hand(folder: str | Path, messages: list[dict[str, Any]], pictures: dict[str, Image]) -> str:
    """The reply as model cards write it: no code of ours."""
    processor, model = plainly_loaded(folder)
    shown = [
        {
            "role": turn["role"],
            "content": [
                {"type": "image", "image": pictures[part["image"]].pixels()} if part["type"] == "image" else part
                for part in turn["content"]
            ],
        }
        for turn in messages
    ]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    inputs = processor.apply_chat_template(shown, **options)
    output = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=TOKENS)
    return str(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


@pytest.mark.parametrize("name", checkpoints.CHAT_MODELS)
def test_several_turns_and_several_pictures_reach_the_model_in_their_order(
    name: str, checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    folder = checkpoint(name)
    shown = dict(zip(("", "before", "frame00"), (image_of(sample) for sample in pictures[3:6]), strict=True))
    conversations = [
        [message("user", "ba", image_part(first), "de", *map(image_part, others), "how many ?")]
        for first, *others in itertools.permutations(shown)
    ]
    conversations.append(several_turns())
    requests = [Request(messages, shown, max_tokens=TOKENS) for messages in conversations]
    said = [reply.text for reply in answered(load(folder), requests) if isinstance(reply, Reply)]
    assert said == [by_hand(folder, messages, shown) for messages in conversations]
    assert len(set(said)) >= 4, "the order must show in the text, or this test shows nothing"


def test_a_conversation_without_pictures_shares_the_round_of_those_with_some(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    model = load(checkpoint("idefics3"))
    requests = [about(pictures[0], "ba ?"), told("how many ?"), about(pictures[1], "ba ?"), told("what is the ba ?")]
    assert answered(model, requests) == [alone(model, request) for request in requests]


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_text_only_model_answers_conversations_as_its_own_template_writes_them(
    name: str, text_models: dict[str, Path], load: Callable[[Path], TransformersChat]
) -> None:
    folder = text_models[name]
    tokenizer: Any = tf.AutoTokenizer.from_pretrained(folder)
    plain: Any = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    conversations = [[("user", text)] for text in WORDS]
    conversations += [[("system", "answer"), ("user", "ba de"), ("assistant", "fi"), ("user", text)] for text in WORDS]
    expected = []
    for turns in conversations:
        written = [{"role": role, "content": text} for role, text in turns]
        ids = tokenizer.apply_chat_template(written, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        output = plain.generate(**ids, do_sample=False, max_new_tokens=TOKENS, pad_token_id=2)
        text = tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        text = text.rstrip("\N{REPLACEMENT CHARACTER}").strip()  # cut in the middle of a character
        expected.append((text, ids["input_ids"].shape[1]))
    requests = [Request([message(*turn) for turn in turns], max_tokens=TOKENS) for turns in conversations]
    replies = [reply for reply in answered(load(folder), requests) if isinstance(reply, Reply)]
    assert [(reply.text, reply.usage.prompt) for reply in replies] == expected
    assert len({reply.text for reply in replies}) > 5


def test_a_text_only_model_refuses_pictures_and_answers_the_others(
    text_models: dict[str, Path], pictures: list[Sample], load: Callable[[Path], TransformersChat]
) -> None:
    model = load(text_models["llama"])
    first, refused, last = answered(model, [told("ba de"), about(pictures[0], "ba de"), told("fi")])
    assert isinstance(refused, SampleError)
    assert refused.reason == "no_images_taken"
    assert [first, last] == [alone(model, told("ba de")), alone(model, told("fi"))]
    with pytest.raises(SampleError, match="no_images_taken"):
        alone(model, about(pictures[0], "ba de"))


def test_a_conversation_that_the_template_refuses_hurts_no_other(
    text_models: dict[str, Path], load: Callable[[Path], TransformersChat]
) -> None:
    model = load(text_models["llama"])
    odd = Request([message("tool", "ba")], max_tokens=TOKENS)
    refused, reply = answered(model, [odd, told("ba de")])
    assert isinstance(refused, SampleError)
    assert (refused.reason, "no such role: tool" in refused.detail) == ("conversation_refused", True)
    assert reply == alone(model, told("ba de"))


def test_a_text_only_model_without_a_template_continues_the_text(
    tmp_path: Path, load: Callable[[Path], TransformersChat]
) -> None:
    folder = llama(tmp_path, template=None)
    model = load(folder)
    assert not model.is_chat
    tokenizer: Any = tf.AutoTokenizer.from_pretrained(folder)
    plain: Any = tf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    expected = []
    for text in WORDS:
        ids = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        output = plain.generate(**ids, do_sample=False, max_new_tokens=TOKENS, pad_token_id=2)
        expected.append(tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    assert [reply.text for reply in answered(model, [told(t) for t in WORDS]) if isinstance(reply, Reply)] == expected
    with pytest.raises(SampleError, match="no_chat_template"):
        alone(model, Request([message("system", "answer"), message("user", "ba")]))


def test_plain_captioners_take_one_message_with_one_picture(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    model = load(checkpoint("blip"))
    image = image_of(pictures[0])
    two = Request([message("user", image_part(), image_part("before"))], {"": image, "before": image})
    turns = Request(several_turns(), {"": image})
    wordless = Request([message("user", image_part())], {"": image}, max_tokens=TOKENS)
    replies = answered(model, [two, turns, wordless, told("ba")])
    reasons = [reply.reason if isinstance(reply, SampleError) else "" for reply in replies]
    assert reasons == ["not_one_image", "no_chat_template", "", "not_one_image"]
    assert replies[2] == alone(model, wordless)


def test_finish_and_usage_say_how_a_reply_ended_and_what_it_took(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    folder = checkpoint("blip")
    model, plain = load(folder), tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    requests = [about(sample, "a photo of", max_tokens=16) for sample in pictures]
    replies = [reply for reply in answered(model, requests) if isinstance(reply, Reply)]
    processor: Any = tf.AutoProcessor.from_pretrained(folder)
    for reply, sample in zip(replies, pictures, strict=True):
        inputs = processor(images=image_of(sample).pixels(), text="a photo of", return_tensors="pt")
        # BLIP goes on from the prompt without the token that ends it
        written = plain.generate(**inputs, do_sample=False, max_new_tokens=16)[0].tolist()
        written = written[inputs["input_ids"].shape[1] - 1 :]
        assert reply.finish == ("stop" if processor.tokenizer.sep_token_id in written else "length")
        assert reply.usage.completion == len(written)
        assert reply.usage.prompt == inputs["attention_mask"].sum()
    assert {reply.finish for reply in replies} == {"stop", "length"}, "rows must end at different tokens"


def test_padding_is_not_counted(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    model = load(checkpoint("idefics3"))
    requests = [about(sample, "what is the ba ?") for sample in pictures]
    replies = [reply for reply in answered(model, requests) if isinstance(reply, Reply)]
    assert [r.usage for r in replies] == [alone(model, request).usage for request in requests]
    assert len({reply.usage.prompt for reply in replies}) > 1, "pictures of several sizes take tokens of several counts"


def test_choices_are_told_apart_by_the_first_token(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat], tmp_path: Path
) -> None:
    model = load(checkpoint("idefics3"))
    choices = ("ba", "de", "fi")
    requests = [about(sample, "what is this ?", choices=choices, max_tokens=30) for sample in pictures[:6]]
    replies = [reply for reply in answered(model, requests) if isinstance(reply, Reply)]
    processor: Any = tf.AutoProcessor.from_pretrained(checkpoint("idefics3"))
    plain: Any = tf.AutoModelForImageTextToText.from_pretrained(checkpoint("idefics3"), dtype=torch.float32)
    ids = processor.tokenizer.convert_tokens_to_ids(list(choices))
    for reply, sample in zip(replies, pictures, strict=False):
        turn = {"role": "user", "content": [{"type": "image", "image": image_of(sample).pixels()}]}
        turn["content"].append({"type": "text", "text": "what is this ?"})  # type: ignore[attr-defined]
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        with torch.no_grad():
            last = plain(**processor.apply_chat_template([turn], **options)).logits[0, -1].double()
        expected = dict(zip(choices, last[ids].softmax(-1).tolist(), strict=True))
        assert reply.choice_probabilities == pytest.approx(expected, abs=1e-4)
        assert sum(reply.choice_probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert (reply.text, reply.usage.completion) == ("", 1)


def test_choices_that_are_no_tokens_are_an_error_of_the_model_and_not_of_a_sample(
    checkpoint: Callable[[str], str], pictures: list[Sample], load: Callable[[str], TransformersChat]
) -> None:
    model = load(checkpoint("llava"))
    message = "no tokens of their own for perhaps and no"
    with pytest.raises(ModelError, match=message):
        model.check_choices(["perhaps", "no"])
    with pytest.raises(ModelError, match=message):
        model.assemble([about(pictures[0], "ba ?", choices=("perhaps", "no"))])
    with pytest.raises(ModelError, match="for ba and ba"):
        model.check_choices(["ba", "ba"])


def test_a_broken_picture_is_its_own_requests_failure_and_the_others_are_asked_once(
    checkpoint: Callable[[str], str],
    pictures: list[Sample],
    load: Callable[[str], TransformersChat],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(checkpoint("qwen2_vl"))
    expected = [alone(model, about(sample, "ba ?")) for sample in pictures[:4]]
    broken = Sample("broken", image=Image(b"not an image"))
    rows: list[int] = []
    generate = model.model.generate

    def counted(**inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return generate(**inputs)

    monkeypatch.setattr(model.model, "generate", counted)
    first, failed, *rest = answered(model, [about(s, "ba ?") for s in [pictures[0], broken, *pictures[1:4]]])
    assert isinstance(failed, ImageError)
    assert failed.reason == "image_unreadable"
    assert [first, *rest] == expected
    assert rows == [4]


def test_a_picture_shown_by_several_requests_is_decoded_once(
    checkpoint: Callable[[str], str],
    pictures: list[Sample],
    load: Callable[[str], TransformersChat],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load(checkpoint("llava"))
    decoded: list[Image] = []
    pixels = Image.pixels
    monkeypatch.setattr(Image, "pixels", lambda image: (decoded.append(image), pixels(image))[1])
    model.assemble([about(sample, text) for sample in pictures[:3] for text in WORDS])
    assert sorted(map(id, decoded)) == sorted(id(sample.image) for sample in pictures[:3])


@pytest.mark.parametrize("name", ["idefics3", "qwen2_vl", "git", "llama"])
def test_requests_with_different_decoding_are_each_answered_as_if_alone(
    name: str,
    checkpoint: Callable[[str], str],
    text_models: dict[str, Path],
    pictures: list[Sample],
    load: Callable[[str | Path], TransformersChat],
) -> None:
    model = load(text_models[name] if name in text_models else checkpoint(name))
    ways: list[dict[str, Any]] = [
        {},
        {"max_tokens": 3},
        {"temperature": 1.5},
        {"temperature": 1.5, "top_p": 0.9, "max_tokens": 12},
        {"temperature": 0.7, "top_k": 5},
        {"choices": ("ba", "de")},
    ]
    requests = [
        replace(
            told(WORDS[i % 5]) if name in text_models else about(pictures[i], WORDS[i % 5]),
            seed=100 + i // 2,
            **ways[i % len(ways)],
        )
        for i in range(16)
    ]
    torch.manual_seed(1)
    together = answered(model, requests)
    torch.manual_seed(2)
    separate = [alone(model, request) for request in requests]
    for one, other in zip(together, separate, strict=True):
        assert isinstance(one, Reply)
        assert one.choice_probabilities == pytest.approx(dict(other.choice_probabilities), abs=1e-5)
        assert replace(one, choice_probabilities={}) == replace(other, choice_probabilities={})
    assert len({reply.text for reply in separate}) > 6


def test_a_seed_counts_only_where_text_is_drawn(
    text_models: dict[str, Path], load: Callable[[Path], TransformersChat]
) -> None:
    model = load(text_models["llama"])
    greedy = answered(model, [told("ba", seed=seed) for seed in range(4)])
    drawn = answered(model, [told("ba", seed=seed, temperature=2.0) for seed in range(4)])
    assert len({reply.text for reply in greedy if isinstance(reply, Reply)}) == 1
    assert len({reply.text for reply in drawn if isinstance(reply, Reply)}) > 1


def test_encoders_are_refused_before_any_work(tmp_path: Path) -> None:
    words = checkpoints.bert_words()
    config = tf.BertConfig(**checkpoints.VISION, vocab_size=len(words))
    checkpoints.save(tmp_path, tf.BertForMaskedLM(config), words)
    with pytest.raises(
        ModelError, match="'bert', which is neither an image-text-to-text model nor a causal language model"
    ):
        TransformersEngine().check(ModelSpec(str(tmp_path)))
