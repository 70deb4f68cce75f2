"""The bytes of a described tensor, decoded and put into C order."""

from hartonomous.core.array import as_array, as_strided_array
from hartonomous.core.coding import decoded
from hartonomous.core.description import Tensor


def values(content: bytes, tensor: Tensor) -> bytes:
    held = content[tensor.offset : tensor.offset + tensor.length]
    if tensor.coding is not None:
        held = b"".join(decoded([held], tensor.coding, tensor.dtype))
    if tensor.strides is None:
        return as_array(held, tensor.dtype, tensor.shape).tobytes()
    return as_strided_array(held, tensor.dtype, tensor.shape, tensor.strides).tobytes()
