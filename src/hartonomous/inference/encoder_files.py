"""What the files of a folder say of its encoder: layouts of sentence-transformers and Hugging Face.

Files are read through a mapping of paths, never from a disk, so that an encoder runs from the
store. A path that a file names is looked up in that mapping and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeGuard

from hartonomous.errors import UsageError
from hartonomous.inference import bert_graph
from hartonomous.inference.dense import ACTIVATIONS
from hartonomous.inference.pooling import MODES
from hartonomous.inference.recipe import (
    DenseRecipe,
    EncoderRecipe,
    PictureRecipe,
    Quantisation,
    TextRecipe,
)

CONFIG_LIMIT_BYTES = 4 << 20
TOKENIZER_LIMIT_BYTES = 128 << 20

_MOST_TOKENS = 32_768
_MOST_DENSE_NUMBERS = 1 << 24
_MOST_PIXELS = 4_096
_MOST_FACTOR = 1e6
_MOST_PROMPT_CHARS = 4_000
_NO_LIMIT = 1_000_000  # tokenizers say 1e30 where there is none
_DEFAULT_TOKENS = 512
_SHOWN_CHARS = 200  # of what a file says, in messages
_SIGLIP_PADDING = 1  # SiglipTextConfig's
_WEIGHTS = re.compile(r"(model|pytorch_model)(-[0-9]{5}-of-[0-9]{5})?\.(safetensors|bin)")
_INT8_GRAPHS = ("model_quantized", "model_int8", "model_qint8_avx512_vnni", "model_qint8_avx512",
                "model_quint8_avx2")  # fmt: skip
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean", "pooling_mode_mean_sqrt_len_tokens": "mean-sqrt",
    "pooling_mode_weightedmean_tokens": "weighted-mean", "pooling_mode_lasttoken": "last",
}  # fmt: skip
_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
_METRICS = {"cosine": "cosine", "dot": "dot", "dot_product": "dot", "euclidean": "euclidean"}


class StoredBytes(Protocol):
    """One file's bytes by range."""

    @property
    def size(self) -> int:
        """Its length."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``."""
        ...


Files = Mapping[str, StoredBytes]


def read_recipe(files: Files, quantisation: Quantisation) -> EncoderRecipe:
    """Return what a folder's files say; raises UsageError for what is no encoder, and says why."""
    config = read_json(files, "config.json") if "config.json" in files else {}
    if _has(files, "vision_model") and _has(files, "text_model"):
        return _Towers(files, config, quantisation).recipe()
    return _Sentences(files, config, quantisation).recipe()


def read_json(files: Files, path: str, *, limit_bytes: int = CONFIG_LIMIT_BYTES) -> dict[str, Any]:
    """Return a JSON object; raises UsageError for anything else."""
    try:
        found = json.loads(read_whole(files, path, limit_bytes))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON that can be read") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} holds no JSON object")
    return found


def read_whole(files: Files, path: str, limit_bytes: int) -> bytes:
    """Return a file's bytes; raises UsageError where there is none or it is too long."""
    if path not in files:
        raise UsageError(f"the encoder has no file {path[:_SHOWN_CHARS]}")
    if files[path].size > limit_bytes:
        raise UsageError(f"{path} is over {limit_bytes:,} bytes")
    return files[path].read(0, files[path].size)


class _Steps(NamedTuple):
    """What ``modules.json`` says; ``folder`` is the model's."""

    folder: str = ""
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    dense: tuple[DenseRecipe, ...] = ()
    normalise: bool = False
    pooled: object = None
    """How many numbers the pooling says that a token's vector has; None where it does not."""


