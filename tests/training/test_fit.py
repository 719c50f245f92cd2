import logging
import signal
import threading

import pytest
import torch

from dreamorph.errors import TrainingError
from dreamorph.training import (
    Arm,
    MixedWarps,
    TrainingConfig,
    predict,
    train_arm,
    train_arms,
)
from dreamorph.training.checkpoints import newest_intact
from dreamorph.training.convolution import QuickConv3d
from dreamorph.training.seeding import alone_with_the_generators, seeded
from tests.training.fakes import FakeWarps, classification, segmentation

QUICK = TrainingConfig(
    steps=10,
    batch_size=2,
    channels=(4, 8, 8),
    epoch_steps=2,
    checkpoint_every=2,
    dropout=0.1,
    progress=False,
    device="cpu",
)
ARM = Arm("dream", MixedWarps(FakeWarps(1.0, 2.0), FakeWarps(1.0), 0.5))


class KilledError(Exception):
    pass


def killed_after(step: int):
    def on_log(at, metrics):
        if at >= step:
            raise KilledError

    return on_log


def same(one, two) -> bool:
    return one.history.equals(two.history) and all(
        torch.equal(one.state[k], two.state[k]) for k in one.state
    )


@pytest.fixture(scope="module")
def uninterrupted():
    return train_arm(ARM, segmentation(), QUICK, seed=1)


def test_same_seed_same_network(uninterrupted):
    torch.manual_seed(123)
    assert same(uninterrupted, train_arm(ARM, segmentation(), QUICK, seed=1))
    assert not same(uninterrupted, train_arm(ARM, segmentation(), QUICK, seed=2))


def test_arms_start_from_the_same_weights_and_order():
    """With a learning rate that moves nothing, arms end where they began: at the same place."""
    still = QUICK.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "steps": 2})
    one = train_arm(Arm("none", FakeWarps(), intensity=False), segmentation(), still, 1)
    two = train_arm(ARM, segmentation(), still, 1)
    assert all(torch.equal(one.state[k], two.state[k]) for k in one.state)


def test_a_killed_training_continues_as_if_it_had_not_been(uninterrupted, tmp_path):
    for step in (5, 8):
        with pytest.raises(KilledError):
            train_arm(ARM, segmentation(), QUICK, 1, tmp_path, killed_after(step))
    seen = []
    done = train_arm(ARM, segmentation(), QUICK, 1, tmp_path, lambda step, _: seen.append(step))
    assert same(uninterrupted, done)
    assert seen == [7, 8, 9, 10]
    assert not list(tmp_path.rglob("*.*"))


def test_arms_trained_side_by_side_are_those_trained_alone(uninterrupted, tmp_path):
    """Dropout included, which draws from a generator that all threads share."""
    plain = Arm("none", FakeWarps(), intensity=False)
    jobs = [(ARM, 1), (plain, 1), (ARM, 2)]
    together = list(train_arms(jobs, segmentation(), QUICK, tmp_path))
    assert [(t.arm, t.seed) for t in together] == [("dream", 1), ("none", 1), ("dream", 2)]
    assert same(uninterrupted, together[0])
    assert same(together[1], train_arm(plain, segmentation(), QUICK, 1))
    assert not list(tmp_path.iterdir())


def test_a_training_that_starts_leaves_the_weights_of_others_alone(monkeypatch):
    """Lightning keeps the global generators when it starts and sets them back a moment later."""
    plain = QUICK.model_copy(update={"dropout": 0.0})
    set_back, others, drawn = torch.set_rng_state, [], []

    def draw(reached: threading.Event, let_go: threading.Event) -> None:
        with seeded(5):
            drawn.append(torch.rand(3))
            reached.set()
            let_go.wait(10)
            drawn.append(torch.rand(3))

    def set_while_another_draws(state: torch.Tensor) -> None:
        if threading.current_thread() in others:
            return set_back(state)
        reached, let_go = threading.Event(), threading.Event()
        others.append(threading.Thread(target=draw, args=(reached, let_go)))
        others[-1].start()
        reached.wait(0.1)
        set_back(state)
        let_go.set()

    monkeypatch.setattr(torch, "set_rng_state", set_while_another_draws)
    train_arm(ARM, segmentation(), plain, seed=1)
    for other in others:
        other.join()
    monkeypatch.undo()
    with seeded(5):
        expected = [torch.rand(3), torch.rand(3)]
    assert others
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected * len(others), strict=True))


def test_a_training_that_fails_to_start_does_not_keep_others_waiting(monkeypatch):
    def fail(*_args) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(torch.nn.Module, "zero_grad", fail)
    with pytest.raises(RuntimeError, match="no room"):
        train_arm(ARM, segmentation(), QUICK, seed=1)
    inside = threading.Event()

    def enter() -> None:
        with alone_with_the_generators():
            inside.set()

    other = threading.Thread(target=enter, daemon=True)
    other.start()
    other.join(10)
    assert inside.is_set()


def test_a_finished_network_survives_a_kill_before_it_is_kept(uninterrupted, tmp_path):
    """Its checkpoints go when the next one is asked for, or it is found to be the last."""
    plain = Arm("none", FakeWarps(), intensity=False)
    one_after_the_other = train_arms([(ARM, 1), (plain, 1)], segmentation(), QUICK, tmp_path)
    first = next(one_after_the_other)
    assert same(uninterrupted, first)
    one_after_the_other.close()
    kept = [folder.name for folder in tmp_path.iterdir() if folder.name.startswith("dream-1")]
    assert len(kept) == 1
    seen = []
    again = train_arm(ARM, segmentation(), QUICK, 1, tmp_path, lambda step, _: seen.append(step))
    assert same(uninterrupted, again)
    assert seen == []
    assert not [folder for folder in tmp_path.iterdir() if folder.name.startswith("dream-1")]


