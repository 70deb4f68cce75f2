"""Checkpoints: saving in the background, the rule of what is kept, and what comes back."""

import signal
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hartonomous as hn
from hartonomous import locks
from hartonomous.core.keep_rule import Held, parse_keep, surplus
from hartonomous.errors import HartonomousError, NotFoundError, UsageError


def weights(step):
    random = np.random.default_rng(step)
    return {
        "w": random.standard_normal((300, 200), dtype=np.float32),
        "half": random.standard_normal(400).astype(ml_dtypes.bfloat16),
    }


def adam(step):
    moments = np.random.default_rng(step + 50).standard_normal((300, 200), dtype=np.float32)
    return {
        "state": {0: {"step": np.float32(step), "exp_avg": moments}, 1: {"exp_avg": moments[0]}},
        "param_groups": [
            {"lr": 1e-3 / 3, "betas": (0.9, 0.999), "amsgrad": False, "initial": None,
             "params": [0, 1]}
        ],
    }  # fmt: skip


def same(a, b):
    if isinstance(a, dict):
        return (
            type(b) is dict
            and list(a) == list(b)
            and all(same(one, b[key]) for key, one in a.items())
        )
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def test_what_was_saved_comes_back_exactly(store):
    with hn.Checkpoints("run", store=store) as run:
        assert run.latest() is None
        for step in (10, 20, 30):
            run.save(step, weights(step), adam(step))
        assert run.latest() == 30
        assert run.steps() == [10, 20, 30]
        for step in (None, 10, 20):
            found = run.load(step)
            assert found.step == (step or 30)
            assert found.model.keys() == weights(0).keys()
            for name, array in weights(found.step).items():
                assert found.model[name].dtype == array.dtype
                assert np.array_equal(found.model[name], array)
            assert same(adam(found.step), found.optimizer)
        assert repr(run.load(10)) == "<Checkpoint of step 10: 2 tensors, with optimizer>"
        with pytest.raises(NotFoundError, match="step 15"):
            run.load(15)
    assert store.show("run@step-20").metadata == {"training.step": "20"}
    assert store.verify(files=True).sound


def test_a_save_is_waited_for_after_ctrl_c(store):
    """Else the next one would copy its tensors into the memory that the first one still reads."""

    def interrupt(*_):
        raise KeyboardInterrupt

    held = locks.try_lock(store.parts.lock_path("publish"))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with hn.Checkpoints("run", store=store) as run:
            run.save(1, weights(1))
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(KeyboardInterrupt):
                run.wait()
            timer = threading.Timer(0.3, held.release)
            timer.start()
            run.save(2, weights(2))
            assert [one.labels for one in store.ls(versions=True)] == [("step-1",)]
            assert run.steps() == [1, 2]
            assert np.array_equal(run.load(1).model["w"], weights(1)["w"])
            timer.join()
    finally:
        signal.signal(signal.SIGALRM, before)
        held.release()


def test_what_cannot_be_saved_is_told(store):
    loop = {}
    loop["x"] = loop
    masked = np.ma.masked_array(np.zeros(3, np.float32), [True, False, False])
    with hn.Checkpoints("run", store=store) as run:
        with pytest.raises(UsageError, match="nested deeper"):
            run.save(1, loop)
        with pytest.raises(UsageError, match="masked array"):
            run.save(1, {"w": masked})
    for wrong in ([1, 2], "abc", iter([("a", masked, 3)])):
        with pytest.raises(UsageError, match="not a pair"):
            store.add_tensors(wrong, "wrong")
    with pytest.raises(UsageError, match="masked array"):
        store.add_tensors({"w": masked}, "wrong")
    assert store.ls() == []


def test_a_save_copies_what_the_loop_goes_on_to_change(store):
    model, state = weights(1), adam(1)
    with hn.Checkpoints("run", store=store) as run:
        for step in range(4):
            for name in model:
                model[name][...] = step
            state["state"][0]["exp_avg"][...] = -step
            run.save(step, model, state)
            for name in model:
                model[name][...] = 77
            state["state"][0]["exp_avg"][...] = 77
        for step in range(4):
            found = run.load(step)
            assert (found.model["w"] == step).all()
            assert (found.optimizer["state"][0]["exp_avg"] == -step).all()


def test_saving_does_not_hold_the_loop_up_and_one_save_is_under_way(store, monkeypatch):
    going_on, began = threading.Event(), []
    real = store.add_tensors

    def slow(*arguments, **options):
        began.append(threading.current_thread().name)
        assert going_on.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(store, "add_tensors", slow)
    with hn.Checkpoints("run", store=store) as run:
        run.save(1, weights(1))  # comes back while the save waits for the event
        second = threading.Thread(target=run.save, args=(2, weights(2)))
        second.start()
        second.join(0.3)
        assert second.is_alive()  # it waits for the first one
        assert began == ["checkpoint"]
        going_on.set()
        second.join()
        assert run.steps() == [1, 2]


