"""What msgspec raises for bytes that are not the JSON or MessagePack that they should be.

Texts that are no UTF-8 are told by Python's own error, and so is what is nested too deeply: a field
that nobody asked for may be.
"""

import msgspec

UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
