"""Checkpoints: what was written comes back, and everything else is refused without running any of it."""

import json
import pickle
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch
from infdehaze import weights
from infdehaze.errors import CheckpointError, InfdehazeError
from infdehaze.presets import LITE
from infdehaze.weights import FORMAT, load_model, read_info, resolve_weights, save_weights, shipped_weights
from safetensors.torch import load_file, save_file

CARD = {"recipe": {"seed": 1}, "scores": [1.5, 2.5], "licence": "CC BY 4.0 – é"}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def checkpoint(tmp_path, make_model):
    path = tmp_path / "good.safetensors"
    save_weights(path, make_model(), CARD)
    return path


def rewrite(path, change=lambda tensors: None, **metadata):
    """Write the checkpoint again with changed tensors or metadata."""
    tensors = load_file(path)
    change(tensors)
    with weights.safe_open(path, framework="pt") as file:
        facts = file.metadata()
    kept = {key: value for key, value in {**facts, **metadata}.items() if value is not None}
    save_file(tensors, path, kept)


def assert_refused(path, match, load=load_model):
    with pytest.raises(CheckpointError, match=match) as caught:
        load(path)
    message = str(caught.value)
    assert isinstance(caught.value, InfdehazeError)
    assert caught.value.exit_code == 3
    assert message.strip()
    assert "\n" not in message
    assert message.endswith(".")


def test_weights_come_back_as_they_were_written(tmp_path, make_model, scene, tiny):
    model, path = make_model(), tmp_path / "exact.safetensors"
    save_weights(path, model, CARD, torch.float32)
    loaded = load_model(path)
    assert not loaded.training
    assert loaded.preset == tiny
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())
    hazy = scene(330, 290)
    with torch.inference_mode():
        assert torch.equal(loaded(hazy).image_B3HW, model(hazy).image_B3HW)


def test_a_checkpoint_reproduces_its_output_bit_for_bit(checkpoint, scene):
    hazy = scene(330, 290)
    with torch.inference_mode():
        torch.manual_seed(1)
        first = load_model(checkpoint)(hazy).image_B3HW
        torch.manual_seed(2)
        assert torch.equal(load_model(str(checkpoint))(hazy).image_B3HW, first)


def test_half_precision_halves_the_weights_but_keeps_projections_and_centres(checkpoint, make_model):
    stored = load_file(checkpoint)
    exact = [key for key in stored if key.endswith(("projection", "centre"))]
    assert sum(key.endswith("projection") for key in exact) == 2
    assert sum(key.endswith("centre") for key in exact) > 2
    state = make_model().state_dict()
    for key, value in stored.items():
        assert value.dtype == (torch.float32 if key in exact else torch.float16)
    assert all(torch.equal(stored[key], state[key]) for key in exact)
    assert all(value.dtype == torch.float32 for value in load_model(checkpoint).state_dict().values())


def test_the_header_holds_preset_and_card(checkpoint, tiny):
    info = read_info(checkpoint)
    assert (info.path, info.preset, info.card) == (checkpoint, tiny, CARD)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torch_pickle_is_refused_and_never_run(tmp_path, zipped):
    bait, path = tmp_path / "created", tmp_path / "model.pth"
    torch.save({"weights": Payload(bait)}, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)
    assert bait.exists(), "the payload would not have run in the first place"
    bait.unlink()
    for name in ("model.pth", "model.safetensors"):
        disguised = tmp_path / name
        if disguised != path:
            shutil.copy(path, disguised)
        assert_refused(disguised, "pickled checkpoint")
        assert_refused(disguised, "pickled checkpoint", read_info)
    assert not bait.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_refused_and_never_run(tmp_path, protocol):
    bait, path = tmp_path / "created", tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Payload(bait), protocol))
    assert_refused(path, "pickled checkpoint|not a safetensors file")
    assert not bait.exists()


