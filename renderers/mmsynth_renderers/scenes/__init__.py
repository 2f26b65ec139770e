"""scenes: a programmatic world of coloured objects, in which every fact is known.

vocabulary.py   the words, and how each looks
shapes.py       the outlines of the kinds of object
grammar.py      random scenes, and the prompt that states one
layout.py       where the objects go
draw.py         from facts to pixels
negatives.py    the same scene with one thing changed
pixels.py       from pixels back to facts
judge.py        whether statements about a scene are true
stages.py       the source, the renderer and the filter
negative_captions.py    the captioner that writes negatives beside the caption
"""

from mmsynth_renderers.scenes.draw import draw, lay_out
from mmsynth_renderers.scenes.grammar import prompt, random_facts
from mmsynth_renderers.scenes.negative_captions import NegativeCaptions
from mmsynth_renderers.scenes.negatives import hard_negatives
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.stages import SceneRenderer, SceneSource, SceneTruth
from mmsynth_renderers.scenes.vocabulary import BACKGROUNDS, COLOURS

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "KINDS",
    "NegativeCaptions",
    "SceneRenderer",
    "SceneSource",
    "SceneTruth",
    "draw",
    "hard_negatives",
    "lay_out",
    "prompt",
    "random_facts",
]
