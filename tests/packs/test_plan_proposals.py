"""Proposals: variants made as people make them are found, and predicted."""

from dataclasses import dataclass
from functools import partial
from math import prod

import ml_dtypes
import numpy as np
import pytest
from family import merged, weights_file
from family.recipes import Making

from hartonomous.codecs.prediction import predict
from hartonomous.core import plan as plans
from hartonomous.core.casts import STORED, cast
from hartonomous.core.ggml import dequantise_blocks, quantise_q8_0
from hartonomous.core.linear_fit import mean_steps
from hartonomous.packs.plan_proposals import Factor, propose

NUMPY = {
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)
}  # fmt: skip
SHAPE = (96, 64)


def read_of(values):
    flat = np.ascontiguousarray(values).reshape(-1).astype(np.float32)
    return lambda elements: flat[elements]


@dataclass(frozen=True)
class Target:
    """A tensor to be stored, as ``packs.base_search.TensorQuery``."""

    values: np.ndarray
    dtype: str
    shape: tuple[int, ...]

    @property
    def read(self):
        return read_of(self.values)

    @property
    def content(self):
        return self.values.tobytes()


def target(values):
    dtype = next(name for name, kind in NUMPY.items() if kind == values.dtype)
    return Target(values, dtype, values.shape)


@dataclass(frozen=True, eq=False)
class Stored:
    """A stored tensor and its bytes, as ``packs.base_search.Candidate``; shape: of the part."""

    digest: bytes
    values: np.ndarray
    content: bytes
    dtype: str
    shape: tuple[int, ...]
    first: int = 0
    orientation: str = "straight"
    distance: float = 5.0
    depth: int = 0
    heads: int = 0
    target_first: int = 0


def stored(values, name, **more):
    dtype = next(kind for kind, of in NUMPY.items() if of == values.dtype)
    shape = more.pop("shape", values.shape)
    return Stored(name.encode(), values, values.tobytes(), dtype, shape, **more)


class Sketches:
    """Values at 256 places of each tensor, one in each of as many runs."""

    def positions(self, count):
        edges = np.arange(257) * count // 256
        random = np.random.default_rng(count)
        return edges[:-1] + (random.random(256) * np.diff(edges)).astype(np.int64)

    def values(self, candidate):
        at = self.positions(prod(candidate.shape)) + candidate.first
        return candidate.values.reshape(-1)[at].astype(np.float32)


class NoSketches(Sketches):
    def values(self, candidate):
        return None


def predicted(proposal, everything):
    by_digest = {one.digest: one.content for one in everything}
    size = plans.target_bytes(proposal.plan)
    parts = [
        memoryview(by_digest[digest])[one.start : one.stop]
        for digest, one in zip(proposal.bases, plans.windows(proposal.plan, 0, size), strict=True)
    ]
    return predict(proposal.plan, 0, size, parts)


def steps_left(proposal, everything, query):
    made = predicted(proposal, everything).view(STORED[query.dtype])
    return mean_steps(np.frombuffer(query.content, STORED[query.dtype]), made)


def weights(seed, shape=SHAPE, scale=0.02):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def tuned(base, seed, share=0.02):
    return (base + share * weights(seed, base.shape)).astype(np.float32)


def first(query, candidates, **more):
    found = propose(query, candidates, Sketches(), **more)
    assert len(found) <= 3
    assert all(plans.decode(plans.encode(one.plan)) == one.plan for one in found)
    return found[0]


# --- one base


@pytest.mark.parametrize("source", NUMPY)
@pytest.mark.parametrize("wanted", NUMPY)
def test_a_cast_is_exact(source, wanted):
    base = stored(weights(1).astype(NUMPY[source]), "base")
    query = target(base.values.astype(np.float32).astype(NUMPY[wanted]))
    best = first(query, [base])
    assert predicted(best, [base]).tobytes() == query.content
    assert best.bits == 0
    assert len(best.plan.steps) == (source != wanted)


@pytest.mark.parametrize("way", ["F16", "BF16"])
@pytest.mark.parametrize("wanted", NUMPY)
def test_a_cast_that_went_through_another_type_is_told_by_its_values(way, wanted):
    base = stored(weights(1), "base")
    between = base.values.astype(NUMPY[way]).astype(np.float32)
    query = target(between.astype(NUMPY[wanted]))
    best = first(query, [base])
    assert predicted(best, [base]).tobytes() == query.content


