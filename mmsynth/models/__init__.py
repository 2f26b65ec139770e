"""models: the models that stages use.

files.py       find a model: a hub id, a local folder, or `nano`
devices.py     which device and dtype
loading.py     load quietly, and decide whose remote code may run
chat/          chat models behind one interface
clip/          CLIP towers and scores
classifiers.py image and text classifiers

Importing this loads no torch.
"""

from mmsynth.models.devices import DTYPES, dtype_name, resolve_device, resolve_dtype
from mmsynth.models.files import ModelFiles, ModelInfo, find_model, nano_files
from mmsynth.models.loading import is_trusted, loading_quietly, tell_of_nano, trust

__all__ = [
    "DTYPES",
    "ModelFiles",
    "ModelInfo",
    "dtype_name",
    "find_model",
    "is_trusted",
    "loading_quietly",
    "nano_files",
    "resolve_device",
    "resolve_dtype",
    "tell_of_nano",
    "trust",
]
