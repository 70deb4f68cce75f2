"""Files that the ranks of a training run write, told by their paths: DeepSpeed's and Megatron's.

========================================================  =====================================
path                                                      what it holds
========================================================  =====================================
mp_rank_TT_model_states.pt                                DeepSpeed: the weights of a tensor rank
zero_pp_rank_D_mp_rank_TT_model_states.pt                 the same of a data rank (ZeRO 3)
zero_pp_rank_D_mp_rank_TT_optim_states.pt                 its part of the optimizer's state;
                                                          also with bf16_ or fp16_ before it
layer_LL-model_TT-model_states.pt                         one layer of a pipeline
[layer_LL_]expert_E_mp_rank_TT_model_states.pt            one expert
mp_rank_TT[_PPP[_EEE]]/model_optim_rng.pt and the like    Megatron: tensor, pipeline and expert
                                                          rank
========================================================  =====================================

Names of tensors repeat from rank to rank, each time with another part of the tensor.
"""

import re
from typing import Any

import msgspec

DEEPSPEED = "deepspeed"
MEGATRON = "megatron"

_NUMBER = r"\d{1,6}"
_DEEPSPEED = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:(?:bf16_|fp16_)?zero_pp_rank_(?P<data>{_NUMBER})_)mp_rank_(?P<tensor>{_NUMBER})"
        r"_(?:optim|model)_states\.pt",
        rf"mp_rank_(?P<tensor>{_NUMBER})_(?:optim|model)_states\.pt",
        rf"layer_(?P<layer>{_NUMBER})-model_(?P<tensor>{_NUMBER})-model_states\.pt",
        rf"(?:layer_(?P<layer>{_NUMBER})_)?expert_(?P<expert>{_NUMBER})_mp_rank_(?P<tensor>{_NUMBER})"
        r"_(?:optim|model)_states\.pt",
    )
)
_MEGATRON_FOLDER = re.compile(
    rf"mp_rank_(?P<tensor>{_NUMBER})(?:_(?P<pipeline>{_NUMBER}))?(?:_(?P<expert>{_NUMBER}))?"
)
_MEGATRON_FILE = re.compile(
    r"(?:model_optim_rng|model_rng|model_weights|distrib_optim|optim|model|weights)\.(?:pt|pth|ckpt)"
)


class RankFile(msgspec.Struct, frozen=True, kw_only=True):
    """Whose file it is; ``home`` is the checkpoint's folder inside the artifact.

    Ranks are None where the path does not tell them.
    """

    kind: str
    home: str
    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    expert: int | None = None


def rank_file(path: str) -> RankFile | None:
    """Return what the path tells of a rank's file; None for any other file."""
    folder, _, file = path.rpartition("/")
    for pattern in _DEEPSPEED:
        found = pattern.fullmatch(file)
        if found is not None:
            return RankFile(kind=DEEPSPEED, home=folder, **_ranks(found.groupdict()))
    home, _, last = folder.rpartition("/")
    ranks = _MEGATRON_FOLDER.fullmatch(last)
    if ranks is None or _MEGATRON_FILE.fullmatch(file) is None:
        return None
    return RankFile(kind=MEGATRON, home=home, **_ranks(ranks.groupdict()))


def is_megatron_folder(name: str) -> bool:
    """Say whether a folder is called as Megatron calls that of a rank."""
    return _MEGATRON_FOLDER.fullmatch(name) is not None


def _ranks(found: dict[str, Any]) -> dict[str, int]:
    return {key: int(text) for key, text in found.items() if text is not None and key != "layer"}
