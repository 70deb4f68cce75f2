"""Runs a graph on onnxruntime, on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hartonomous.errors import HartonomousError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_VECTOR_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)")
_HINT = "the graph of this encoder cannot be used as it is: fetch it again, or export it anew"


class OnnxSession:
    """One loaded graph. ``path`` may be that of a descriptor below /proc/self/fd."""

    def __init__(self, path: str, *, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)  # what fails is raised, and said by us
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The arena keeps the largest sizes ever asked for; texts differ in length.
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise UsageError(
                f"onnxruntime does not load the graph: {_first_line(error)}", hint=_HINT
            ) from error
        self.inputs = {one.name: one for one in self._session.get_inputs()}
        self.outputs = {one.name: one for one in self._session.get_outputs()}

    def run(self, output: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return one output; raises HartonomousError when the graph fails."""
        import numpy as np

        try:
            found = self._session.run([output], dict(inputs))[0]
        except Exception as error:
            raise HartonomousError(
                f"the graph does not run: {_first_line(error)}", hint=_HINT
            ) from error
        return np.asarray(found, np.float32)

    def chosen_output(self, *names: str) -> tuple[str, int]:
        """Return (name, rank) of the first of ``names`` that there is, else of the first output.

        Raises UsageError where that gives no numbers of floating point.
        """
        name = next((one for one in names if one in self.outputs), next(iter(self.outputs)))
        kind = self.outputs[name].type
        if kind not in _VECTOR_TYPES:
            raise UsageError(
                f"the graph's output {name[:80]} is {kind[:80]}, and vectors have numbers of "
                "floating point",
                hint="export the graph so that its first output is the vectors",
            )
        return name, len(self.outputs[name].shape)


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return "".join(one if one.isprintable() else "?" for one in lines[0][:300])
