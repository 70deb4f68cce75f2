"""What estimates foresee: heads that a converter permuted, merged adapters, what a frame takes."""

from pathlib import Path

import gguf
import numpy as np
import onnx_writer as ow
import pytest
from safetensors.numpy import save_file

import hartonomous as hn
from hartonomous.packs.forecast import _unseen
from hartonomous.packs.sampling import _chosen, _cost_in_frame, _Sample

HEADS = 8
FIXTURES = Path(__file__).parents[1] / "fixtures" / "checkpoints"


def kinds_of(found):
    return {one.kind: one for one in found.classes}


def permuted(weight, heads):
    """Return a query's weight as llama.cpp's converter orders its rows."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


@pytest.fixture
def weight():
    return (np.random.default_rng(1).standard_normal((512, 512)) * 0.02).astype(np.float32)


@pytest.fixture
def store(tmp_path, weight):
    save_file({"model.layers.0.self_attn.q_proj.weight": weight}, tmp_path / "base.safetensors")
    with hn.open(tmp_path / "store", create=True) as opened:
        opened.add(tmp_path / "base.safetensors", name="base")
        yield opened


def stored_bytes(store):
    return sum(path.stat().st_size for path in (store.path / "packs").rglob("*.pack"))


def test_rows_permuted_by_heads_are_foreseen(store, tmp_path, weight):
    path = tmp_path / "base-f16.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(HEADS)
    writer.add_tensor("blk.0.attn_q.weight", permuted(weight, HEADS).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = store.estimate(path)
    assert kinds_of(found)["probably computed from others"].piece_count == 1
    before = stored_bytes(store)
    store.add(path)
    assert stored_bytes(store) - before < weight.nbytes // 50
    assert found.estimated_bytes < weight.nbytes // 50


def test_an_adapter_that_was_merged_is_foreseen(store, tmp_path, weight):
    random = np.random.default_rng(2)
    left, right = (
        (random.standard_normal(shape) * 0.02).astype(np.float32) for shape in ((512, 8), (8, 512))
    )
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file(
        {f"{stem}.lora_A.weight": right, f"{stem}.lora_B.weight": left},
        adapter / "adapter_model.safetensors",
    )
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "lora_alpha": 16}')
    merged = tmp_path / "merged.safetensors"
    save_file(
        {"model.layers.0.self_attn.q_proj.weight": weight + np.float32(2) * (left @ right)}, merged
    )
    without = store.estimate(merged)
    store.add(adapter, name="adapter")
    found = store.estimate(merged)
    before = stored_bytes(store)
    store.add(merged)
    taken = stored_bytes(store) - before
    assert taken < weight.nbytes // 10 < without.estimated_bytes
    assert found.estimated_bytes < weight.nbytes // 10


def test_what_every_frame_takes_counts_by_the_share_of_a_frame():
    def cost(_at, _offset, content):
        return 600 + len(content) // 32  # a table, and what is left of each byte

    content = bytes(4096)
    assert _cost_in_frame(cost, 0, 0, content, frame=4096, block=1) == 600 + 128
    told = _cost_in_frame(cost, 0, 0, content, frame=65536, block=1)
    assert told == pytest.approx(128 + 600 / 16)
    assert _cost_in_frame(lambda *_: None, 0, 0, content, frame=65536, block=1) is None
    # One block cannot be halved: it counts as it is.
    assert _cost_in_frame(cost, 0, 0, content, frame=65536, block=4096) == 600 + 128


def test_a_way_that_saves_too_little_does_not_count():
    seen = [
        _Sample(0, 100, 80, 60.0), _Sample(0, 100, 80, 70.0),  # 130 of 160: kept on its own
        _Sample(1, 100, 80, 10.0), _Sample(1, 100, 80, 90.0),  # 100 of 160: built on others
        _Sample(2, 100, 80, None),
    ]  # fmt: skip
    assert _chosen(seen) == [(100, 80), (100, 80), (100, 10), (100, 90), (100, 80)]


def test_a_dry_run_shares_out_what_is_equal_in_the_order_of_an_add(store, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    array = (np.random.default_rng(3).standard_normal((512, 1024)) * 0.02).astype(np.float32)
    save_file({"w": array}, folder / "a.safetensors")
    np.savez(folder / "b.npz", w=array, v=np.zeros(4, np.float32))  # the longer file
    told = store.add(folder, dry_run=True).artifacts
    done = store.add(folder).artifacts
    assert [one.name for one in told] == [one.name for one in done]
    for foreseen, real in zip(told, done, strict=True):
        assert abs(foreseen.stored_bytes - real.stored_bytes) < array.nbytes // 20
    first, second = ({one.reason: one.piece_count for one in each.reasons} for each in told)
    assert first["tensor stored new"] == 1
    assert second["tensor already stored"] == 1


def test_weights_beside_a_short_onnx_model_are_foreseen_as_tensors(store, tmp_path, weight):
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(
        ow.model(
            ow.graph(
                ow.external(
                    "w", "model.onnx.data", dims=weight.shape, offset="0", length=str(weight.nbytes)
                )
            )
        )
    )
    (folder / "model.onnx.data").write_bytes(weight.tobytes())
    (foreseen,) = store.add(folder / "model.onnx", dry_run=True).artifacts
    assert foreseen.file_count == 2
    assert foreseen.stored_bytes < weight.nbytes // 100
    assert store.estimate(folder / "model.onnx").tensor_count == 1


def test_shards_of_a_distributed_checkpoint_are_foreseen_as_tensors(store, tmp_path):
    shard = FIXTURES / "distributed" / "step-10" / "__1_0.distcp"
    found = store.estimate(shard)
    assert found.tensor_count > 0
    assert not found.notes


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_eight_bits_like_others_of_which_nothing_was_read_take_less_than_halves_do(dtype):
    """Scaled and cast from this family they take 0.0002 to 0.41 of themselves."""
    halves, eight = (_unseen(10_000, f"tensors {one} like others") for one in ("F16", dtype))
    assert eight.low <= 2 < 0.41 * 10_000 < eight.high < halves.high
    assert eight.estimated < halves.estimated
