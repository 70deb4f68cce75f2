"""What would run when somebody loads these files: findings, from descriptions alone.

Nothing is opened and nothing is run: parsers say which names a pickle imports, which classes a
configuration maps to code, what a template calls. This is the one place that makes findings of it,
for `hart scan`, for `hart add` and for a model's summary.

``danger`` is what does harm as soon as a file is loaded, or reaches where no model needs to.
``code`` runs if the reader allows it (``trust_remote_code``) or always does (templates) and may be
wanted. ``unknown`` is what nobody here can judge. Judgements are by name: a harmless name is no
proof, and nothing found is no promise.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any

import msgspec

from hartonomous.core.claims import clean
from hartonomous.core.description import Description
from hartonomous.core.item_names import INDEX_FORMAT, SHARD_FORMAT
from hartonomous.core.quantity import several

FINDINGS_A_FILE = 256
NAMES_SHOWN = 8
ONNX_RUNTIME_DOMAINS = frozenset({"com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml"})
"""Whose operators ONNX's own runtime has built in; those of others need a library."""
_TEXT_BYTES = 512

Member = tuple[str, Description]


class Severity(StrEnum):
    """How bad a finding is; see the module."""

    DANGER = "danger"
    CODE = "code"
    UNKNOWN = "unknown"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would run: how bad, of which kind, in which file, what.

    Kinds: ``pickle``, ``import`` (of a configuration), ``remote-code``, ``python-file``, ``script``
    (TorchScript), ``operator``, ``template``, ``lambda``.
    """

    severity: Severity
    kind: str
    file: str
    text: str


_ORDER = {Severity.DANGER: 0, Severity.CODE: 1, Severity.UNKNOWN: 2}
_PICKLE_ENDINGS = (
    ".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".joblib", ".distcp", ".dill", ".sav",
)  # fmt: skip
_UNREAD = ("not taken as torch-", "not taken as pickle", "structure not read")
_READ_FOR_NAMES = frozenset({"pickle", "npy", "npz"})
_PICKLED_FORMATS = _READ_FOR_NAMES | {"torch-zip", "torch-legacy", SHARD_FORMAT, INDEX_FORMAT}
_KERAS_FORMATS = frozenset({"keras", "hdf5"})
_TEMPLATE_FORMATS = frozenset({"gguf", "hf-tokenizer-config", "hf-chat-template", "jinja"})
_CONFIG_FORMATS = frozenset(
    {
        "hf-config", "hf-generation-config", "hf-tokenizer-config", "hf-preprocessor-config",
        "hf-adapter-config",
    }
)  # fmt: skip
_LIBRARIES = frozenset(
    {
        "diffusers", "transformers", "optimum", "onnxruntime", "tokenizers",
        "sentence_transformers", "peft", "stable_diffusion", "open_clip",
    }
)  # fmt: skip


def find_code(members: Iterable[Member]) -> list[Finding]:
    """Return what would run, the worst first, then by file; at most 256 findings a file."""
    found: list[Finding] = []
    for path, description in members:
        found += islice(_in_file(path, description), FINDINGS_A_FILE)
    return sorted(found, key=lambda one: (_ORDER[one.severity], one.file, one.kind, one.text))


def counts_of(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity."""
    return {one.value: sum(found.severity is one for found in findings) for one in Severity}


def warning(findings: Sequence[Finding]) -> str | None:
    """Return one line about what would run; None if nothing of it needs one.

    What templates call and Python files are common; what is unknown has a notice at its file.
    """
    if not any(_is_worth_a_line(one) for one in findings):
        return None
    told = [one for one in findings if one.severity is Severity.DANGER or one.kind != "template"]
    counts = counts_of(told)
    words = [
        several(counts["danger"], "danger", "dangers"),
        several(counts["code"], "piece of code", "pieces of code"),
        several(counts["unknown"], "unknown", "unknowns"),
    ]
    listed = ", ".join(word for word in words if not word.startswith("0 "))
    return f"loading this may run code ({listed}), 'hart scan' tells: {told[0].text}"


