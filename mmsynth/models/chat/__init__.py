"""chat: one interface to models that answer conversations about pictures, whichever engine runs them.

base.py      Request, Reply, ChatModel: the interface between stages and engines

Engines are found by entry point (`mmsynth.chat_engines`). The engine `transformers` runs in this process:
transformers_engine.py (answers in batches), checkpoints.py (finds and loads), prompting.py (conversations → inputs),
sampling.py (own seeds), choices.py (one answer among a few).

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
