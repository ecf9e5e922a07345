"""These tests need a GPU and are skipped without one."""

import pytest
import torch


@pytest.fixture(autouse=True)
def gpu():
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device here")
    torch.cuda.empty_cache()
    # products in TF32 would not be the same as on a CPU
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