def notices_of(members: Sequence[Member]) -> list[str]:
    """Return the lines that an add tells: code that loading runs, then what each file has."""
    code = warning(find_code(members))
    told = [
        f"{path}: {one.text}"
        for path, description in members
        for one in description.notices
        if one.kind != "dangerous-pickle"  # the warning tells it
    ]
    return told if code is None else [code, *told]


def _is_worth_a_line(one: Finding) -> bool:
    if one.severity is Severity.CODE:
        return one.kind not in ("template", "python-file")
    return one.severity is Severity.DANGER


def _in_file(path: str, description: Description) -> Iterator[Finding]:
    told: object = description.metadata  # a stored manifest may hold any JSON here
    metadata = told if isinstance(told, Mapping) else {}
    if description.format in _PICKLED_FORMATS:
        yield from _names(path, metadata.get("globals"))
    yield from _unread(path, description, metadata)
    if description.format in _CONFIG_FORMATS:
        yield from _mapped(path, metadata)
    if description.format == "hf-pipeline":
        yield from _pipeline(path, metadata)
    if description.format == "hf-sentence-modules":
        yield from _modules(path, metadata.get("modules"))
    if description.format in _TEMPLATE_FORMATS:
        yield from _templates(path, metadata.get("_chat_templates"))
    if path.lower().endswith(".py"):
        text = "Python code beside the model, which runs where something imports it"
        yield _finding(Severity.CODE, "python-file", path, text)
    custom = metadata.get("custom_operators") if description.format == "onnx" else None
    for domain in custom if isinstance(custom, Mapping) else ():
        if domain in ONNX_RUNTIME_DOMAINS:
            continue
        text = f"operators of the domain {domain!a} need a library of their own, which would run"
        yield _finding(Severity.CODE, "operator", path, text)
    if description.format == "torch-zip" and metadata.get("script_count"):
        text = "TorchScript, whose code runs where torch.jit.load and a call are used"
        yield _finding(Severity.CODE, "script", path, text)
    if description.format in _KERAS_FORMATS:
        yield from _names(path, metadata.get("globals"), "this configuration", "import")
        yield from _lambdas(path, metadata.get("lambda_layers"))


def _finding(severity: Severity, kind: str, path: str, text: str) -> Finding:
    shown = clean(text, _TEXT_BYTES)
    return Finding(severity=severity, kind=kind, file=clean(path), text=shown)


def _names(
    path: str, names: Any, what: str = "this pickle", kind: str = "pickle"
) -> Iterator[Finding]:
    """What a pickle or a configuration names, as ``formats.pickle_verdict`` lists it."""
    for one in names if isinstance(names, list | tuple) else ():
        name, verdict = (
            (one.get("name"), one.get("verdict")) if isinstance(one, Mapping) else ("", "")
        )
        if verdict == "dangerous":
            text = f"loading {what} would import or call {name}"
            yield _finding(Severity.DANGER, kind, path, text)
        elif verdict == "unknown":
            text = f"loading {what} would import or call {name}, which is not known"
            yield _finding(Severity.UNKNOWN, kind, path, text)


