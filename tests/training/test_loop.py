"""The training loop: best weights, stopping, exact resumption (also after SIGKILL), randomness, precision, errors."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from palate.contracts.model import Fitting
from palate.data.histories import Histories
from palate.data.ragged import Ragged
from palate.data.split import HeldOut
from palate.errors import TrainingError
from palate.training.config import TrainConfig
from palate.training.loop import fit_module

WORKER = Path(__file__).with_name("killable.py")
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0], np.float32))[:, None]


class Batches(list):
    """A plain list is countable and iterable."""


def batches(epoch, rng):
    order = rng.permutation(len(X))
    return Batches((torch.from_numpy(X[part]), torch.from_numpy(Y[part])) for part in np.split(order, 8))


def net():
    torch_rng = torch.Generator().manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=torch_rng) * 0.3)
    return module


def fit(module, config, fitting=None, **options):
    def loss(batch, generator):
        return (module(batch[0]) - batch[1]).square().mean()

    return fit_module(
        module,
        batches=batches,
        loss=options.pop("loss", loss),
        config=config,
        fitting=fitting or Fitting(),
        title="Net",
        **options,
    )


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_reports():
    events, module = [], net()
    record = fit(module, TrainConfig(epochs=30, lr=0.03), Fitting(progress=events.append))
    assert record.epochs_run == record.best_epoch == 30
    assert record.best_value is None
    assert record.history[-1]["loss"] < 0.5 * record.history[0]["loss"]
    assert [e.done for e in events if e.stage == "Net: epoch"] == list(range(1, 31))
    assert not module.training


def test_same_seed_same_bits_other_seed_other_bits():
    config = TrainConfig(epochs=3)
    first, second, third = net(), net(), net()
    fit(first, config, Fitting(seed=1))
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    fit(second, config, Fitting(seed=1))
    fit(third, config, Fitting(seed=2))
    assert same_weights(first, second)
    assert not same_weights(first, third)


def test_global_generators_are_left_alone():
    module = net()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fit(module, TrainConfig(epochs=2))
    torch.testing.assert_close(torch.rand(3), wanted, rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_passed_generator_is_seeded_anew_each_epoch():
    drawn = []

    def loss(batch, generator):
        drawn.append(torch.rand(1, generator=generator).item())
        return torch.zeros((), requires_grad=True)

    fit(net(), TrainConfig(epochs=2), loss=loss)
    again = drawn.copy()
    drawn.clear()
    fit(net(), TrainConfig(epochs=2), loss=loss)
    assert drawn == again
    assert len(set(drawn)) == 16


def test_best_weights_are_kept_and_patience_counts_looks():
    module, seen = net(), []
    values = iter([0.1, 0.5, 0.4, 0.5, 0.3, 0.9])

    def evaluate():
        seen.append({k: v.clone() for k, v in module.state_dict().items()})
        return next(values)

    record = fit(module, TrainConfig(epochs=50, patience=3, patience_steps=0, eval_every=2), evaluate=evaluate)
    assert (record.epochs_run, record.best_epoch, record.best_value) == (10, 4, 0.5)
    for name, weight in module.state_dict().items():
        assert torch.equal(weight, seen[1][name])
    assert [line["epoch"] for line in record.history if "value" in line] == [2, 4, 6, 8, 10]


def test_patience_counts_after_the_warm_up():
    config = TrainConfig(epochs=9, patience=2, patience_steps=0)
    record = fit(net(), config, evaluate=lambda: 0.0, warmup=3)
    assert record.epochs_run == 5 and record.best_epoch == 1


@pytest.mark.parametrize(("accumulate", "epochs"), [(1, 5), (2, 9)])
def test_patience_counts_steps_of_small_epochs(accumulate, epochs, tmp_path):
    """Eight batches an epoch: 30 steps without improvement are four epochs, and twice as many where two batches are a step."""
    config = TrainConfig(epochs=30, patience=1, patience_steps=30, accumulate=accumulate)
    assert fit(net(), config, evaluate=lambda: 0.0).epochs_run == epochs
    fit(net(), config.replace(epochs=3), Fitting(checkpoint=tmp_path), evaluate=lambda: 0.0)
    assert fit(net(), config, Fitting(checkpoint=tmp_path), evaluate=lambda: 0.0).epochs_run == epochs


def test_patience_zero_never_stops():
    record = fit(net(), TrainConfig(epochs=7, patience=0), evaluate=lambda: 0.0)
    assert record.epochs_run == 7
    assert record.best_epoch == 1


def test_resumed_fit_equals_unbroken_one(tmp_path):
    config = TrainConfig(epochs=9, patience=4, lr=0.02, clip_norm=1.0)

    def run(module, config, folder):
        def evaluate():
            return -abs(sum(p.sum().item() for p in module.parameters()) - 0.4)

        return fit(module, config, Fitting(seed=3, checkpoint=folder), evaluate=evaluate)

    whole, broken, resumed = net(), net(), net()
    wanted = run(whole, config, None)
    run(broken, config.replace(epochs=4), tmp_path)
    record = run(resumed, config, tmp_path)
    assert same_weights(whole, resumed)
    assert (record.epochs_run, record.best_epoch, record.best_value) == (
        wanted.epochs_run,
        wanted.best_epoch,
        wanted.best_value,
    )
    assert [h["loss"] for h in record.history] == [h["loss"] for h in wanted.history]
    finished = net()
    run(finished, config, tmp_path)
    assert same_weights(whole, finished)


def test_a_cosine_takes_the_step_size_to_zero_and_goes_on_to_the_bit(tmp_path):
    config = TrainConfig(epochs=6, lr=0.02, schedule="cosine")
    rates, broken_after = [], 4

    def run(module, folder, stop=None):
        optimizer = torch.optim.AdamW(module.parameters(), lr=config.lr)

        def loss(batch, generator):
            rates.append(optimizer.param_groups[0]["lr"])
            return (module(batch[0]) - batch[1]).square().mean()

        def stopping(event):
            if event.epoch == stop:
                raise KeyboardInterrupt

        fit(module, config, Fitting(checkpoint=folder), loss=loss, optimizer=optimizer, callbacks=[stopping])

    whole, broken, resumed = net(), net(), net()
    run(whole, None)
    steps = 6 * 8
    np.testing.assert_allclose(rates, 0.02 * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2)
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path, broken_after)
    rates.clear()
    run(resumed, tmp_path)
    assert len(rates) == (6 - broken_after) * 8
    assert same_weights(whole, resumed)
    with pytest.raises(TrainingError, match="another fit"):
        fit(net(), config.replace(epochs=9), Fitting(checkpoint=tmp_path))
    assert config.replace(schedule="constant").free - config.free == {"epochs"}


def kill_in_the_middle(command, note, least):
    """Start a process and kill it with SIGKILL once ``least`` epochs stand in its checkpoint; return how many do."""
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if note.exists() and json.loads(note.read_text())["facts"]["epoch"] >= least:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    return json.loads(note.read_text())["facts"]["epoch"]


def killable(folder, out, slow):
    return [sys.executable, str(WORKER), str(folder), str(out), str(slow)]


def test_kill_minus_nine_and_resume_to_the_bit(tmp_path):
    """A process is killed with SIGKILL in the middle of an epoch; the next one ends with the weights of an unbroken run."""
    whole, after, folder = tmp_path / "whole.safetensors", tmp_path / "after.safetensors", tmp_path / "checkpoint"
    subprocess.run(killable(tmp_path / "unused", whole, 0), check=True, timeout=120)
    done = kill_in_the_middle(killable(folder, after, 0.02), folder / "checkpoint.json", 3)
    assert not after.exists()
    assert 3 <= done < 12
    subprocess.run(killable(folder, after, 0), check=True, timeout=120)
    first, second = load_file(whole), load_file(after)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


@pytest.mark.parametrize("system", ["sasrec", "lightgcn"])
def test_a_model_that_was_killed_ends_with_the_same_bundle(tmp_path, system):
    """Through the public API, with dropout, drawn negatives and early stopping's best weights."""
    whole, after, folder = tmp_path / "whole", tmp_path / "after", tmp_path / "checkpoint"

    def command(checkpoint, out, slow):
        return [sys.executable, str(WORKER.with_name("killable_model.py")), system, str(checkpoint), str(out), str(slow)]

    subprocess.run(command(tmp_path / "unused", whole, 0), check=True, timeout=240)
    assert 2 <= kill_in_the_middle(command(folder, after, 0.5), folder / "checkpoint.json", 2) < 8
    assert not after.exists()
    subprocess.run(command(folder, after, 0), check=True, timeout=240)
    first, second = (load_file(place / "state.safetensors") for place in (whole, after))
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert torch.equal(array, second[name]), name