@pytest.mark.parametrize("start", [b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK"])
def test_a_header_whose_length_looks_like_a_pickle_is_still_ours(checkpoint, start):
    raw = checkpoint.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    wanted = int.from_bytes(start, "little")
    while wanted < length:
        wanted += 1 << 16
    # a header may be filled up with spaces
    checkpoint.write_bytes(struct.pack("<Q", wanted) + raw[8 : 8 + length].ljust(wanted) + raw[8 + length :])
    assert read_info(checkpoint).card == CARD


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"\x00" * 8, b"\x00" * 4096, b"II*\x00" + b"\x01" * 500, b"{}" * 50]
)
def test_files_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    assert_refused(path, "not a safetensors file")


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(checkpoint, share):
    raw = checkpoint.read_bytes()
    checkpoint.write_bytes(raw[: int(len(raw) * share)])
    assert_refused(checkpoint, "cut off|damaged")


@pytest.mark.parametrize("length", [0, 1, 2**24, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_an_absurd_length_is_refused_before_it_is_read(checkpoint, length):
    raw = checkpoint.read_bytes()
    checkpoint.write_bytes(struct.pack("<Q", length) + raw[8:])
    assert_refused(checkpoint, "not a safetensors file")


def test_a_header_that_is_not_json_is_refused(checkpoint):
    raw = bytearray(checkpoint.read_bytes())
    raw[9:40] = b"\n" * 31
    checkpoint.write_bytes(raw)
    assert_refused(checkpoint, "damaged")


def test_a_missing_tensor_is_refused_and_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.pop("decoder.head.linear.weight"))
    assert_refused(checkpoint, re.escape("decoder.head.linear.weight"))


def test_an_unknown_tensor_is_refused_and_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert_refused(checkpoint, "the first is extra")


def test_a_tensor_of_another_shape_is_refused_and_named(checkpoint):
    rewrite(checkpoint, lambda tensors: tensors.update({"decoder.head.linear.bias": torch.zeros(17)}))
    assert_refused(checkpoint, re.escape("holds decoder.head.linear.bias in another shape"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_and_named(checkpoint, value):
    rewrite(checkpoint, lambda tensors: tensors["decoder.head.linear.weight"].view(-1)[7:8].fill_(value))
    assert_refused(checkpoint, re.escape("decoder.head.linear.weight that are not finite"))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": FORMAT + "0"}])
def test_safetensors_of_others_are_refused(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    assert_refused(path, "not written by infdehaze", read_info)


@pytest.mark.parametrize("key", ["preset", "card"])
@pytest.mark.parametrize("value", [None, "", "{", "not json"])
def test_a_damaged_description_is_refused(checkpoint, key, value):
    rewrite(checkpoint, **{key: value})
    assert_refused(checkpoint, "header of .* is damaged")


@pytest.mark.parametrize(
    "preset",
    [
        "null",
        "[]",
        "5",
        *(json.dumps({**LITE.to_dict(), **odd}) for odd in ({"field_stride": 0}, {"block": "x"}, {"heads": [7] * 4})),
    ],
)
def test_a_description_that_makes_no_network_is_refused(checkpoint, preset):
    rewrite(checkpoint, preset=preset)
    assert_refused(checkpoint, "version|damaged")


def test_a_description_of_another_network_is_refused(checkpoint):
    rewrite(checkpoint, preset=json.dumps(LITE.to_dict()))
    assert_refused(checkpoint, "does not fit the preset 'lite'")


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    assert_refused(tmp_path / "none.safetensors", "There are no weights")
    assert_refused(tmp_path, "There are no weights")


def test_a_preset_without_shipped_weights_is_explained(monkeypatch):
    monkeypatch.setattr(weights, "shipped_weights", dict)
    assert_refused("base", "No weights for the preset 'base' are shipped", resolve_weights)


def test_a_wrong_name_is_explained_without_shipped_weights_too(monkeypatch):
    monkeypatch.setattr(weights, "shipped_weights", dict)
    with pytest.raises(CheckpointError, match="There are no weights 'nonsense'") as caught:
        resolve_weights("nonsense")
    assert "one of ." not in str(caught.value)


def test_shipped_weights_go_by_their_name(monkeypatch, checkpoint):
    monkeypatch.setattr(weights, "shipped_weights", lambda: {"good": checkpoint})
    assert resolve_weights("good") == checkpoint
    assert load_model("good").preset.name == "tiny"


def test_all_shipped_weights_load():
    for name, path in shipped_weights().items():
        assert read_info(name).path == path
        load_model(name)