class _Sentences:
    """Reads a folder with one model of texts."""

    def __init__(self, files: Files, config: dict[str, Any], quantisation: Quantisation) -> None:
        self.files, self.config, self.quantisation = files, config, quantisation
        self.read = {"config.json"} & set(files)

    def recipe(self) -> EncoderRecipe:
        steps = self._modules()
        folder, pooling = steps.folder, steps.pooling
        if folder:
            self.config = self._json(f"{folder}config.json")
        weights, graph = self._computing(folder)
        if weights and steps.pooled is not None:
            hidden = bert_graph.read_shape(self.config).hidden
            if not _is_whole(steps.pooled) or steps.pooled != hidden:
                raise UsageError(
                    f"the pooling's config.json has word_embedding_dimension {steps.pooled!r:.40}, "
                    f"and the model has {hidden}",
                    hint="one of the two files is another model's",
                )
        tokenizer, tokenizer_config = find_tokenizer(self.files, folder)
        told = self._optional("config_sentence_transformers.json")
        query, passage = _prompts(told)
        text = TextRecipe(
            max_tokens=self._max_tokens(folder, tokenizer_config, built=bool(weights)),
            pooling=pooling,
            normalise=steps.normalise,
            query_prompt=query,
            passage_prompt=passage,
            include_prompt=steps.include_prompt,
            padding_id=_padding_id(self.config),
            dense=steps.dense,
        )
        self.read |= {tokenizer, f"{folder}tokenizer_config.json"} & set(self.files)
        return EncoderRecipe(
            quantisation=self.quantisation,
            metric=_metric(told),
            text=text,
            text_graph=graph,
            weights=weights,
            tokenizer=tokenizer,
            files=tuple(sorted({*self.read, *weights, *([graph] if graph else [])})),
        )

    def _modules(self) -> _Steps:
        """Return what ``modules.json`` says; the mean of a plain model where there is none."""
        if "modules.json" not in self.files:
            return _Steps()
        self.read.add("modules.json")
        try:
            modules = json.loads(read_whole(self.files, "modules.json", CONFIG_LIMIT_BYTES))
            steps = [(str(one["type"]).rsplit(".", 1)[-1], _said(one["path"])) for one in modules]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise UsageError("modules.json is no list of modules") from error
        found, last = _Steps(), -1
        for kind, path in steps:
            if kind not in _MODULES:
                raise UsageError(
                    f"modules.json has a module {kind[:60]!r}, which is not known here",
                    hint=f"known are {', '.join(_MODULES)}",
                )
            if _MODULES.index(kind) < last:
                raise UsageError(
                    f"modules.json has {kind} behind {_MODULES[last]}, which is not known here",
                    hint=f"the order is {', '.join(_MODULES)}",
                )
            last = _MODULES.index(kind)
            if kind == "Transformer":
                found = found._replace(folder=f"{path}/" if path else "")
            elif kind == "Pooling":
                told = self._json(f"{path}/config.json")
                pooling, include = _pooling(told)
                found = found._replace(
                    pooling=pooling, include_prompt=include,
                    pooled=told.get("word_embedding_dimension"),
                )  # fmt: skip
            elif kind == "Dense":
                found = found._replace(dense=(*found.dense, self._dense(path, found.dense)))
            else:
                found = found._replace(normalise=True)
        return found

    def _dense(self, path: str, before: tuple[DenseRecipe, ...]) -> DenseRecipe:
        """Return a Dense module, as its ``config.json`` tells it; raises UsageError."""
        told = self._json(f"{path}/config.json")
        inputs, outputs = told.get("in_features"), told.get("out_features")
        sizes = [one for one in (inputs, outputs) if _is_whole(one) and one > 0]
        held = sum(one.inputs * one.outputs for one in before)
        fits = len(sizes) == 2 and held + sizes[0] * sizes[1] <= _MOST_DENSE_NUMBERS
        if not fits or (before and before[-1].outputs != sizes[0]):
            said = f"{inputs!r:.40}, {outputs!r:.40}"
            raise UsageError(f"{path}/config.json has sizes that fit no layer: {said}")
        named = str(told.get("activation_function", "Tanh"))
        activation = named.rpartition(".")[2]
        others = {told.get("module_input_name"), told.get("module_output_name")}
        if activation not in ACTIVATIONS or others - {None, "sentence_embedding"}:
            raise UsageError(
                f"{path}/config.json has the activation {named[:80]!r} or other inputs than one"
                " vector a text",
                hint=f"known are {', '.join(ACTIVATIONS)} on sentence_embedding",
            )
        files = _weights(self.files, f"{path}/")
        if len(files) != 1:
            raise UsageError(f"{path} has no file of weights", hint="such as model.safetensors")
        self.read.add(files[0])
        return DenseRecipe(
            weights=files[0], inputs=sizes[0], outputs=sizes[1],
            bias=told.get("bias") is not False, activation=activation,
        )  # fmt: skip

    def _computing(self, folder: str) -> tuple[tuple[str, ...], str]:
        """Return (the files of the weights, "") or ((), the path of a graph)."""
        weights = _weights(self.files, folder)
        refused = None
        if weights:
            try:
                bert_graph.read_shape(self.config)
            except UsageError as error:
                refused = error
            else:
                return weights, ""
        graph = find_graph(self.files, folder, "model", self.quantisation)
        if graph is None:
            raise refused or UsageError(
                "the folder has no model that computes vectors",
                hint="it needs model.safetensors of a BERT-type model with its config.json, or "
                "onnx/model.onnx",
            )
        return (), graph

    def _max_tokens(self, folder: str, tokenizer: dict[str, Any], *, built: bool) -> int:
        """Return the model's own limit: what sentence-transformers says, else the tokenizer."""
        limits = [_MOST_TOKENS]
        if built:
            limits.append(bert_graph.read_shape(self.config).most_tokens)
        own = self._optional(f"{folder}sentence_bert_config.json").get("max_seq_length")
        if _is_whole(own) and own > 0:
            return min(*limits, own)
        said = [tokenizer.get("model_max_length"), self.config.get("max_position_embeddings")]
        limits += [int(one) for one in said if isinstance(one, int | float) and 0 < one < _NO_LIMIT]
        return min(limits) if len(limits) > 1 else _DEFAULT_TOKENS

    def _json(self, path: str) -> dict[str, Any]:
        self.read.add(path)
        return read_json(self.files, path)

    def _optional(self, path: str) -> dict[str, Any]:
        return self._json(path) if path in self.files else {}


class _Towers:
    """Reads a folder with two graphs, one of texts and one of pictures: CLIP and SigLIP."""

    def __init__(self, files: Files, config: dict[str, Any], quantisation: Quantisation) -> None:
        self.files, self.config, self.quantisation = files, config, quantisation

    def recipe(self) -> EncoderRecipe:
        text, picture = (
            find_graph(self.files, "", stem, self.quantisation)
            for stem in ("text_model", "vision_model")
        )
        if text is None or picture is None:
            raise UsageError(
                f"the folder has no graphs in {self.quantisation}",
                hint="onnx/text_model.onnx and onnx/vision_model.onnx are f32",
            )
        tokenizer, tokenizer_config = find_tokenizer(self.files, "")
        siglip = str(self.config.get("model_type", "")).startswith("siglip")
        within = self.config.get("text_config")
        inner = within if isinstance(within, dict) else {}
        limits = [inner.get("max_position_embeddings"), tokenizer_config.get("model_max_length")]
        known = [int(one) for one in limits if isinstance(one, int | float) and 0 < one < _NO_LIMIT]
        recipe = TextRecipe(
            max_tokens=min([_MOST_TOKENS, *known]) if known else 64 if siglip else 77,
            normalise=True,
            fixed_tokens=siglip,
            tower=True,
            padding_id=self._padding_id(tokenizer, tokenizer_config, inner)
            if siglip
            else _padding_id(inner or self.config),
        )
        read = {"config.json", "preprocessor_config.json", tokenizer, "tokenizer_config.json"}
        return EncoderRecipe(
            quantisation=self.quantisation,
            text=recipe,
            picture=read_preprocessing(read_json(self.files, "preprocessor_config.json")),
            text_graph=text,
            picture_graph=picture,
            tokenizer=tokenizer,
            files=tuple(sorted((read & set(self.files)) | {text, picture})),
        )

    def _padding_id(
        self, tokenizer: str, settings: Mapping[str, Any], inner: Mapping[str, Any]
    ) -> int:
        """Return what SigLIP fills texts up with, which counts there: there is no mask.

        The tokenizer's own token, else what the configuration says, else what transformers takes.
        """
        named = settings.get("pad_token")
        wanted = named.get("content") if isinstance(named, dict) else named
        if isinstance(wanted, str) and tokenizer.endswith(".json"):
            held = read_json(self.files, tokenizer, limit_bytes=TOKENIZER_LIMIT_BYTES)
            added = held.get("added_tokens")
            for one in added if isinstance(added, list) else ():
                if isinstance(one, dict) and one.get("content") == wanted:
                    return _padding_id({"pad_token_id": one.get("id")})
        return _padding_id({"pad_token_id": _SIGLIP_PADDING, **inner})


