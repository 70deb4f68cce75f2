"""A stored model as an encoder: its graph is built, or read, from the stored files and run.

The graph runs in a limited process of its own (``encoder_process``), one for each modality, started
when it is first needed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

import msgspec
import numpy as np

from hartonomous.catalog.manifests import ManifestRow
from hartonomous.core.digest import digest
from hartonomous.core.finding import ONNX_RUNTIME_DOMAINS
from hartonomous.core.space import MOST_DIMENSIONS, Space
from hartonomous.errors import HartonomousError, NotFoundError, UsageError
from hartonomous.inference import bert_graph, picture_encoder, tokens
from hartonomous.inference.dense import DenseWeights
from hartonomous.inference.encoder_files import (
    TOKENIZER_LIMIT_BYTES,
    find_tokenizer,
    read_json,
    read_recipe,
    read_whole,
)
from hartonomous.inference.recipe import (
    COMPUTED_BY,
    EncoderRecipe,
    PictureRecipe,
    Quantisation,
)
from hartonomous.objects.durable import storage_error
from hartonomous.packs.encoder_messages import Pixels, Request, Setup
from hartonomous.packs.encoder_process import EncoderProcess
from hartonomous.packs.files import FileReader
from hartonomous.packs.open_files import OpenFiles, VersionFiles
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.tensor_names import OpenModel, open_model
from hartonomous.packs.viewed_files import plain_copy

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REQUEST_TEXTS = 64
_REQUEST_PICTURES = 16
_REQUEST_PIXELS = 1 << 24
_GRAPH_LIMIT_BYTES = 2**31 - 1
_MOST_THREADS = 16


def open_files_as_encoder(
    parts: StoreParts,
    files: OpenFiles,
    version: VersionFiles,
    quantisation: Quantisation,
    name: str,
) -> StoredEncoder:
    """Open a version's files as an encoder, marked or not; raises UsageError for what is none."""
    stored = _StoredFiles(files, version)
    recipe = read_recipe(stored, quantisation)
    for path in (recipe.text_graph, recipe.picture_graph):
        if path:
            _check_graph(path, stored[path])
    return StoredEncoder(parts, files, version, stored=stored, recipe=recipe, name=name)


class _StoredFiles(Mapping[str, FileReader]):
    """A version's files by path."""

    def __init__(self, files: OpenFiles, version: VersionFiles) -> None:
        self._files = files
        self._rows = {one.path: one.row for one in version.files}

    def __getitem__(self, path: str) -> FileReader:
        return self._files.open(self._rows[path])

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, path: str) -> ManifestRow:
        """Return a file's row of the catalog."""
        return self._rows[path]


class _StoredWeights:
    """The tensors of some of a version's files, as float32."""

    def __init__(
        self, parts: StoreParts, files: OpenFiles, version: VersionFiles, paths: Sequence[str]
    ) -> None:
        self._models: list[OpenModel] = [
            open_model(parts, files, version.spec, member=path) for path in paths
        ]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return a tensor's shape, None where there is none of this name."""
        model = self._model(name)
        return None if model is None else model.place(name).shape

    def rows(self, name: str, start: int, stop: int) -> NDArray[np.float32]:
        """Return some rows of a tensor."""
        model = self._model(name)
        if model is None:
            raise NotFoundError(f"the weights have no tensor {name}")
        found = model.array(name, rows=(start, stop), dequantise=True)
        return np.asarray(found, np.float32)

    def _model(self, name: str) -> OpenModel | None:
        return next((one for one in self._models if name in one.places), None)