def test_a_transpose_and_rows_permuted_by_heads_are_exact():
    base = weights(1)
    both = base.reshape(4, 2, 12, 64)
    cases = [
        (np.ascontiguousarray(base.T), {"orientation": "transposed"}),
        (both.swapaxes(1, 2).reshape(SHAPE), {"orientation": "heads", "heads": 4}),
    ]
    for values, more in cases:
        one = stored(base, "base", **more)
        query = target(values.astype(np.float16))
        best = first(query, [one])
        assert predicted(best, [one]).tobytes() == query.content
        assert best.bits == 0
    permuted = stored(cases[1][0], "permuted", orientation="heads-inverse", heads=4)
    query = target(base)
    best = first(query, [permuted])
    assert predicted(best, [permuted]).tobytes() == query.content
    assert best.bits == 0


def test_a_base_of_blocks_is_dequantised():
    blocks = quantise_q8_0(weights(1).reshape(-1))
    values = dequantise_blocks(blocks.tobytes(), "Q8_0").reshape(SHAPE)
    base = Stored(b"base", values, blocks.tobytes(), "Q8_0", SHAPE)
    query = target(values.astype(np.float16))
    best = first(query, [base])
    assert predicted(best, [base]).tobytes() == query.content


def test_a_quantised_target_is_proposed_from_each_way_its_source_may_have_been_rounded():
    base = stored(weights(1), "base")
    query = Target(weights(1), "Q8_0", SHAPE)
    found = propose(query, [base], Sketches())
    assert [one.plan.steps for one in found] == [
        (),
        (plans.Cast("F16"), plans.Cast("F32")),
        (plans.Cast("BF16"), plans.Cast("F32")),
    ]
    for one in found:
        made = predicted(one, [base])
        assert made.dtype == np.float32 and made.size == base.values.size
    assert predicted(found[0], [base]).tobytes() == base.content


def test_without_values_the_nearest_comes_first_and_casts_directly():
    near = stored(weights(1), "near", distance=1.0)
    far = stored(weights(2), "far", distance=3.0)
    found = propose(target(weights(1).astype(np.float16)), [near, far], NoSketches())
    assert {one.bases for one in found} == {(b"near",), (b"far",)}
    assert found[0].bases == (b"near",)
    assert found[0].plan.steps == (plans.Cast("F16"),)


def test_what_must_be_whole_and_is_too_large_is_not_proposed():
    shape = (8192, 8192)
    query = Target(np.zeros(0, np.float32), "F32", shape)
    one = Stored(b"base", np.zeros(0), b"", "F32", shape, orientation="transposed")
    assert propose(query, [one], NoSketches()) == []


# --- parts


def test_an_appended_vocabulary_is_its_base_and_rows_of_zeros():
    base = stored(weights(1), "base")
    longer = np.concatenate([base.values, weights(2, (8, 64))])
    best = first(target(longer.astype(ml_dtypes.bfloat16)), [base])
    made = predicted(best, [base])
    assert (
        made[: 2 * base.values.size].tobytes() == base.values.astype(ml_dtypes.bfloat16).tobytes()
    )
    assert not made[2 * base.values.size :].any()


def test_a_cut_vocabulary_is_the_first_rows_of_its_base():
    base = weights(1)
    one = stored(base, "base", shape=(40, 64))
    query = target(base[:40])
    assert predicted(first(query, [one]), [one]).tobytes() == query.content


def test_three_matrices_in_one_are_put_together_and_one_is_taken_out_of_three():
    parts = [weights(seed, (64, 64)) for seed in (1, 2, 3)]
    parts[1] = parts[1].astype(np.float16)
    three = [stored(one, f"part {k}", target_first=k * 4096) for k, one in enumerate(parts)]
    fused = np.concatenate([one.astype(np.float32) for one in parts])
    best = first(target(fused.astype(ml_dtypes.bfloat16)), [three[2], three[0], three[1]])
    assert best.bases == (b"part 0", b"part 1", b"part 2")
    expected = np.concatenate([one.astype(np.float32).astype(ml_dtypes.bfloat16) for one in parts])
    assert predicted(best, three).tobytes() == expected.tobytes()
    whole = stored(fused, "fused", shape=(64, 64), first=4096)
    query = target(fused[64:128])
    assert predicted(first(query, [whole]), [whole]).tobytes() == query.content


def test_parts_that_leave_most_of_the_query_open_are_not_proposed():
    part = stored(weights(1, (16, 64)), "part")
    assert propose(target(weights(2)), [part], Sketches()) == []


# --- merges