def test_errors_come_out_at_the_next_save_or_at_the_end(store):
    run = hn.Checkpoints("run", store=store)
    run.save(1, {"w": np.array(["text"])})
    with pytest.raises(UsageError, match="no element type"):
        run.save(2, weights(2))
    run.save(3, {"w": "no tensor"})
    with pytest.raises(UsageError, match="not a tensor"):
        run.close()
    with pytest.raises(UsageError, match="closed"):
        run.save(4, weights(4))
    run.close()
    assert store.ls() == []


def test_an_error_of_the_loop_is_not_hidden_by_that_of_a_save(store):
    with (
        pytest.raises(ZeroDivisionError) as caught,
        hn.Checkpoints("run", store=store) as run,
    ):
        run.save(1, {"w": "no tensor"})
        _ = 1 / 0
    assert any("was not saved either" in note for note in caught.value.__notes__)


def test_the_rule_drops_parts_and_whole_checkpoints(store):
    with hn.Checkpoints("run", keep="weights:3,optimizer:1", store=store) as run:
        for step in range(1, 6):
            run.save(step, weights(step), adam(step))
        assert run.steps() == [3, 4, 5]
        assert run.load(3).optimizer is None
        assert run.load(5).optimizer is not None
    files = {
        one.number: [file.path for file in store.show(f"run@{one.number}").files]
        for one in store.ls(versions=True)
    }
    assert files == {
        3: ["model.safetensors"], 4: ["model.safetensors"],
        5: ["model.safetensors", "optimizer.safetensors"],
    }  # fmt: skip
    assert [one.number for one in store.ls(trash=True)] == [1, 2]
    assert store.verify(files=True).sound


def test_what_carries_a_label_of_the_users_is_kept(store):
    with hn.Checkpoints("run", keep="weights:1,optimizer:1", store=store) as run:
        run.save(1, weights(1), adam(1))
        run.wait()
        store.label("run@step-1", "best")
        store.add_tensors(weights(99), "run")  # no checkpoint: it has no step
        run.save(2, weights(2), adam(2))
        run.save(3, weights(3), adam(3))
        assert run.steps() == [1, 3]
        assert run.load(1).optimizer is not None
    assert [one.number for one in store.ls(versions=True)] == [1, 2, 4]


def test_a_step_that_is_saved_again_after_going_back_is_the_newest(store):
    with hn.Checkpoints("run", store=store) as run:
        run.save(1, weights(1))
        run.save(2, weights(2))
        run.save(1, weights(7))
        assert run.latest() == 1
        assert np.array_equal(run.load(1).model["w"], weights(7)["w"])
        assert store.show("run@step-1").number == 3


def test_strange_states(store):
    state = {"state": {}, "param_groups": [{"lr": float("inf"), "params": []}]}
    with hn.Checkpoints("run", store=store) as run:
        run.save(1, {}, state)
        found = run.load()
    assert (found.model, found.optimizer) == ({}, state)


def test_dropped_weights_are_told(store):
    with hn.Checkpoints("run", store=store) as run:
        run.save(1, weights(1), adam(1))
        run.wait()
        store.drop("run", "weights")
        with pytest.raises(NotFoundError, match="weights of step 1 were dropped"):
            run.load()


def test_a_place_is_opened_and_closed(tmp_path):
    hn.init(tmp_path / "store").close()
    with hn.Checkpoints("run", store=tmp_path / "store") as run:
        run.save(1, weights(1))
    with pytest.raises(HartonomousError):
        run.store.ls()
    with hn.Checkpoints("run", store=tmp_path / "store") as run:
        assert run.latest() == 1


@pytest.mark.parametrize("value", [5, None, object(), [1, 2]])
def test_what_has_no_state_is_refused_at_once(store, value):
    with (
        hn.Checkpoints("run", store=store) as run,
        pytest.raises(UsageError, match="state_dict"),
    ):
        run.save(1, value)


class WithState:
    def __init__(self, state):
        self._state = state

    def state_dict(self):
        return self._state


def test_modules_and_optimizers_give_their_state(store):
    with hn.Checkpoints("run", store=store) as run:
        run.save(1, WithState(weights(1)), WithState(adam(1)))
        assert same(adam(1), run.load().optimizer)


@pytest.mark.parametrize(
    "text",
    ["", "weights", "weights:", "weights:0", "weights:-1", "weights:two", "weights:every=0",
     "weights:every", "biases:all", "weights:all,weights:2", "weights:1;optimizer:2", 5],
)  # fmt: skip
def test_a_wrong_rule_is_refused_at_once(store, text):
    with pytest.raises(UsageError, match="keep="):
        hn.Checkpoints("run", keep=text, store=store)


