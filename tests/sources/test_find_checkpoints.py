"""Checkpoints that several processes wrote: each step's folder is one model."""

import pytest


def test_a_distributed_checkpoint_takes_its_hidden_index(write, find):
    top = write(
        "run/step-10/.metadata",
        "run/step-10/__0_0.distcp",
        "run/step-10/__1_0.distcp",
        "run/step-10/.tmp-of-somebody",
        "run/step-20/.metadata",
        "run/step-20/__0_0.distcp",
        "run/log.txt",
    )
    found = find(top / "run")
    assert found.contents == {
        "run/step-10": [".metadata", "__0_0.distcp", "__1_0.distcp"],
        "run/step-20": [".metadata", "__0_0.distcp"],
        "run/log.txt": ["log.txt"],
    }
    (note,) = found.candidate("run/step-10").notes
    assert ".tmp-of-somebody" in note and ".metadata" not in note


def test_metadata_stays_hidden_in_any_other_folder(write, find):
    top = write("m/.metadata", "m/config.json", "m/model.safetensors")
    assert find(top / "m").contents == {"m": ["config.json", "model.safetensors"]}


def test_an_fsdp_checkpoint_inside_a_model_belongs_to_it(write, find):
    top = write(
        "m/config.json",
        "m/model.safetensors",
        "m/pytorch_model_fsdp_0/.metadata",
        "m/pytorch_model_fsdp_0/__0_0.distcp",
    )
    assert find(top / "m").contents == {
        "m": [
            "config.json", "model.safetensors", "pytorch_model_fsdp_0/.metadata",
            "pytorch_model_fsdp_0/__0_0.distcp",
        ]
    }  # fmt: skip


@pytest.mark.parametrize(
    "files",
    [
        ["mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"],
        ["bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "mp_rank_00_model_states.pt", "a.txt"],
        ["layer_03-model_00-model_states.pt", "layer_04-model_00-model_states.pt"],
        ["expert_0_mp_rank_00_model_states.pt", "expert_1_mp_rank_00_model_states.pt"],
        [
            "shard-00001-model-00001-of-00001.safetensors",
            "shard-00002-model-00001-of-00001.safetensors",
        ],
        ["mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"],
        ["mp_rank_00_000/distrib_optim.pt", "mp_rank_00_000/model_rng.pt"],
        ["mp_rank_00_000_001/model_optim_rng.pt", "mp_rank_00_000_000/model_optim_rng.pt"],
    ],
)
def test_files_of_ranks_are_one_model(write, find, files):
    top = write(*(f"run/iter_1/{path}" for path in files), "run/latest")
    assert find(top / "run").contents == {"run/iter_1": sorted(files), "run/latest": ["latest"]}


@pytest.mark.parametrize(
    "files",
    [
        ["mp_rank_00/readme.md"],
        ["mp_rank_00_model_states.pt"],
        ["mp_rank_00/model_optim_rng.pt"],
        ["__0_0.distcp"],
        ["mp_rank/model_optim_rng.pt"],
        ["zero_pp_rank_x_mp_rank_00_optim_states.pt", "a.pt"],
        ["mp_rank_00_model_states.pt.txt"],
    ],
)
def test_names_that_are_only_alike_are_none(write, find, files):
    top = write(*(f"run/{path}" for path in files))
    assert len(find(top / "run").candidates) == len(files)


def test_links_out_of_a_checkpoint_are_left_out(write, find, tmp_path):
    top = write(
        "outside/secret", "outside/__9_0.distcp", "run/c/__0_0.distcp", "run/c/__1_0.distcp"
    )
    (top / "run" / "c" / ".metadata").symlink_to(tmp_path / "outside" / "secret")
    (top / "run" / "c" / "__9_0.distcp").symlink_to(tmp_path / "outside" / "__9_0.distcp")
    (top / "run" / "c" / "mp_rank_00").symlink_to(tmp_path / "outside")
    found = find(top / "run" / "c")
    (candidate,) = found.candidates
    assert [member.path for member in candidate.members] == ["__0_0.distcp", "__1_0.distcp"]
    assert sum("leaves" in note or "link" in note for note in candidate.notes) == 3
