"""PyTorch's element types and storages by name, as names of ``core.dtype``."""

from typing import Final

from hartonomous.core.dtype import DTYPES

DTYPE_NAMES: Final = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16",
    "half": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16", "short": "I16",
    "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "complex64": "C64", "cfloat": "C64", "complex128": "C128", "cdouble": "C128",
    "complex32": "complex32", "chalf": "complex32", "float4_e2m1fn_x2": "float4_e2m1fn_x2",
    "bits8": "bits8", "bits16": "bits16", "bits1x8": "bits1x8", "bits2x4": "bits2x4",
    "bits4x2": "bits4x2",
    "qint8": "qint8", "quint8": "quint8", "qint32": "qint32", "quint4x2": "quint4x2",
    "quint2x4": "quint2x4",
}  # fmt: skip
"""Names in ``torch``; those that ``core.dtype`` does not have stand for themselves."""

STORAGE_DTYPES: Final = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32", "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "U8",
}  # fmt: skip

STORAGE_MODULES: Final = frozenset({"torch", "torch.storage", "torch.cuda"})

_OTHER_SIZES = {
    "complex32": 4, "float4_e2m1fn_x2": 1, "bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1,
    "bits4x2": 1, "qint8": 1, "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1,
}  # fmt: skip

QUANTISED: Final = frozenset({"qint8", "quint8", "qint32", "quint4x2", "quint2x4"})
"""Values need a scale and a zero point that lie in the pickle, beside the storage."""

# As numpy writes such types, which is what other formats call them; numpy has no bfloat16.
_BIG_ENDIAN = {
    "F64": ">f8", "F32": ">f4", "F16": ">f2", "BF16": ">bf16", "I64": ">i8", "I32": ">i4",
    "I16": ">i2", "U64": ">u8", "U32": ">u4", "U16": ">u2", "C64": ">c8", "C128": ">c16",
    "complex32": ">complex32", "bits16": ">bits16",
}  # fmt: skip


def element_bytes(dtype: str) -> int:
    """Return the bytes of one element of a type of this module."""
    return DTYPES[dtype].block_bytes if dtype in DTYPES else _OTHER_SIZES[dtype]


def big_endian(dtype: str) -> str:
    """Return what a type is called whose elements lie with the highest byte first."""
    return _BIG_ENDIAN.get(dtype, dtype)