def read_preprocessing(told: Mapping[str, Any]) -> PictureRecipe:
    """Return what ``preprocessor_config.json`` says; raises UsageError."""
    size, crop = told.get("size"), told.get("crop_size")
    shortest = size.get("shortest_edge") if isinstance(size, dict) else None
    if isinstance(size, int):
        # Old files give one number: CLIP's short side where it crops, else both sides.
        shortest = size if told.get("do_center_crop") else None
    cropping = bool(told.get("do_center_crop"))
    if not cropping and shortest is not None:
        raise UsageError("preprocessor_config.json resizes by the short side and does not crop")
    height, width = _extent(crop if cropping else size)
    if cropping and shortest is None and size is not None and _extent(size) != (height, width):
        raise UsageError(
            f"preprocessor_config.json resizes to {size!r:.60} and crops to {height} x {width}",
            hint="a crop is of that size, or of a picture resized by its short side",
        )
    scale = told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0
    shifted = told.get("do_normalize", True)
    return PictureRecipe(
        height=height,
        width=width,
        shortest_edge=None if shortest is None else _pixels(shortest),
        crop=cropping,
        resample=_within(told.get("resample", 3), 0, 5),
        scale=float(scale) if _is_factor(scale) else 1 / 255,
        mean=_three(told.get("image_mean"), 0.0) if shifted else (0.0, 0.0, 0.0),
        deviation=_divisors(told.get("image_std")) if shifted else (1.0, 1.0, 1.0),
        normalise=True,
    )


def find_tokenizer(files: Files, folder: str) -> tuple[str, dict[str, Any]]:
    """Return the path of the tokenizer's file and its settings; raises UsageError."""
    path = f"{folder}tokenizer_config.json"
    config = read_json(files, path) if path in files else {}
    for name in ("tokenizer.json", "vocab.txt"):
        if f"{folder}{name}" in files:
            return f"{folder}{name}", config
    raise UsageError("the folder has no tokenizer.json and no vocab.txt")


def find_graph(files: Files, folder: str, stem: str, quantisation: str) -> str | None:
    """Return the path of a graph of this quantisation, None where there is none."""
    names = [stem]
    if quantisation == "int8":
        names = [one.replace("model", stem, 1) for one in _INT8_GRAPHS]
    places = [f"{folder}onnx/", folder]
    return next(
        (f"{place}{name}.onnx" for name in names for place in places
         if f"{place}{name}.onnx" in files),
        None,
    )  # fmt: skip


def _has(files: Files, stem: str) -> bool:
    return any(find_graph(files, "", stem, one) is not None for one in ("f32", "int8"))


