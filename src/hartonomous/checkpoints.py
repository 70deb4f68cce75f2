"""Checkpoints of a training run: saved in the background, kept by a rule, given back as they were.

Above ``tensors`` and the store. A save copies the tensors into memory that is used again and again,
and returns; a thread of lower priority does the rest. One save is under way at a time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from hartonomous.core.closing import Closing
from hartonomous.core.given_tensor import is_tensor, is_torch, refuse_mask
from hartonomous.core.keep_rule import Held, parse_keep, surplus
from hartonomous.core.name import check_name
from hartonomous.core.state_tree import DEPTH_LIMIT, decode_state
from hartonomous.errors import NotFoundError, StructureError, UsageError
from hartonomous.opening import open_store
from hartonomous.operations.add import Added
from hartonomous.operations.checkpoints import SavedCheckpoint, saved_checkpoints
from hartonomous.packs.checkpoint_files import (
    OPTIMIZER_FILE,
    STATE_KEY,
    WEIGHTS_FILE,
    check_step,
)
from hartonomous.store import Store
from hartonomous.tensors import StorePlace, safe_open

_NICE = 10  # of the saving threads: the training goes first
_HEADER_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One checkpoint, loaded: tensors by name, and the optimizer's state as it was given.

    ``optimizer`` is None where none was saved, or where it was dropped.
    """

    step: int
    number: int
    model: dict[str, Any]
    optimizer: Any = None

    def __repr__(self) -> str:
        state = "without" if self.optimizer is None else "with"
        return f"<Checkpoint of step {self.step}: {len(self.model)} tensors, {state} optimizer>"


