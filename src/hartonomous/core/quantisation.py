"""Quantisation of a model: the method and its bits, as files declare and tensors show it."""

import re
from collections import Counter
from collections.abc import Sequence

import msgspec

from hartonomous.core.claims import Claims, NoticeLog, Scalar
from hartonomous.core.dtype import DTYPES
from hartonomous.core.packed_weight import is_packed
from hartonomous.core.role import QUANTISATION
from hartonomous.core.weight import Weight, bounded_sum

# llama.h: enum llama_ftype, without MOSTLY_; numbers that were withdrawn keep their old names.
FILE_TYPES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "Q4_1_SOME_F16", 5: "Q4_2", 6: "Q4_3",
    7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    33: "Q4_0_4_4", 34: "Q4_0_4_8", 35: "Q4_0_8_8", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
    39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""Names of GGUF's ``general.file_type``."""
_PLAIN_FILE_TYPES = (None, "F32", "F16", "BF16")
_GUESSED = 1024  # a flag of llama_ftype: the file did not say, the loader guessed

_CONFIG_KEYS = (
    "bits", "group_size", "desc_act", "sym", "zero_point", "version", "format", "checkpoint_format",
    "quant_type", "load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant", "llm_int8_threshold", "activation_scheme", "fmt",
    "kv_cache_scheme", "true_sequential", "damp_percent", "quant_algo", "weight_bits", "nbits",
)  # fmt: skip
_BIT_KEYS = ("bits", "w_bit", "weight_bits", "nbits", "num_bits")
_GROUP_KEYS = ("group_size", "q_group_size")
_DTYPE_BITS = re.compile(r"(?:I?Q|TQ|MXFP|NVFP|F)(\d+)")


class Quantisation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How weights were quantised. ``bits`` are those of the method, without scales.

    ``group_size`` is how many weights share a scale; absent where whole rows or blocks do.
    ``file_type`` is the name that GGUF gives the mixture (``Q4_K_M``); ``config`` is a bounded part
    of the configuration's ``quantization_config``.
    """

    method: str | None = None
    bits: int | None = None
    group_size: int | None = None
    file_type: str | None = None
    config: dict[str, Scalar] = {}


def find_quantisation(
    weights: Sequence[Weight], declared: Claims, gguf: Claims, log: NoticeLog
) -> Quantisation | None:
    """Return how the model was quantised, or None for plain weights.

    ``declared`` is the configuration's ``quantization_config``; its word comes first, then what
    the tensors' types and names show.
    """
    subset = {key: declared.scalar(key) for key in _CONFIG_KEYS}
    subset["weight_block_size"] = declared.extents("weight_block_size")
    method = declared.text("quant_method") or declared.text("quant_algo")
    if method is None and "w_bit" in declared:
        method = "awq"  # whose file of its own says bits, group size and version only
    inner = _weights_of(declared)
    by_tensors, bits = _seen_in(weights)
    found = Quantisation(
        method=method.lower() if method else by_tensors,
        bits=_declared_bits(declared) or _declared_bits(inner) or bits,
        group_size=_group_size(declared) or _group_size(inner),
        file_type=_file_type(gguf, log),
        config={key: value for key, value in subset.items() if value is not None},
    )
    is_plain = found.method is None and found.bits is None and not found.config
    return None if is_plain and found.file_type in _PLAIN_FILE_TYPES else found


def bits_per_weight(weights: Sequence[Weight]) -> float | None:
    """Return the stored bits of a parameter, scales included; None if it cannot be told."""
    kept = [weight for weight in weights if weight.parameter_count or weight.role in QUANTISATION]
    parameters = bounded_sum(weight.parameter_count for weight in kept)
    if not parameters or is_packed(kept):
        return None
    return round(8 * bounded_sum(weight.size_bytes for weight in kept) / parameters, 4)


def _weights_of(declared: Claims) -> Claims:
    """Return what compressed-tensors says of the weights of its first group."""
    return declared.part("config_groups").part("group_0").part("weights")


def _group_size(declared: Claims) -> int | None:
    """Return the weights a scale; -1 and null stand for a whole row, which is no group."""
    found = next((size for key in _GROUP_KEYS if (size := declared.scalar(key))), None)
    return found if type(found) is int else None


def _declared_bits(declared: Claims) -> int | None:
    bits = declared.count(*_BIT_KEYS)
    if bits is None and declared.scalar("load_in_4bit") is True:
        return 4
    if bits is None and declared.scalar("load_in_8bit") is True:
        return 8
    return bits if bits is None or 1 <= bits <= 64 else None


def _seen_in(weights: Sequence[Weight]) -> tuple[str | None, int | None]:
    """Return method and bits as the tensors show them."""
    shares: Counter[str] = Counter()
    for weight in weights:
        shares[weight.tensor.dtype] += weight.parameter_count
    ggml = [name for name in shares if name in DTYPES and DTYPES[name].kind == "quantised"]
    if ggml:
        return "ggml", _bits_of(max(ggml, key=lambda name: (shares[name], name)))
    eight = sum(count for name, count in shares.items() if name.startswith("F8_"))
    if eight and 2 * eight > sum(shares.values()):
        return "fp8", 8
    if any(weight.name.endswith(".absmax") for weight in weights):
        return "bitsandbytes", None
    if any(weight.name.endswith(".g_idx") for weight in weights):
        return "gptq", None
    return None, None


def _bits_of(dtype: str) -> int | None:
    found = _DTYPE_BITS.match(dtype)
    return int(found[1]) if found else None


def _file_type(gguf: Claims, log: NoticeLog) -> str | None:
    number = gguf.count("general.file_type")
    if number is None:
        return None
    name = FILE_TYPES.get(number & ~_GUESSED)
    if name is None:
        log.add("metadata", f"{gguf.origin}: general.file_type {number} is unknown")
    return name
