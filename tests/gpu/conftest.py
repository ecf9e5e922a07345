"""These tests need a GPU and are skipped without one."""

import gc

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    # what an earlier test left would count in the peak of this one
    gc.collect()
    # cuBLAS keeps 32 MiB for each stream that ever multiplied here, such as one of training
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    # products in TF32 would not be the same as on a CPU
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