def test_clipping_limits_the_gradient():
    norms, module = [], net()

    class Watch(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(torch.cat([p.grad.ravel() for p in module.parameters()]).norm().item())
            return super().step(closure)

    fit(module, TrainConfig(epochs=2, clip_norm=0.1), optimizer=Watch(module.parameters(), lr=0.1))
    assert max(norms) <= 0.1001


def test_bfloat16_multiplies_in_bfloat16():
    kinds, module = set(), net()

    def loss(batch, generator):
        out = module(batch[0])
        kinds.add(out.dtype)
        return (out.float() - batch[1]).square().mean()

    fit(module, TrainConfig(epochs=2, precision="bfloat16"), loss=loss)
    assert kinds == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_nan_loss_names_epoch_batch_rate_and_remedy():
    calls = []

    def loss(batch, generator):
        calls.append(0)
        return torch.tensor(float("nan") if len(calls) == 11 else 1.0, requires_grad=True)

    with pytest.raises(TrainingError) as caught:
        fit(net(), TrainConfig(epochs=5, lr=0.25), loss=loss)
    text = str(caught.value)
    for part in ("Net", "epoch 2", "batch 3", "lr 0.25", "lr=0.025", "clip_norm"):
        assert part in text


def test_weights_that_blow_up_at_the_last_step_are_found():
    module, steps = net(), []

    class Late(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(0)
            if len(steps) == 8:
                with torch.no_grad():
                    module[2].bias.fill_(float("inf"))
            return super().step(closure)

    with pytest.raises(TrainingError, match="weight is not a number"):
        fit(module, TrainConfig(epochs=1), optimizer=Late(module.parameters(), lr=0.001))


def test_nan_validation_is_an_error():
    with pytest.raises(TrainingError, match="validation"):
        fit(net(), TrainConfig(epochs=2), evaluate=lambda: float("nan"))


def test_another_validation_part_is_another_fit(tmp_path):
    def held_out(item):
        return HeldOut(np.array([0], np.int32), Histories.from_rows([[1]]), Ragged.from_rows([[item]]))

    config = TrainConfig(epochs=1)
    fit(net(), config, Fitting(checkpoint=tmp_path, validation=held_out(2)), evaluate=lambda: 0.0)
    fit(net(), config, Fitting(checkpoint=tmp_path, validation=held_out(2)), evaluate=lambda: 0.0)
    with pytest.raises(TrainingError, match="validation differ"):
        fit(net(), config, Fitting(checkpoint=tmp_path, validation=held_out(3)), evaluate=lambda: 0.0)


def test_no_epochs_leaves_the_weights():
    module = net()
    record = fit(module, TrainConfig(epochs=0))
    assert record.epochs_run == 0
    assert same_weights(module, net())


def test_long_epochs_report_inside(monkeypatch):
    import palate.training.loop as loop

    monkeypatch.setattr(loop, "REPORT_EVERY", 0.0)
    events = []
    fit(net(), TrainConfig(epochs=1), Fitting(progress=events.append))
    inside = [e for e in events if e.stage.startswith("Net: batches")]
    assert [e.done for e in inside] == list(range(1, 9))
    assert inside[0].total == 8


def test_the_record_keeps_the_curve(monkeypatch):
    import palate.training.loop as loop

    record = fit(net(), TrainConfig(epochs=5, patience=0, eval_every=2), evaluate=lambda: 0.25)
    curve = record.notes["curve"]
    assert curve == [[n, line["loss"], 0.25 if n in (2, 4, 5) else None] for n, line in enumerate(record.history, 1)]
    assert json.loads(json.dumps(curve)) == curve
    monkeypatch.setattr(loop, "CURVE_POINTS", 3)
    assert [epoch for epoch, *_ in record.notes["curve"]] == [1, 3, 5]
    assert fit(net(), TrainConfig(epochs=0)).notes["curve"] == []
