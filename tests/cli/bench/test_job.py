"""A measurement in a process of its own says what the same run says here, and survives what it measures."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from infdehaze.network import InfDehaze
from infdehaze.tiling import enlarge, scatter
from infdehaze.weights import load_model, save_weights

from infdehaze_cli.api import dehaze
from infdehaze_cli.bench.baselines import run_direct, run_patches
from infdehaze_cli.bench.job import Job, run_job
from infdehaze_cli.errors import InputError

pytestmark = pytest.mark.slow

MiB = 1024**2


@pytest.fixture
def make_job(make_raster, tiny_checkpoint, scratch):
    """Describe a run of the tiny network over a scene of the given side."""

    def make(method, side=256, **changes):
        src = make_raster(f"{side}.tif", height=side, width=side)
        given = {
            "src": str(src),
            "dst": str(src.with_name("output.tif")),
            "weights": str(tiny_checkpoint),
            "residuals": "ssd",
            "batch": 4,
            "gpu_mem": None,
            "ram": 1024 * MiB,
            "scratch": str(scratch),
            "device": "cpu",
            "limit": 4096 * MiB,
        }
        return Job(method=method, **{**given, **changes})

    return make


def test_a_row_is_what_the_run_says(make_job):
    job = make_job("streamed")

    answer = run_job(job)
    run = dehaze(job.src, job.dst, config=job.config, overwrite=True)

    assert (answer.ended, answer.reason) == ("done", None)
    for name in ("batch", "peak_device_bytes", "predicted_device_bytes", "scratch_bytes"):
        assert getattr(answer, name) == getattr(run, name), name
    assert answer.scratch_bytes > 0
    assert 50 * MiB < answer.peak_rss_bytes
    assert answer.seconds > 0


def test_the_whole_picture_at_once_is_the_same_network_in_more_memory(make_job, read_raster):
    job = make_job("direct", 400, batch=1)

    answer = run_job(job)
    direct = read_raster(job.dst).pixels.astype(int)
    run = dehaze(job.src, job.dst, config=job.config, overwrite=True)
    streamed = read_raster(job.dst).pixels.astype(int)

    # a run keeps its residuals in half precision
    assert np.abs(direct - streamed).max() <= 1
    assert (streamed != read_raster(job.src).pixels).any()
    assert answer.ended == "done"
    assert answer.peak_device_bytes > run.peak_device_bytes
    assert answer.peak_rss_bytes > answer.peak_device_bytes


def test_the_whole_picture_under_a_small_limit_runs_out_of_memory_and_leaves_nothing(make_job, listing, tmp_path):
    job = make_job("direct", 400, limit=2 * MiB)
    before = listing(tmp_path)

    answer = run_job(job)

    assert answer.ended == "out of memory"
    assert answer.reason
    assert answer.peak_device_bytes is None
    assert listing(tmp_path) == before


def test_patches_take_a_batch_whatever_the_size(make_job):
    small, large = (run_patches(job.src, job.dst, job.config) for job in map(make_job, ["patches"] * 2, [128, 300]))
    whole = make_job("direct", 300)

    assert small == large < run_direct(whole.src, whole.dst, whole.config, whole.limit)


@pytest.mark.parametrize("texture", [0.0, 0.001])
def test_patches_are_the_network_without_its_bottleneck(make_job, tiny_checkpoint, read_raster, tmp_path, texture):
    plain = load_model(tiny_checkpoint)
    model = InfDehaze(replace(plain.preset, smoothing=8.0, texture=texture)).eval()
    model.load_state_dict(plain.state_dict())
    save_weights(tmp_path / "textured.safetensors", model, {"licence": "for tests alone"})
    job = make_job("patches", 100, weights=str(tmp_path / "textured.safetensors"))

    run_patches(job.src, job.dst, job.config)

    tile = torch.from_numpy(read_raster(job.src).pixels[None, :, :64, :64] / np.float32(255))
    with torch.inference_mode():
        residuals = model.encoder(tile)
        fields = model.decoder(residuals[-1], residuals)[:, :9]
        expected = scatter(tile, enlarge(fields, model.preset.field_stride))[0]
    found = read_raster(job.dst).pixels[:, :64, :64]
    assert np.abs(found - (expected * 255).clamp(0, 255).numpy()).max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="the child is found in Linux's /proc")
def test_a_run_that_the_system_kills_ran_out_of_memory(make_job):
    job = make_job("patches", 64)
    children = Path("/proc/self/task").glob

    def started():
        return {int(pid) for path in children("*/children") for pid in path.read_text().split()}

    before = started()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(run_job, job)
        while not (new := started() - before):
            assert not answer.done()
        os.kill(new.pop(), signal.SIGKILL)

    assert (answer.result().ended, answer.result().reason) == ("out of memory", "killed by the system")


def test_a_budget_that_is_too_small_is_a_refusal_with_its_reason(make_job):
    answer = run_job(make_job("streamed", 64, gpu_mem=MiB // 8))

    assert answer.ended == "refused"
    assert "--gpu-mem" in answer.reason


def test_other_errors_come_back_as_they_were(make_job, tmp_path):
    with pytest.raises(InputError, match="gone"):
        run_job(make_job("patches", 64, src=str(tmp_path / "gone.tif")))