def _unread(path: str, description: Description, metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """A file that should hold a pickle and could not be read, in whole or in part."""
    broken = metadata.get("unread")
    if description.format in _READ_FOR_NAMES and isinstance(broken, str):
        text = f"the pickle was read in part only, the rest may call anything: {broken}"
        yield _finding(Severity.UNKNOWN, "pickle", path, text)
    if description.format != "file" or not path.lower().endswith(_PICKLE_ENDINGS):
        return
    for notice in description.notices:
        if notice.text.startswith(_UNREAD):
            text = f"what loading this would call is not known: {notice.text}"
            yield _finding(Severity.UNKNOWN, "pickle", path, text)
            return


def _mapped(path: str, metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Classes that a configuration maps to code of the folder or of another repository."""
    mapped = metadata.get("auto_map")
    for key, value in sorted(mapped.items()) if isinstance(mapped, Mapping) else ():
        for name in _texts(value):
            text = f"{key} is {name}, which runs where trust_remote_code is given"
            yield _finding(Severity.CODE, "remote-code", path, text)
    pipelines = metadata.get("custom_pipelines")
    for key, value in sorted(pipelines.items()) if isinstance(pipelines, Mapping) else ():
        for name in _texts(value.get("impl") if isinstance(value, Mapping) else None):
            text = f"the pipeline {key} is {name}, which runs where trust_remote_code is given"
            yield _finding(Severity.CODE, "remote-code", path, text)
    if metadata.get("trust_remote_code") is True:
        text = "it asks for trust_remote_code, with which code of the repository runs"
        yield _finding(Severity.CODE, "remote-code", path, text)
    adapted = metadata.get("auto_mapping")
    library = adapted.get("parent_library") if isinstance(adapted, Mapping) else None
    for name in _texts(library):
        text = f"loading the adapter imports {name}"
        yield _finding(Severity.CODE, "remote-code", path, text)


def _pipeline(path: str, metadata: Mapping[str, Any]) -> Iterator[Finding]:
    """Parts of a diffusers pipeline that code of the folder makes."""
    own = metadata.get("_class_name")
    if isinstance(own, list | tuple):
        text = f"the pipeline is {'.'.join(_texts(own))}, code that is in the folder or elsewhere"
        yield _finding(Severity.CODE, "remote-code", path, text)
    for key, value in sorted(metadata.items()):
        words = _texts(value) if isinstance(value, list | tuple) else []
        if key.startswith("_") or len(words) != 2 or words[0].partition(".")[0] in _LIBRARIES:
            continue
        text = f"{key} is {words[1]} of {words[0]}, which loading would import"
        yield _finding(Severity.CODE, "remote-code", path, text)


def _modules(path: str, modules: Any) -> Iterator[Finding]:
    """Classes that sentence-transformers would import."""
    for one in modules if isinstance(modules, list | tuple) else ():
        for name in _texts(one.get("type") if isinstance(one, Mapping) else None):
            if name.partition(".")[0] not in _LIBRARIES:
                text = f"a module is {name}, which loading would import"
                yield _finding(Severity.CODE, "remote-code", path, text)


def _templates(path: str, templates: Any) -> Iterator[Finding]:
    """Chat templates, as ``core.template`` reads them."""
    for one in templates if isinstance(templates, list | tuple) else ():
        if not isinstance(one, Mapping):
            continue
        name = one.get("name")
        which = "the chat template" + (f" {name!a}" if name not in (None, "default") else "")
        for danger in _texts(one.get("dangers")):
            yield _finding(Severity.DANGER, "template", path, f"{which}: {danger}")
        calls = _texts(one.get("calls"))
        if calls:
            more = len(calls) - NAMES_SHOWN
            shown = ", ".join(calls[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
            yield _finding(Severity.CODE, "template", path, f"{which} calls {shown}")


def _lambdas(path: str, layers: Any) -> Iterator[Finding]:
    """Lambda layers of Keras: ``[{"name", "bytecode"}]``."""
    for one in layers if isinstance(layers, list | tuple) else ():
        if not isinstance(one, Mapping):
            continue
        name = f" {one['name']!a}" if isinstance(one.get("name"), str) else ""
        if one.get("bytecode") is False:
            text = f"the Lambda layer{name} calls a function that the reader must register"
            yield _finding(Severity.CODE, "lambda", path, text)
        else:
            what = "is" if one.get("bytecode") is True else "may be"
            text = f"the Lambda layer{name} {what} Python bytecode, which runs without safe_mode"
            yield _finding(Severity.DANGER, "lambda", path, text)


def _texts(value: Any) -> list[str]:
    """Return the texts of a list, or a text alone."""
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []
