"""chat: one interface to models that answer conversations about pictures, whichever engine runs them.

base.py      Request, Reply, ChatModel: the interface between stages and engines

Engines are found by entry point (`mmsynth.chat_engines`). `transformers`, in this process: transformers_engine.py
(answers in batches), checkpoints.py (find and load), prompting.py (conversations → inputs; processors.py asks what a
processor does, literal.py keeps special tokens out), tensors.py, sampling.py (own seeds), choices.py (one answer among
a few), replies.py (tokens → Reply).

Importing this loads no torch.
"""

from mmsynth.models.chat.base import (
    BatchChatModel,
    ChatEngine,
    ChatModel,
    Collector,
    ModelSpec,
    Reply,
    Request,
    Usage,
    ask,
    collecting,
)

__all__ = [
    "BatchChatModel",
    "ChatEngine",
    "ChatModel",
    "Collector",
    "ModelSpec",
    "Reply",
    "Request",
    "Usage",
    "ask",
    "collecting",
]
