"""What every stage that asks a chat model has, whichever engine answers: shown with the engines of mmsynth.testing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import mmsynth as mm
from mmsynth.chat_stage import ChatStage, WritesText
from mmsynth.errors import ModelError, PluginError
from mmsynth.image import Image
from mmsynth.models.chat import Reply
from mmsynth.sample import Failed, Result, Sample
from mmsynth.testing import EchoChat, WaitingEchoChat, photo_samples, run_stage

ECHO, WAITING = "mmsynth.testing:EchoChatEngine", "mmsynth.testing:WaitingEchoChatEngine"


class Dialogue(WritesText, mm.Captioner):
    """Ask, ask back what was said, and keep the conversation; the key says how often."""

    async def process_one(self, sample: Sample) -> Result:
        messages = [self.user(f"what is this , {sample.key} ?", [""])]
        for _ in range(int(sample.key[-1]) % 3 + 1):
            reply = await self.chat(self.request(messages, sample))
            messages += [self.assistant(reply.text), self.user(f"why {reply.text.split()[0]} ?")]
        return sample.with_messages(messages[:-1]).with_caption(reply.text, model=self.model)


class Choice(ChatStage, mm.Filter):
    """Score by how likely the first of two answers is."""

    async def process_one(self, sample: Sample) -> Result:
        reply: Reply = await self.ask("left or right ?", sample, images=[""], choices=("left", "right"))
        return sample.with_scores(left=reply.choice_probabilities["left"])

    def score_names(self) -> tuple[str, ...]:
        return ("left",)


def ready(stage: ChatStage) -> ChatStage:
    made = stage.bound("caption:dialogue", run_seed=3)
    made.check()
    made.setup("cpu")
    return made


def said(results: Sequence[Sequence[Result]]) -> list[Any]:
    return [result.record["messages"] if isinstance(result, Sample) else result for (result,) in results]


def test_a_dialogue_goes_in_lockstep_and_is_that_of_each_sample_alone() -> None:
    stage = ready(Dialogue(engine=ECHO, batch_size=8))
    samples = photo_samples(8)
    together = said(run_stage(stage, samples))
    model = stage.chat_model
    assert isinstance(model, EchoChat)
    assert model.batch_sizes == [8, 5, 2], "keys that end in 0 ask once, in 1 twice, in 2 three times"
    assert together == [said(run_stage(stage, [sample]))[0] for sample in samples]
    assert len({str(messages) for messages in together}) == 8


def test_an_engine_that_batches_by_itself_gets_the_same_requests_many_at_a_time() -> None:
    lockstep, flying = ready(Dialogue(engine=ECHO)), ready(Dialogue(engine=WAITING, concurrency=5))
    samples = photo_samples(20)
    assert said(run_stage(flying, samples)) == said(run_stage(lockstep, samples))
    model = flying.chat_model
    assert isinstance(model, WaitingEchoChat)
    assert model.most_at_once == 5
    assert model.asked == sum(int(sample.key[-1]) % 3 + 1 for sample in samples)


@pytest.mark.parametrize("engine", [ECHO, WAITING])
def test_a_broken_picture_is_its_samples_failure_alone(engine: str) -> None:
    stage = ready(Dialogue(engine=engine))
    samples = photo_samples(4)
    odd = [samples[0], Sample("broken-1", image=Image(b"no image")), Sample("blank-1"), *samples[1:]]
    results = run_stage(stage, odd)
    assert [result.reason for (result,) in results if isinstance(result, Failed)] == ["image_unreadable", "no_image"]
    assert said(results[:1] + results[3:]) == said(run_stage(stage, samples))


@pytest.mark.parametrize("engine", [ECHO, WAITING])
def test_what_an_engine_raises_for_one_request_hurts_no_other(engine: str) -> None:
    stage = ready(Dialogue(engine=engine))
    samples = [*photo_samples(3), Sample("break-0", image=photo_samples(1)[0].image)]
    *others, (failed,) = run_stage(stage, samples)
    assert isinstance(failed, Failed)
    assert "was told to break" in failed.detail
    assert all(isinstance(result, Sample) for (result,) in others)


def test_steps_say_how_many_tokens_a_sample_took() -> None:
    stage = ready(Dialogue(engine=ECHO))
    ((result,),) = run_stage(stage, photo_samples(1))
    assert isinstance(result, Sample)
    (step,) = result.record["steps"]
    assert step["tokens"] == {"prompt": 6, "completion": 7}
    assert step["models"] == [{"id": "nano", "revision": "echo", "dtype": "none"}]


def test_a_sampled_text_depends_on_the_seed_and_a_greedy_one_does_not() -> None:
    for temperature, differs in ((0.0, False), (1.0, True)):
        stage = Dialogue(engine=ECHO, temperature=temperature)
        texts = []
        for seed in (1, 2):
            made = stage.bound("caption:dialogue", run_seed=seed)
            made.setup("cpu")
            texts.append(said(run_stage(made, photo_samples(2))))
        assert (texts[0] != texts[1]) is differs


def test_a_stage_that_only_chooses_has_no_parameters_of_writing() -> None:
    stage = ready(Choice(engine=ECHO))
    scores = [result.record["scores"]["left"] for (result,) in run_stage(stage, photo_samples(4))]  # type: ignore[union-attr]
    assert len(set(scores)) == 4
    with pytest.raises(ValidationError, match="Extra inputs"):
        Choice(engine=ECHO, temperature=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="need a temperature above 0"):
        Dialogue(top_k=5)


def test_an_engine_is_found_by_its_name_and_a_wrong_one_is_told() -> None:
    with pytest.raises(PluginError, match=r"no chat engine named 'transformer'\. Did you mean 'transformers'\?"):
        Dialogue(engine="transformer").check()


def test_a_recipe_cannot_run_code_by_naming_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "an_engine.py").write_text("raise SystemExit('this ran')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="is code, which no recipe runs by itself"):
        Dialogue(engine="an_engine:Engine").check()


def test_what_only_changes_the_speed_is_in_no_fingerprint() -> None:
    stage = Dialogue(engine=ECHO, concurrency=64, batch_size=2)
    assert stage.parameters() == {"engine": ECHO}


def test_a_system_prompt_for_a_model_without_conversations_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EchoChat, "is_chat", False)
    with pytest.raises(ModelError, match="no chat template"):
        ready(Dialogue(engine=ECHO, system="be brief"))