class Checkpoints(Closing):
    """The checkpoints of one run, versions of the artifact ``name``; use it as a context manager.

    ``keep`` says what stays: ``PART:all``, ``PART:N`` (of the newest N) or ``PART:every=K`` (of
    steps that K divides) for the parts ``weights`` and ``optimizer``. The newest checkpoint, and
    those with a label of your own, keep everything. What is dropped lies in the trash.

    Not for several threads. A store that was given open stays open. Raises UsageError.
    """

    _END_FAILED = "the last checkpoint was not saved either"

    def __init__(
        self,
        name: str,
        *,
        keep: str = "weights:all,optimizer:all",
        store: StorePlace = None,
        tags: tuple[str, ...] = (),
        metadata: dict[str, str] | None = None,
    ) -> None:
        self.name = check_name(name)
        self._rule = parse_keep(keep)
        self._tags = tags
        self._metadata = metadata or {}
        self._stack = ExitStack()
        opened = store if isinstance(store, Store) else self._stack.enter_context(open_store(store))
        self.store: Store = opened
        self._memory = _Memory()
        self._saving: _Saving | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Checkpoints({self.name!r}, store={str(self.store.path)!r})"

    # -- in

    def save(
        self,
        step: int,
        model: Any,
        optimizer: Any = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Copy the tensors and save them in the background, as soon as the last save is done.

        ``model`` and ``optimizer`` are dictionaries, or have a ``state_dict()``. What went wrong
        with the save before is raised here. The checkpoint is safe once ``wait`` or ``close``, or
        the next ``save``, has returned.
        """
        self._check_open()
        check_step(step)
        self.wait()
        weights = self._memory.copied(_state_of(model), "model")
        state = None if optimizer is None else self._memory.copied(_state_of(optimizer), "optim")
        told = {**self._metadata, **(metadata or {})}
        self._saving = _Saving(lambda: self._save(step, weights, state, told))

    def wait(self) -> Added | None:
        """Wait for the save under way and return what became of it; raises what it raised."""
        saving = self._saving
        if saving is None:
            return None
        saving.join()  # Ctrl-C here leaves it under way: the memory that it reads is still its own
        self._saving = None
        return saving.result()

    def close(self) -> None:
        """Wait for the last save; raises what it raised. Closes the store if it was opened here."""
        try:
            self.wait()
        finally:
            self._closed = True
            self._memory.clear()
            self._stack.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the checkpoints of {self.name!r} are closed")

    def _save(self, step: int, weights: Any, state: Any, metadata: dict[str, str]) -> Added:
        added = self.store.add_tensors(
            weights, self.name, optimizer=state, step=step, tags=self._tags, metadata=metadata
        )
        self._drop_surplus()
        return added

    def _drop_surplus(self) -> None:
        saved = saved_checkpoints(self.store.parts, self.name)
        held = [Held(step=one.step, parts=one.parts, protected=one.protected) for one in saved]
        for one, gone in zip(saved, surplus(self._rule, held), strict=True):
            spec = f"{self.name}@{one.number}"
            if gone and gone == one.parts:
                self.store.rm(spec)
            else:
                for part in sorted(gone):
                    self.store.drop(spec, part)

    # -- out

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are there, the oldest first."""
        return [one.step for one in self._saved()]

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, None where there is none."""
        steps = self.steps()
        return steps[-1] if steps else None

    def load(self, step: int | None = None, *, framework: str | None = None) -> Checkpoint:
        """Return the newest checkpoint, or the newest one of a step.

        Tensors are PyTorch's where they were when they were saved, else numpy's; ``framework``
        ("pt", "np") says otherwise. Raises NotFoundError, IntegrityError, UsageError.
        """
        found = [one for one in self._saved() if step is None or one.step == step]
        if not found:
            which = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise NotFoundError(
                f"{self.name!r} has no {which}", hint=f"hart ls --versions {self.name!r}"
            )
        newest = found[-1]
        spec = f"{self.name}@{newest.number}"
        if "weights" not in newest.parts:
            raise NotFoundError(
                f"the weights of step {newest.step} were dropped",
                hint="'hart show' tells which change did it and whether it can be undone",
            )
        model = self._tensors(spec, framework)
        state = self._state(spec, framework) if "optimizer" in newest.parts else None
        return Checkpoint(step=newest.step, number=newest.number, model=model, optimizer=state)

    def _saved(self) -> list[SavedCheckpoint]:
        self._check_open()
        self.wait()
        return saved_checkpoints(self.store.parts, self.name)

    def _tensors(self, spec: str, framework: str | None) -> dict[str, Any]:
        if not self.store.tensors(spec, member=WEIGHTS_FILE):
            return {}
        said = self._header(spec, WEIGHTS_FILE)
        with self._opened(spec, WEIGHTS_FILE, framework, said) as file:
            return file.get_tensors()

    def _state(self, spec: str, framework: str | None) -> Any:
        said = self._header(spec, OPTIMIZER_FILE)
        if STATE_KEY not in said:
            raise StructureError(f"{OPTIMIZER_FILE} of {spec} does not hold an optimizer's state")
        with ExitStack() as stack:
            opened: list[safe_open] = []

            def tensor(name: str) -> Any:
                if not opened:  # an optimizer's state may have no tensors
                    file = self._opened(spec, OPTIMIZER_FILE, framework, said)
                    opened.append(stack.enter_context(file))
                return opened[0].get_tensor(name)

            return decode_state(said[STATE_KEY], tensor)

    def _opened(
        self, spec: str, member: str, framework: str | None, said: dict[str, str]
    ) -> safe_open:
        chosen = framework or ("pt" if said.get("format") == "pt" else "np")
        return safe_open(spec, chosen, store=self.store, member=member)

    def _header(self, spec: str, member: str) -> dict[str, str]:
        """Return ``__metadata__`` from the file itself: a description holds short ones only."""
        with self.store.file(spec, member) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _HEADER_LIMIT_BYTES:
                raise StructureError(f"the header of {member} of {spec} has {length} bytes")
            content = file.read(length)
        try:
            found = json.loads(content).get("__metadata__") or {}
            return {str(key): str(value) for key, value in found.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise StructureError(f"{member} of {spec} is no safetensors file: {error}") from error

    # -- frameworks

    def callback(self, *, every: int | None = None) -> Any:
        """Return a ``TrainerCallback`` of transformers that saves model and optimizer here.

        With ``every`` after so many steps and at the end of the training; the Trainer's own files
        are then not needed (``save_strategy="no"``). Else whenever the Trainer itself saves.
        """
        try:
            from transformers import TrainerCallback
        except ModuleNotFoundError as error:
            raise UsageError(
                "a callback needs transformers, which is not installed",
                hint="pip install transformers, or call save() in the training loop",
            ) from error
        if every is not None and every < 1:
            raise UsageError(f"every={every} is no number of steps", hint="use 1 or more")
        return _make_callback(TrainerCallback, self, every)


class _Saving:
    """One save under way in a thread of its own."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self._added: Added | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            # Linux keeps this for each thread; those that are started from here inherit it.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        try:
            self._added = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self._error = error
        finally:
            self._work = None
            self._ended.set()

    def join(self) -> None:
        """Wait for the end."""
        self._ended.wait()  # a thread's join that Ctrl-C interrupted takes it for ended
        self._thread.join()

    def result(self) -> Added:
        """Return what became of it, once it has ended; raises what went wrong."""
        if self._error is not None:
            raise self._error
        assert self._added is not None
        return self._added


class _Memory:
    """Memory for copies of tensors, kept from one save to the next: fresh pages cost more."""

    def __init__(self) -> None:
        self._buffers: dict[str, Any] = {}
        self._fresh: dict[str, Any] = {}
        self._places: dict[object, Any] = {}

    def copied(self, state: Any, part: str) -> Any:
        """Return nested state whose tensors are copies; they hold until the next call."""
        self._fresh = {key: one for key, one in self._buffers.items() if not key.startswith(part)}
        self._places = {}
        found = self._copy(state, part, DEPTH_LIMIT)
        self._buffers, self._places = self._fresh, {}
        return found

    def clear(self) -> None:
        """Let go of it."""
        self._buffers.clear()

    def _copy(self, value: Any, path: str, depth: int) -> Any:
        if is_tensor(value):
            return self._torch_copy(value, path) if is_torch(value) else self._copy_of(value, path)
        if depth < 0:
            raise UsageError(f"the state is nested deeper than {DEPTH_LIMIT} at {path[:80]!r}")
        if isinstance(value, Mapping):
            return {
                key: self._copy(one, f"{path}/{key!r}", depth - 1) for key, one in value.items()
            }
        if type(value) in (list, tuple):
            return type(value)(
                self._copy(one, f"{path}/{at}", depth - 1) for at, one in enumerate(value)
            )
        return value

    def _copy_of(self, value: Any, path: str) -> Any:
        import numpy as np

        if isinstance(value, np.generic):
            return value
        refuse_mask(path, value)
        array = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
        buffer = self._buffers.get(path)
        if not isinstance(buffer, np.ndarray) or (buffer.shape, buffer.dtype) != (
            array.shape,
            array.dtype,
        ):
            buffer = np.empty(array.shape, array.dtype)
        np.copyto(buffer, array)
        self._fresh[path] = buffer
        return buffer

    def _torch_copy(self, tensor: Any, path: str) -> Any:
        import torch

        source: Any = tensor.detach()
        place: object = path
        if source.layout == torch.strided and source.numel():
            place = (
                source.device, source.data_ptr(), source.dtype, source.shape, source.stride(),
            )  # fmt: skip
        if place in self._places:  # tied weights are copied once
            return self._places[place]
        buffer: Any = self._buffers.get(path)
        if not is_torch(buffer) or (buffer.shape, buffer.dtype) != (source.shape, source.dtype):
            buffer = torch.empty(source.shape, dtype=source.dtype, device="cpu")
        buffer.copy_(source)
        self._fresh[path] = self._places[place] = buffer
        return buffer


def _state_of(value: Any) -> Any:
    """Return a dictionary as it is, of a module or an optimizer its state."""
    if isinstance(value, Mapping):
        return value
    state_dict = getattr(value, "state_dict", None)
    if not callable(state_dict):
        raise UsageError(
            f"a {type(value).__name__} is neither a dictionary nor has it a state_dict()",
            hint="give a module, an optimizer, or dictionaries of arrays",
        )
    return state_dict()


def _make_callback(base: Any, checkpoints: Checkpoints, every: int | None) -> Any:
    """Make the class here, because its base is there only when transformers is."""

    class CheckpointsCallback(base):  # type: ignore[misc]  # a base that is known when it runs
        """Saves into a store when the Trainer says so."""

        def on_save(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:
            """Save beside the Trainer's own checkpoint."""
            if every is None:
                self._save(state, given)

        def on_step_end(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:
            """Save after each so many steps."""
            if every is not None and state.global_step % every == 0:
                self._save(state, given)

        def on_train_end(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:
            """Save the end of the training, and wait for it."""
            if every is not None and state.global_step % every:
                self._save(state, given)
            checkpoints.wait()

        def _save(self, state: Any, given: dict[str, Any]) -> None:
            if state.is_world_process_zero:
                checkpoints.save(state.global_step, given["model"], given.get("optimizer"))

    return CheckpointsCallback()
