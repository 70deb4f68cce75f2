"""Paths of the files that the ranks of a training run write."""

import pytest

from hartonomous.core.rank_files import rank_file


@pytest.mark.parametrize(
    ("path", "kind", "home", "ranks"),
    [
        ("mp_rank_07_model_states.pt", "deepspeed", "", {"tensor": 7}),
        ("g/mp_rank_00_optim_states.pt", "deepspeed", "g", {"tensor": 0}),
        ("zero_pp_rank_12_mp_rank_01_optim_states.pt", "deepspeed", "", {"data": 12, "tensor": 1}),
        ("fp16_zero_pp_rank_3_mp_rank_00_optim_states.pt", "deepspeed", "",
         {"data": 3, "tensor": 0}),
        ("zero_pp_rank_3_mp_rank_00_model_states.pt", "deepspeed", "", {"data": 3, "tensor": 0}),
        ("layer_05-model_02-model_states.pt", "deepspeed", "", {"tensor": 2}),
        ("layer_5_expert_6_mp_rank_02_model_states.pt", "deepspeed", "",
         {"tensor": 2, "expert": 6}),
        ("a/b/mp_rank_03/model_optim_rng.pt", "megatron", "a/b", {"tensor": 3}),
        ("mp_rank_03_001/distrib_optim.pt", "megatron", "", {"tensor": 3, "pipeline": 1}),
        ("mp_rank_03_001_002/model_rng.pt", "megatron", "",
         {"tensor": 3, "pipeline": 1, "expert": 2}),
    ],
)  # fmt: skip
def test_ranks_of_a_path(path: str, kind: str, home: str, ranks: dict[str, int]) -> None:
    found = rank_file(path)
    assert found is not None
    assert (found.kind, found.home) == (kind, home)
    told = {key: getattr(found, key) for key in ("tensor", "pipeline", "data", "expert")}
    assert {key: value for key, value in told.items() if value is not None} == ranks


@pytest.mark.parametrize(
    "path",
    [
        "model.pt", "mp_rank_00/other.pt", "mp_rank_1234567_model_states.pt", "mp_rank_00",
        "x_mp_rank_00_model_states.pt", "mp_rank_00/x/model_optim_rng.pt", "",
        "mp_rank_00_model_states.pt\n",
    ],
)  # fmt: skip
def test_other_paths_have_no_rank(path: str) -> None:
    assert rank_file(path) is None
