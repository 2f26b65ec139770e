"""facts: captions and questions from an image's facts, without a model.

english.py has the words, reading.py draws conclusions from facts, captions.py and questions.py write, stage.py is the
plugin.
"""

from mmsynth_captioners.facts.captions import write_caption
from mmsynth_captioners.facts.questions import write_questions
from mmsynth_captioners.facts.stage import FactsCaptioner

__all__ = ["FactsCaptioner", "write_caption", "write_questions"]