def _weights(files: Files, folder: str) -> tuple[str, ...]:
    """Return the files of the weights: safetensors before PyTorch's."""
    here = [path for path in files if path.startswith(folder) and "/" not in path[len(folder) :]]
    for ending in (".safetensors", ".bin"):
        found = [
            path for path in here
            if path.endswith(ending) and _WEIGHTS.fullmatch(path[len(folder) :])
        ]  # fmt: skip
        if found:
            return tuple(sorted(found))
    return ()


def _pooling(told: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    modes = tuple(mode for key, mode in _POOLING_KEYS.items() if told.get(key) is True)
    named = told.get("pooling_mode")
    if not modes and isinstance(named, str):
        given = {"lasttoken": "last", "weightedmean": "weighted-mean",
                 "mean_sqrt_len_tokens": "mean-sqrt"}.get(named, named)  # fmt: skip
        modes = (given,) if given in MODES else ()
    if not modes:
        raise UsageError("the pooling's config.json names no mode that is known here")
    return tuple(mode for mode in MODES if mode in modes), told.get("include_prompt") is not False


def _prompts(told: Mapping[str, Any]) -> tuple[str, str]:
    """Return (what is put before a query, what before a passage)."""
    prompts = told.get("prompts")
    known = prompts if isinstance(prompts, dict) else {}
    default = known.get(str(told.get("default_prompt_name")), "")
    query = known.get("query", default)
    passage = next(
        (known[one] for one in ("document", "passage", "corpus") if one in known), default
    )
    return _prompt(query), _prompt(passage)


def _prompt(given: object) -> str:
    if not isinstance(given, str) or len(given) > _MOST_PROMPT_CHARS or not _is_text(given):
        raise UsageError("config_sentence_transformers.json has a prompt that is no short text")
    return given


def _said(path: object) -> str:
    """Return a path that a file names; raises ValueError for what is none."""
    if not isinstance(path, str) or len(path) > _SHOWN_CHARS or not _is_text(path):
        raise ValueError("no path")
    return path


def _is_text(given: str) -> bool:
    """Say whether it can be written: JSON may spell halves of characters."""
    return not any("\ud800" <= one <= "\udfff" for one in given)


def _is_whole(value: object) -> TypeGuard[int]:
    """Say whether it is a whole number; to Python ``true`` is one too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _metric(told: Mapping[str, Any]) -> str:
    named = told.get("similarity_fn_name") or "cosine"
    if named not in _METRICS:
        raise UsageError(f"the model compares by {str(named)[:40]!r}, which is not known here")
    return _METRICS[named]


def _padding_id(config: Mapping[str, Any]) -> int:
    value = config.get("pad_token_id")
    return value if _is_whole(value) and 0 <= value < 1 << 31 else 0


def _extent(size: object) -> tuple[int, int]:
    if isinstance(size, dict):
        return _pixels(size.get("height")), _pixels(size.get("width"))
    return _pixels(size), _pixels(size)


def _pixels(value: object) -> int:
    return _within(value, 1, _MOST_PIXELS)


def _within(value: object, least: int, most: int) -> int:
    if not _is_whole(value) or not least <= value <= most:
        raise UsageError(f"preprocessor_config.json has an unusable number: {value!r:.60}")
    return value


def _three(value: object, default: float) -> tuple[float, float, float]:
    if value is None:
        return (default, default, default)
    if isinstance(value, list) and len(value) == 3 and all(map(_is_factor, value)):
        red, green, blue = map(float, value)
        return red, green, blue
    raise UsageError("preprocessor_config.json has no three numbers for the colours")


def _divisors(value: object) -> tuple[float, float, float]:
    found = _three(value, 1.0)
    if not all(found):
        raise UsageError("preprocessor_config.json divides the colours by 0")
    return found


def _is_factor(value: object) -> TypeGuard[float]:
    """Say whether it is a number that pixels, as float32, can be computed with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_MOST_FACTOR <= value <= _MOST_FACTOR