def folder(path, tensors):
    path.mkdir()
    weights_file.write(
        path / weights_file.MODEL_FILE,
        [weights_file.made(name, values) for name, values in tensors.items()],
    )
    (path / "config.json").write_text("{}", encoding="utf-8")
    return path


def family_merge(tmp_path, recipe, models, **parameters):
    """Let the benchmark's family merge models of one tensor."""
    sources = tuple(
        folder(tmp_path / f"source-{k}", {"weight": one}) for k, one in enumerate(models)
    )
    recipe(
        Making(target=tmp_path / "made", sources=sources, seed=0, parameters=parameters,
               downloads=tmp_path)
    )  # fmt: skip
    (made,) = weights_file.read(tmp_path / "made" / weights_file.MODEL_FILE)
    return made.read()


MERGES = [
    pytest.param(merged.average, 2, {}, id="mean of two"),
    pytest.param(merged.average, 3, {}, id="mean of three"),
    pytest.param(merged.average, 3, {"weights": [0.5, 0.3, 0.2]}, id="weights"),
    pytest.param(merged.average, 2, {"weights": [0.35, 0.65]}, id="two weights"),
    pytest.param(merged.task_arithmetic, 3, {"scale": 0.6}, id="task arithmetic"),
    pytest.param(merged.task_arithmetic, 2, {"scale": 1.3}, id="beyond"),
    pytest.param(merged.average, 5, {}, id="mean of five"),
]


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize(("recipe", "count", "parameters"), MERGES)
def test_merges_of_the_family_are_found_and_predicted(tmp_path, recipe, count, parameters, dtype):
    base = weights(1)
    models = [base, *(tuned(base, seed) for seed in range(2, count + 1))]
    models = [one.astype(NUMPY[dtype]) for one in models]
    query = target(family_merge(tmp_path, recipe, models, **parameters))
    others = [tuned(base, 40), tuned(models[1].astype(np.float32), 41)][: 8 - count]
    candidates = [
        stored(one, f"model {k}")
        for k, one in enumerate([*(one.astype(NUMPY[dtype]) for one in others), *models])
    ]
    best = first(query, candidates)
    names = {f"model {k + len(others)}".encode() for k in range(count)}
    assert set(best.bases) == names
    assert steps_left(best, candidates, query) < 0.002  # almost all elements are exact


def test_the_weights_found_are_those_that_were_used():
    base = weights(1)
    models = [base, tuned(base, 2), tuned(base, 3)]
    mean = sum(one.astype(np.float64) / 3 for one in models).astype(np.float32)
    candidates = [stored(one, f"{k}") for k, one in enumerate(models)]
    (sum_,) = [
        one for one in first(target(mean), candidates).plan.steps if isinstance(one, plans.Linear)
    ]
    assert set(sum_.weights) in ({1 / 3}, {1.0})
    task = base + 0.6 * sum(one.astype(np.float64) - base for one in models[1:])
    (sum_, _) = first(target(task.astype(np.float32)), candidates).plan.steps
    assert sum_.weights == (-0.2, 0.6, 0.6) and sum_.dtype == "F64"


def test_sums_in_the_type_of_the_models_are_told_by_their_rounding():
    models = [weights(1), tuned(weights(1), 2), tuned(weights(1), 3)]
    for dtype in ("F16", "BF16"):
        some = [one.astype(NUMPY[dtype]) for one in models]
        # As torch does it: the weights are F32, each result is rounded.
        made = cast(np.float32(0.3) * some[0].astype(np.float32), "F32", dtype)
        for one in some[1:]:
            term = cast(np.float32(0.35) * one.astype(np.float32), "F32", dtype)
            made = cast(cast(made, dtype, "F32") + cast(term, dtype, "F32"), "F32", dtype)
        query = target(made.view(NUMPY[dtype]))
        candidates = [stored(one, f"{k}") for k, one in enumerate(some)]
        best = first(query, candidates)
        assert predicted(best, candidates).tobytes() == query.content
        assert best.plan.steps == (plans.Linear((0.3, 0.35, 0.35), dtype),)


def test_models_tuned_from_one_base_are_no_merge_of_each_other():
    base = weights(1)
    candidates = [stored(tuned(base, seed), f"{seed}") for seed in range(2, 9)]
    found = propose(target(tuned(base, 30)), [stored(base, "base"), *candidates], Sketches())
    assert all(len(one.bases) == 1 for one in found)
    assert found[0].bases == (b"base",)