def test_a_torn_checkpoint_is_passed_over(uninterrupted, tmp_path, caplog):
    with pytest.raises(KilledError):
        train_arm(ARM, segmentation(), QUICK, 1, tmp_path, killed_after(8))
    (folder,) = tmp_path.iterdir()
    newest = sorted(folder.glob("*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    with caplog.at_level(logging.WARNING):
        assert newest_intact(folder) not in (None, newest)
    assert newest.name in caplog.text
    assert same(uninterrupted, train_arm(ARM, segmentation(), QUICK, 1, tmp_path))


@pytest.mark.parametrize("what", ["config", "data", "warps"])
def test_a_checkpoint_of_another_training_is_not_continued(what, tmp_path):
    with pytest.raises(KilledError):
        train_arm(ARM, segmentation(), QUICK, 1, tmp_path, killed_after(5))
    data, config, arm = segmentation(), QUICK, ARM
    if what == "config":
        config = QUICK.model_copy(update={"learning_rate": 1e-3})
    elif what == "data":
        data.images[0, 0, 8, 8, 8] += 1
    else:
        arm = Arm(ARM.name, ARM.sampler, fingerprint="other")
    seen = []
    train_arm(arm, data, config, 1, tmp_path, lambda step, _: seen.append(step))
    assert seen == list(range(1, 11))


def test_history_has_every_step_and_every_epoch(uninterrupted):
    history = uninterrupted.history
    steps = history.groupby("metric")["step"].apply(list)
    assert steps["train/loss"] == steps["train/learning_rate"] == list(range(1, 11))
    assert steps["train/dice_1"] == steps["train/dice_mean"] == [2, 4, 6, 8, 10]
    assert history["value"].between(0, 10).all()


def test_an_odd_number_of_steps_is_trained_and_logged_whole():
    config = QUICK.model_copy(update={"steps": 5, "epoch_steps": 3})
    history = train_arm(ARM, segmentation(), config, 1).history
    steps = history.groupby("metric")["step"].apply(list)
    assert steps["train/loss"] == [1, 2, 3, 4, 5]
    assert steps["train/dice_mean"] == [3, 5]


def test_balls_are_learned():
    config = TrainingConfig(
        steps=60, batch_size=2, channels=(8, 16), epoch_steps=20, progress=False, device="cpu"
    )
    data = segmentation()
    trained = train_arm(Arm("classic", FakeWarps(2.0)), data, config, 0)
    found = predict(trained.build(), data.images, data.masks)[:, 1] > 0.5
    true = data.labels[:, 0] == 1
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.9
    assert trained.history["metric"].iloc[-1] == "train/dice_mean"


@pytest.mark.parametrize("network", ["densenet", "resnet"])
def test_sizes_of_balls_are_told_apart(network):
    config = TrainingConfig(
        steps=30, batch_size=4, channels=(4, 8, 16), network=network, progress=False, device="cpu"
    )
    data = classification()
    trained = train_arm(Arm("classic", FakeWarps(1.0)), data, config, 0)
    found = predict(trained.build(), data.images)
    assert (found.argmax(1) == data.classes).float().mean() >= 0.8
    assert trained.history["metric"].iloc[-1] == "train/accuracy"


def test_a_progress_bar_covers_all_steps(capsys):
    train_arm(ARM, segmentation(), QUICK.model_copy(update={"progress": True}), 1)
    shown = capsys.readouterr()
    assert "dream (seed 1)" in shown.err
    assert "10/10" in shown.err
    assert shown.out == ""


def test_nothing_is_left_in_the_working_directory(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        train_arm(ARM, segmentation(), QUICK.model_copy(update={"steps": 2}), 1)
    assert not list(tmp_path.iterdir())
    assert caplog.text == ""


def test_divergence_is_an_error():
    data = segmentation()
    data.images[:] = torch.inf
    with pytest.raises(TrainingError, match="diverged"):
        train_arm(ARM, data, QUICK, 1)


def test_an_interruption_from_the_keyboard_stays_one():
    def interrupt(step, metrics):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_arm(ARM, segmentation(), QUICK, 1, on_log=interrupt)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "32-true"])
def test_a_network_learns_on_a_gpu_in_mixed_precision(precision: str) -> None:
    config = QUICK.model_copy(update={"device": "cuda", "precision": precision, "steps": 60})
    trained = train_arm(ARM, segmentation(), config, seed=1)
    losses = trained.history.query("metric == 'train/loss'")["value"].to_numpy()
    assert losses[-10:].mean() < losses[:10].mean()
    assert all(value.device.type == "cpu" for value in trained.state.values())
    assert all(bool(torch.isfinite(value).all()) for value in trained.state.values())


@pytest.mark.parametrize(
    ("able", "expected"), [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)]
)
def test_half_precision_where_the_cpu_has_it_and_never_for_the_warps(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    warping, convolving = [], []

    class Watched(FakeWarps):
        def sample(self, members, generator):
            warping.append(torch.is_autocast_enabled("cpu"))
            return super().sample(members, generator)

    convolve = QuickConv3d.forward

    def watched(self, images):
        result = convolve(self, images)
        convolving.append(result.dtype)
        return result

    monkeypatch.setattr(QuickConv3d, "forward", watched)
    config = QUICK.model_copy(update={"device": "cpu", "steps": 2})
    trained = train_arm(Arm("dream", Watched(1.0)), segmentation(), config, 0)
    assert expected in convolving
    assert warping == [False, False]
    assert all(value.dtype == torch.float32 for value in trained.state.values())
