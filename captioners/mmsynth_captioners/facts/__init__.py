"""facts: captions and questions from what is known to be true of an image, without a model.

english.py says words, reading.py what follows from facts; captions.py and questions.py write; stage.py is the plugin.
"""

from mmsynth_captioners.facts.captions import write_caption
from mmsynth_captioners.facts.questions import write_questions
from mmsynth_captioners.facts.stage import FactsCaptioner

__all__ = ["FactsCaptioner", "write_caption", "write_questions"]