def test_a_merge_that_a_cast_explains_is_told_as_a_cast():
    base = weights(1)
    models = [base, tuned(base, 2)]
    mean = (0.5 * models[0] + 0.5 * models[1]).astype(np.float32)
    candidates = [stored(one, f"{k}") for k, one in enumerate([*models, mean])]
    best = first(target(mean.astype(np.float16)), candidates)
    assert best.bases == (b"2",) and best.bits == 0


def test_odd_values_do_not_disturb():
    base = weights(1)
    models = [base, tuned(base, 2), np.zeros_like(base), np.full_like(base, np.nan)]
    models[1][::7] = np.inf
    with np.errstate(invalid="ignore"):
        mean = (0.5 * models[0] + 0.5 * models[1]).astype(np.float32)
    candidates = [stored(one, f"{k}") for k, one in enumerate(models)]
    assert first(target(mean), candidates[:3]).bases == (b"0", b"1")
    for odd in (0.0, np.nan, np.inf):
        query = target(np.full_like(base, odd))
        assert len(propose(query, candidates, Sketches())) <= 3


# --- adapters


def adapter(seed, rank, shape=SHAPE):
    random = np.random.default_rng(seed)
    left = (random.standard_normal((shape[0], rank)) * 0.01).astype(np.float32)
    right = (random.standard_normal((rank, shape[1])) / np.sqrt(rank)).astype(np.float32)
    return left, right


def factors(pairs, dtype="F32"):
    found = []
    for k, (left, right) in enumerate(pairs):
        for letter, values in (("B", left), ("A", right)):
            name = f"base_model.model.layers.{k}.q_proj.lora_{letter}.weight"
            found.append(
                Factor(digest=f"{letter}{k}".encode(), dtype=dtype, shape=values.shape, name=name,
                       read=read_of(values))
            )  # fmt: skip
    return found


@pytest.mark.parametrize("dtype", NUMPY)
@pytest.mark.parametrize(("rank", "scale"), [(8, 2.0), (16, 0.5), (3, 2 / 3), (4, 16 / 2.0)])
def test_a_merged_adapter_is_found_and_predicted(dtype, rank, scale):
    pairs = [tuple(one.astype(NUMPY[dtype]) for one in adapter(seed, rank)) for seed in (5, 6, 7)]
    base = weights(1).astype(NUMPY[dtype])
    left, right = (one.astype(np.float32) for one in pairs[1])
    # As peft merges: a product of matrices of the type, scaled, added.
    delta = (left @ right).astype(NUMPY[dtype]).astype(np.float32)
    delta = (delta * np.float32(scale)).astype(NUMPY[dtype]).astype(np.float32)
    query = target((base.astype(np.float32) + delta).astype(NUMPY[dtype]))
    others = [stored(tuned(weights(1), 9).astype(NUMPY[dtype]), "other")]
    candidates = [stored(base, "base"), *others]
    best = first(query, candidates, factors=lambda: factors(pairs, dtype))
    assert best.bases == (b"base", b"B1", b"A1")
    assert best.plan.steps[0].scale == pytest.approx(scale, rel=1e-6)
    matrices = [
        stored(one, name) for pair, number in zip(pairs, "012", strict=True)
        for one, name in zip(pair, (f"B{number}", f"A{number}"), strict=True)
    ]  # fmt: skip
    # Where the product of matrices lies between two numbers, its order of sums decides.
    assert steps_left(best, [*candidates, *matrices], query) < 0.05


def test_adapters_that_were_not_merged_are_not_proposed():
    base = weights(1)
    query = target(tuned(base, 3))
    found = propose(
        query, [stored(base, "base")], Sketches(), factors=lambda: factors([adapter(5, 8)])
    )
    assert [one.bases for one in found] == [(b"base",)]


def test_factors_of_other_shapes_and_names_are_left_alone():
    base = weights(1)
    left, right = adapter(5, 8)
    query = target((base + 2 * (left @ right)).astype(np.float32))

    def never(elements):
        raise AssertionError("read")

    wrong = partial(Factor, digest=b"x", dtype="F32", read=never)
    some = [
        wrong(shape=(96, 8), name="a.lora_B.weight"),
        wrong(shape=(8, 63), name="a.lora_A.weight"),
        wrong(shape=(4, 64), name="a.lora_A.weight"),
        wrong(shape=(8, 64), name="b.lora_A.weight"),
        wrong(shape=(96, 8, 1), name="c.lora_B.weight"),
    ]
    found = propose(query, [stored(base, "base")], Sketches(), factors=lambda: some)
    assert [one.bases for one in found] == [(b"base",)]