class StoredEncoder:
    """An ``Encoder`` (see ``ports.encoder``) that runs from stored files.

    ``dimensions`` has those modalities whose vectors' length is known; encoding adds to it.
    """

    def __init__(
        self,
        parts: StoreParts,
        files: OpenFiles,
        version: VersionFiles,
        *,
        stored: _StoredFiles,
        recipe: EncoderRecipe,
        name: str,
    ) -> None:
        self._parts, self._files, self._version = parts, files, version
        self._stored = stored
        self.recipe, self.name = recipe, name
        self.digest = _encoder_digest(recipe, stored)
        self.dimensions: dict[str, int] = {}
        self._processes: dict[str, EncoderProcess] = {}

    @property
    def modalities(self) -> tuple[str, ...]:
        """What it takes."""
        both = (("text", self.recipe.text), ("picture", self.recipe.picture))
        return tuple(name for name, recipe in both if recipe is not None)

    def space(self, modality: str) -> Space:
        """Return the space of its vectors for ``modality``; UsageError where it has none."""
        if modality not in self.modalities:
            raise UsageError(
                f"the encoder {self.name} takes no {modality}",
                hint=f"it takes {' and '.join(self.modalities)}",
            )
        if modality not in self.dimensions:
            raise UsageError(f"the dimension of {self.name} is known once it has encoded")
        text = self.recipe.text
        pooling = "graph"
        if modality == "text" and text is not None and not text.tower:
            pooling = "+".join(text.pooling)
        return Space(
            modality=modality,
            encoder=self.name,
            encoder_digest=self.digest,
            recipe=COMPUTED_BY,
            quantisation=self.recipe.quantisation,
            pooling=pooling,
            dimension=self.dimensions[modality],
            metric=self.recipe.metric,
            family=self.digest if len(self.modalities) > 1 else "",
        )

    def encode_texts(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """Return one row a text, shape [n, dimension]; ``query`` puts a query's prompt before."""
        given = [text[: tokens.TEXT_LIMIT_CHARS] for text in texts]
        return self._together("text", (
            Request(texts=tuple(given[at : at + _REQUEST_TEXTS]), query=query)
            for at in range(0, len(given), _REQUEST_TEXTS)
        ))  # fmt: skip

    def encode_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return one row a picture, shape [n, dimension]; pictures are uint8 [h, w, 3]."""
        recipe = self.recipe.picture
        if recipe is None:
            raise UsageError(f"the encoder {self.name} takes no pictures")
        each = max(1, min(_REQUEST_PICTURES, _REQUEST_PIXELS // (recipe.height * recipe.width)))
        return self._together("picture", (
            _fitted_request(pictures[at : at + each], recipe)
            for at in range(0, len(pictures), each)
        ))  # fmt: skip

    def close(self) -> None:
        """End its processes."""
        for process in self._processes.values():
            process.close()

    def _together(self, modality: str, requests: Iterator[Request]) -> NDArray[np.float32]:
        if modality not in self.modalities:
            raise UsageError(f"the encoder {self.name} takes no {modality}")
        rows = [self._process(modality).encode(one) for one in requests]
        if not rows:
            return np.zeros((0, self.dimensions.get(modality, 0)), np.float32)
        vectors = np.concatenate(rows)
        dimension = vectors.shape[1]
        if not 0 < dimension <= MOST_DIMENSIONS:
            raise HartonomousError(
                f"the encoder {self.name} gives vectors of {dimension} numbers",
                hint=f"a space has 1 to {MOST_DIMENSIONS}",
            )
        if self.dimensions.setdefault(modality, dimension) != dimension:
            raise HartonomousError(
                f"the encoder {self.name} gives vectors of {dimension} numbers where it gave "
                f"{self.dimensions[modality]} before"
            )
        return vectors

    def _process(self, modality: str) -> EncoderProcess:
        if modality not in self._processes:
            text = modality == "text"
            setup = Setup(
                graph_fd=-1,
                threads=min(self._parts.workers, _MOST_THREADS),
                memory_bytes=0,
                cpu_s=0,
                tokenizer=self._tokenizer() if text else b"",
                text=self.recipe.text if text else None,
                picture=None if text else self.recipe.picture,
                weights=self._dense() if text else (),
            )
            graph = self.recipe.text_graph if text else self.recipe.picture_graph
            make = (lambda: self._copied(graph)) if graph else self._built
            self._processes[modality] = EncoderProcess(setup, make)
        return self._processes[modality]

    def _tokenizer(self) -> bytes:
        path = self.recipe.tokenizer
        content = read_whole(self._stored, path, TOKENIZER_LIMIT_BYTES)
        if path.endswith(".json"):
            return content
        _, config = find_tokenizer(self._stored, path.removesuffix("vocab.txt"))
        return tokens.from_vocabulary(content, config)

    def _dense(self) -> tuple[DenseWeights, ...]:
        """Return the numbers of the layers behind the pooling; raises UsageError."""
        text = self.recipe.text
        found: list[DenseWeights] = []
        for one in text.dense if text is not None else ():
            weights = _StoredWeights(self._parts, self._files, self._version, [one.weights])
            wanted: dict[str, tuple[int, ...]] = {"linear.weight": (one.outputs, one.inputs)}
            if one.bias:
                wanted["linear.bias"] = (one.outputs,)
            for name, shape in wanted.items():
                if weights.shape(name) != shape:
                    raise UsageError(f"{one.weights} has no tensor {name} of shape {list(shape)}")
            held = [weights.rows(name, 0, one.outputs).astype("<f4").tobytes() for name in wanted]
            found.append(DenseWeights(weight=held[0], bias=held[1] if one.bias else b""))
        return tuple(found)

    def _copied(self, path: str) -> IO[bytes]:
        """Return a stored graph in a file without a name."""
        return plain_copy(self._parts, self._files, self._stored.row(path))

    def _built(self) -> IO[bytes]:
        """Return the graph that is built from the stored weights, in a file without a name."""
        folder = self.recipe.weights[0].rpartition("/")[0]
        config = read_json(self._stored, f"{folder}/config.json" if folder else "config.json")
        weights = _StoredWeights(self._parts, self._files, self._version, self.recipe.weights)
        graph = bert_graph.build(
            bert_graph.read_shape(config), weights, quantisation=self.recipe.quantisation
        )
        place = self._parts.directory / "tmp"
        try:
            with contextlib.ExitStack() as undo:
                file = undo.enter_context(tempfile.TemporaryFile(dir=place))
                graph.write(file.write)
                file.flush()
                undo.pop_all()
                return file
        except OSError as error:
            raise storage_error(
                error, "write the graph of an encoder", place, wanted_bytes=graph.size_bytes()
            ) from error


def _fitted_request(pictures: Sequence[NDArray[np.uint8]], recipe: PictureRecipe) -> Request:
    fitted = [picture_encoder.fitted(one, recipe) for one in pictures]
    pixels = Pixels(
        count=len(fitted), height=recipe.height, width=recipe.width,
        content=np.stack(fitted).tobytes(),
    )  # fmt: skip
    return Request(pictures=pixels)


def _encoder_digest(recipe: EncoderRecipe, stored: _StoredFiles) -> str:
    """Return the digest, in hex, of the files that compute and of what they say."""
    held = [(path, stored.row(path).file_digest.hex()) for path in recipe.files]
    return digest(msgspec.json.encode([COMPUTED_BY, recipe, held], order="deterministic")).hex()


def _check_graph(path: str, file: FileReader) -> None:
    """Refuse a graph that reads files or needs operators of somebody's own."""
    described = file.manifest.description
    told = described.metadata
    if described.format != "onnx":
        raise UsageError(f"{path} is no ONNX model whose structure can be read")
    if file.size > _GRAPH_LIMIT_BYTES:
        raise UsageError(f"{path} is over {_GRAPH_LIMIT_BYTES:,} bytes")
    outside = any("location" in one for one in told.get("other_tensors", ()))
    if told.get("external") or outside:
        raise UsageError(
            f"{path} has its weights in files beside it, which is not supported for encoders",
            hint="save the model as one file",
        )
    unknown = sorted(set(told.get("custom_operators", {})) - ONNX_RUNTIME_DOMAINS)
    if unknown:
        raise UsageError(
            f"{path} needs operators of {', '.join(ascii(one[:60]) for one in unknown[:4])}",
            hint="only operators of ONNX and of onnxruntime itself are run",
        )
