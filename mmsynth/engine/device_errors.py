"""What a device says in its errors: out of memory, which a smaller batch may mend, or lost, which nothing does."""

import gc
import sys

from mmsynth.errors import DeviceError

#: what libraries say in a RuntimeError of another kind than torch's own
_NO_MEMORY = (
    *("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED", "CUBLAS_STATUS_ALLOC_FAILED"),
    "PT_DEVMEM Allocation failed",
)
#: after such an error every later call in this process fails too
_LOST = ("CUDA error", "CUDA driver error", "HIP error", "device-side assert", "CUBLAS_STATUS_", "CUDNN_STATUS_")


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # if nobody has loaded it, nothing is on a device
    if torch is None or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def free_device_memory() -> None:
    """Give the caches of torch back. To be called once nothing holds the failed try: not in its `except` block."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    gc.collect()
    torch.cuda.empty_cache()
    torch.xpu.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def raise_if_lost(error: BaseException) -> None:
    """Raise DeviceError if the device is of no more use to this process: the error is no sample's fault."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return
    torch = sys.modules.get("torch")
    accelerator_error = getattr(torch, "AcceleratorError", ()) if torch is not None else ()
    if isinstance(error, accelerator_error) or any(words in str(error) for words in _LOST):
        first_line = str(error).strip().partition("\n")[0]
        raise DeviceError(
            f"the device failed: {first_line}; what is committed is kept, and the same command goes on from there"
        ) from error
