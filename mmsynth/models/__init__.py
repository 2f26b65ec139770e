"""models: the models that stages use.

files.py       find a model: a hub id, a local folder, or `nano`
devices.py     which device and dtype
loading.py     load quietly; whose remote code may run
weights.py     whether the weights are all there
chat/          chat models behind one interface
clip/          CLIP towers and scores
classifiers.py image and text classifiers

Importing this loads no torch.
"""

from mmsynth.models.devices import DTYPES, dtype_name, resolve_device, resolve_dtype
from mmsynth.models.files import ModelFiles, ModelInfo, find_model, nano_files
from mmsynth.models.loading import is_trusted, loading_quietly, tell_of_nano, trust
from mmsynth.models.weights import check_files, in_one_line, loaded_whole

__all__ = [
    "DTYPES",
    "ModelFiles",
    "ModelInfo",
    "check_files",
    "dtype_name",
    "find_model",
    "in_one_line",
    "is_trusted",
    "loaded_whole",
    "loading_quietly",
    "nano_files",
    "resolve_device",
    "resolve_dtype",
    "tell_of_nano",
    "trust",
]