def held(*steps, protected=()):
    both = frozenset({"weights", "optimizer"})
    return [Held(step=step, parts=both, protected=step in protected) for step in steps]


def gone(text, checkpoints):
    return [
        "".join(sorted(part[0] for part in one)) for one in surplus(parse_keep(text), checkpoints)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weights:all,optimizer:all", ["", "", "", ""]),
        ("optimizer:2", ["o", "o", "", ""]),
        ("weights:1", ["w", "w", "w", ""]),
        ("weights:every=20, optimizer:1", ["ow", "o", "ow", ""]),
        ("optimizer:every=1000", ["o", "o", "o", ""]),
        ("weights:9,optimizer:every=10", ["", "", "", ""]),
    ],
)
def test_rules(text, expected):
    assert gone(text, held(10, 20, 30, 40)) == expected


def test_protected_checkpoints_keep_everything():
    assert gone("weights:1,optimizer:1", held(1, 2, 3, protected=[1])) == ["", "ow", ""]


AMOUNTS = st.sampled_from(["all", "1", "2", "5", "every=2", "every=3"])


@given(AMOUNTS, AMOUNTS, st.lists(st.integers(0, 30), min_size=1, max_size=12))
def test_the_newest_keeps_everything_and_the_rule_is_stable(w, o, steps):
    rule = parse_keep(f"weights:{w},optimizer:{o}")
    checkpoints = held(*steps)
    drops = surplus(rule, checkpoints)
    assert drops[-1] == frozenset()
    left = [
        Held(step=one.step, parts=one.parts - drop)
        for one, drop in zip(checkpoints, drops, strict=True)
    ]
    assert surplus(rule, left) == [frozenset()] * len(left)


# -- with PyTorch and transformers, where they are


def test_torch_modules_and_optimizers_go_on_as_they_were(store):
    pytest.importorskip("torch.nn")  # tests/fixtures has a folder named torch
    import torch

    torch.manual_seed(1)

    def make():
        model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Linear(30, 4)).bfloat16()
        model[1].tied = model[0].weight
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.95))

    def train(model, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(8, 20, generator=generator).bfloat16()
        optimizer.zero_grad()
        model(inputs).float().square().mean().backward()
        optimizer.step()

    model, optimizer = make()
    with hn.Checkpoints("run", store=store) as run:
        for step in range(3):
            train(model, optimizer, step)
            run.save(step, model, optimizer)
        train(model, optimizer, 9)
        found = run.load(2)
        assert isinstance(found.model["0.weight"], torch.Tensor)
        other, its_optimizer = make()
        other.load_state_dict(found.model)
        its_optimizer.load_state_dict(found.optimizer)
        train(other, its_optimizer, 9)
        for name, value in model.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name
        numbers = run.load(2, framework="np")
        assert isinstance(numbers.model["0.weight"], np.ndarray)
    strange = {"turned": torch.arange(600.0).reshape(20, 30).T, "bool": torch.tensor([True, False]),
               "complex": torch.ones(5, dtype=torch.complex64).conj(),
               "scalar": torch.tensor(3.5)}  # fmt: skip
    store.add_tensors(strange, "strange")
    loaded = hn.safe_open("strange", "pt", store=store).get_tensors()
    for name, value in strange.items():
        assert torch.equal(loaded[name], value), name
    with pytest.raises(UsageError, match="meta"):
        store.add_tensors({"w": torch.ones(3, device="meta")}, "no")
    with pytest.raises(UsageError, match="sparse"):
        store.add_tensors({"w": torch.ones(3, 3).to_sparse()}, "no")


def test_a_trainer_saves_through_the_callback(store, tmp_path):
    pytest.importorskip("torch.nn")  # tests/fixtures has a folder named torch
    import torch

    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Tiny(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 1)

        def forward(self, x=None, labels=None):
            out = self.linear(x)
            return {"loss": (out.squeeze(-1) - labels).square().mean(), "logits": out}

    rows = [{"x": [float(at), 1.0, 2.0, 3.0], "labels": float(at)} for at in range(16)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=5, per_device_train_batch_size=4,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    model = Tiny()
    with hn.Checkpoints("run", keep="weights:all,optimizer:1", store=store) as run:
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, callbacks=[run.callback(every=2)]
        )
        trainer.train()
        assert run.steps() == [2, 4, 5]
        found = run.load()
        assert torch.equal(found.model["linear.weight"], model.linear.weight)
        assert found.optimizer["param_groups"][0]["params"]
        assert run.load(4).optimizer is None


def test_a_callback_without_transformers_says_what_to_do(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with (
        hn.Checkpoints("run", store=store) as run,
        pytest.raises(UsageError, match="transformers"),
    ):
        run.callback()
