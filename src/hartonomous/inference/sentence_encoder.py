"""Texts to vectors: tokens, the graph in batches of like length, pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hartonomous.errors import HartonomousError, UsageError
from hartonomous.inference.dense import DenseWeights, dense
from hartonomous.inference.onnx_session import OnnxSession
from hartonomous.inference.pooling import normalised, pool
from hartonomous.inference.recipe import TextRecipe
from hartonomous.inference.tokens import Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_TOKENS = 512
"""More at once is slower: what one layer makes no longer fits the caches."""
_TOKEN_OUTPUTS = ("token_vectors", "last_hidden_state", "token_embeddings", "sentence_embedding")
_TOWER_OUTPUTS = ("text_embeds", "pooler_output")
_KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}


class SentenceEncoder:
    """One model of texts, loaded. Not for several threads at once."""

    def __init__(
        self,
        graph: str,
        tokenizer: bytes,
        recipe: TextRecipe,
        *,
        threads: int,
        weights: Sequence[DenseWeights] = (),
    ) -> None:
        self._session = OnnxSession(graph, threads=threads)
        self._recipe, self._weights = recipe, weights
        self._tokens = Tokens(tokenizer, max_tokens=recipe.max_tokens, padding_id=recipe.padding_id)
        unknown = set(self._session.inputs) - _KNOWN_INPUTS
        if unknown or "input_ids" not in self._session.inputs:
            raise UsageError(
                f"the graph takes {', '.join(sorted(self._session.inputs))[:200]}",
                hint="a graph of texts takes input_ids and, if it likes, attention_mask, "
                "token_type_ids and position_ids",
            )
        outputs = _TOWER_OUTPUTS if recipe.tower else _TOKEN_OUTPUTS
        self._output, self._rank = self._session.chosen_output(*outputs)
        if self._rank not in (2, 3):
            raise UsageError(f"the graph's output {self._output} has {self._rank} axes, not 2 or 3")
        if recipe.dense and self._rank == 2:
            raise UsageError(
                f"the graph gives one vector a text ({self._output}), and modules.json has Dense",
                hint="whether the graph has these layers already is not known; give one of tokens",
            )

    def encode(self, texts: Sequence[str], *, query: bool) -> NDArray[np.float32]:
        """Return one row a text; raises HartonomousError for what is no finite number."""
        prompt = self._recipe.query_prompt if query else self._recipe.passage_prompt
        ids = self._tokens.ids([prompt + text for text in texts])
        skipped = 0 if self._recipe.include_prompt else self._tokens.prompt_length(prompt)
        rows: list[NDArray[np.float32] | None] = [None] * len(texts)
        for batch in _batches(ids):
            vectors = self._run([ids[one] for one in batch], skipped)
            for one, vector in zip(batch, vectors, strict=True):
                rows[one] = vector
        result = np.array(rows, np.float32)
        if not np.isfinite(result).all():
            raise HartonomousError("the graph gives vectors that are no finite numbers")
        return normalised(result) if self._recipe.normalise else result

    def _run(self, ids: list[list[int]], skipped: int) -> NDArray[np.float32]:
        filled, mask = self._tokens.filled(ids, fixed=self._recipe.fixed_tokens)
        given = {
            "input_ids": filled,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(filled),
            "position_ids": np.broadcast_to(np.arange(filled.shape[1]), filled.shape),
        }
        wanted = {
            name: given[name].astype(np.int32 if "int32" in one.type else np.int64)
            for name, one in self._session.inputs.items()
        }
        found = self._session.run(self._output, wanted)
        if found.ndim != self._rank or len(found) != len(ids):
            raise HartonomousError(f"the graph gives the shape {list(found.shape)}")
        if self._rank == 2:
            return found
        if found.shape[1] != filled.shape[1]:
            raise HartonomousError(f"the graph gives the shape {list(found.shape)}")
        if skipped:
            mask = mask.copy()
            mask[:, :skipped] = 0
        pooled = pool(found, mask, self._recipe.pooling)
        return dense(pooled, self._recipe.dense, self._weights)


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield indexes of texts of like length, of a bounded sum of tokens with what fills them up."""
    order = sorted(range(len(ids)), key=lambda one: (-len(ids[one]), one))
    batch: list[int] = []
    for one in order:
        if batch and len(ids[batch[0]]) * (len(batch) + 1) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
