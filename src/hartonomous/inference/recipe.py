"""How texts and pictures become vectors with one model: what its files say, as one value.

The identity of spaces depends on these structs as JSON: a new field needs a default, which is left
out there.
"""

from typing import Literal

import msgspec

Quantisation = Literal["f32", "int8"]
QUANTISATIONS: tuple[Quantisation, ...] = ("f32", "int8")

COMPUTED_BY = "encoder-1"
"""The version of how we compute, a part of each space's identity: change it when vectors do."""


class DenseRecipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A linear layer behind the pooling: vectors of ``inputs`` numbers become some of ``outputs``.

    ``weights`` is the file with ``linear.weight`` [outputs, inputs] and, with ``bias``,
    ``linear.bias`` [outputs]; ``activation`` one of ``dense.ACTIVATIONS``.
    """

    weights: str
    inputs: int
    outputs: int
    bias: bool = True
    activation: str = "Tanh"


class TextRecipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Texts: at most ``max_tokens`` tokens, special ones among them, then the graph, then pooling.

    ``pooling`` are one or more of ``pooling.MODES``, side by side; it is not used where the graph
    gives one vector a text. Without ``include_prompt`` a prompt's tokens are left out of the
    pooling. With ``fixed_tokens`` every text is filled up to ``max_tokens``. A ``tower`` is one of
    two graphs whose vectors may be compared (CLIP, SigLIP). ``dense`` are layers between the
    pooling and the normalisation.
    """

    max_tokens: int
    pooling: tuple[str, ...] = ("mean",)
    normalise: bool = False
    query_prompt: str = ""
    passage_prompt: str = ""
    include_prompt: bool = True
    fixed_tokens: bool = False
    tower: bool = False
    padding_id: int = 0
    dense: tuple[DenseRecipe, ...] = ()


class PictureRecipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Pictures: resized, cropped, scaled, shifted by ``mean`` and divided by ``deviation``.

    With ``shortest_edge`` the shorter side gets that many pixels, else the picture is stretched to
    ``height`` × ``width``. ``crop`` cuts that size out of the middle. ``resample`` is Pillow's
    number of the filter.
    """

    height: int
    width: int
    shortest_edge: int | None = None
    crop: bool = False
    resample: int = 3
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    normalise: bool = False


class EncoderRecipe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a folder's files say of its encoder, and which of them compute.

    ``text_graph`` and ``picture_graph`` are the paths of ONNX files; where ``text_graph`` is empty
    the graph is built from the tensors in ``weights``. ``files`` are the paths of all that is read.
    """

    quantisation: Quantisation
    metric: str = "cosine"
    text: TextRecipe | None = None
    picture: PictureRecipe | None = None
    text_graph: str = ""
    picture_graph: str = ""
    weights: tuple[str, ...] = ()
    tokenizer: str = ""
    files: tuple[str, ...] = ()
