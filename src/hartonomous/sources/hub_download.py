"""Fetches what an encoder needs of a model on the Hugging Face hub, with its own client.

``huggingface_hub`` (the extra ``hub``) honours ``HF_ENDPOINT``, ``HF_HOME`` and the user's token.
Of a repository only files are fetched that may compute: settings, the tokenizer, and weights in one
format.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from hartonomous.errors import HartonomousError, NotFoundError, UsageError

HUB_PREFIX = "hf:"

_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_SETTINGS = re.compile(
    r"(?:[0-9]+_[A-Za-z]+/)?[^/]+\.json|vocab\.txt|merges\.txt|README\.md|LICENSE[^/]*|\.gitattributes"
)
_SAFETENSORS = re.compile(r"(?:[0-9]+_[A-Za-z]+/)?model(?:-[0-9]{5}-of-[0-9]{5})?\.safetensors")
_TORCH = re.compile(r"(?:[0-9]+_[A-Za-z]+/)?pytorch_model(?:-[0-9]{5}-of-[0-9]{5})?\.bin")
_MOST_FILES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class HubName:
    """A repository of models and a revision of it: a commit, a branch or a tag."""

    repository: str
    revision: str


def parse_hub_name(text: str) -> HubName:
    """Return what ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION`` means; raises UsageError."""
    name, mark, revision = text.removeprefix(HUB_PREFIX).partition("@")
    if not _NAME.fullmatch(name) or ".." in name or (mark and not _REVISION.fullmatch(revision)):
        raise UsageError(
            f"{text[:200]!r} names no model on a hub", hint="such as hf:ORG/NAME@REVISION"
        )
    return HubName(repository=name, revision=revision or "main")


def download(asked: HubName, folder: Path, quantisation: str) -> str:
    """Write the files into a new folder and return the commit that they are of.

    Raises UsageError where the extra is missing, NotFoundError for what the hub does not have or
    does not show, HartonomousError for what goes wrong on the way.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UsageError(
            "fetching from a hub needs huggingface_hub, which is not installed here",
            hint="pip install 'hartonomous[hub]'",
        ) from error
    try:
        told = huggingface_hub.HfApi().model_info(asked.repository, revision=asked.revision)
        paths = chosen_files([one.rfilename for one in told.siblings or []], quantisation)
        for path in paths:
            huggingface_hub.hf_hub_download(
                asked.repository, path, revision=told.sha, local_dir=folder
            )
    except errors.RepositoryNotFoundError as error:
        raise NotFoundError(
            f"the hub has no model {asked.repository}, or does not show it",
            hint="a gated model needs a token: hf auth login",
        ) from error
    except (errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise NotFoundError(
            f"the hub has no {asked.revision} of {asked.repository}, or not all of its files"
        ) from error
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:300]
        raise HartonomousError(
            f"{asked.repository} cannot be fetched: {type(error).__name__}: {reason}",
            hint="HF_ENDPOINT says which hub is asked",
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # what the client notes beside the files
    return str(told.sha)


def chosen_files(paths: list[str], quantisation: str) -> list[str]:
    """Return the paths of a repository that an encoder needs; raises UsageError for odd ones."""
    if len(paths) > _MOST_FILES:
        raise UsageError(f"the repository has {len(paths):,} files, which is no one model")
    for path in paths:
        if path.startswith("/") or ".." in path.split("/") or "\\" in path or os.sep * 2 in path:
            raise UsageError(f"the hub names a path that leads elsewhere: {path[:200]!a}")
    settings = [path for path in paths if _SETTINGS.fullmatch(path)]
    towers = _graphs(paths, ("text_model", "vision_model"), quantisation)
    if len(towers) == 2:
        return settings + towers
    weights: dict[str, list[str]] = {}
    for kind in (_SAFETENSORS, _TORCH):  # of each folder's, the first kind that there is
        found = [path for path in paths if kind.fullmatch(path)]
        for folder in {path.rpartition("/")[0] for path in found} - set(weights):
            weights[folder] = [path for path in found if path.rpartition("/")[0] == folder]
    chosen = settings + [path for folder in sorted(weights) for path in weights[folder]]
    if any(not folder.endswith("_Dense") for folder in weights):
        return chosen
    return chosen + _graphs(paths, ("model",), quantisation)


def _graphs(paths: list[str], stems: tuple[str, ...], quantisation: str) -> list[str]:
    endings = ("",) if quantisation == "f32" else ("_quantized", "_int8")
    found = []
    for stem in stems:
        names = [f"{place}{stem}{end}.onnx" for end in endings for place in ("onnx/", "")]
        found += [name for name in names if name in paths][:1]
    return found
