"""Data larger than memory: a window at a time, the same scales, every transition in the end, same bits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from vgm2p.actions import Continuous
from vgm2p.algorithms import VGM2P, Fit
from vgm2p.data import window
from vgm2p.data.dataset import Dataset
from vgm2p.data.window import Window, blocks
from vgm2p.errors import InputError
from vgm2p.runs import Experiment, prepare, run
from vgm2p.types import Sampling
from vgm2p.values import LinearAdvantage
from vgm2p.view import TeamView

TINY = VGM2P(fit=Fit(hidden=(8,)), values=LinearAdvantage(hidden=(8,), habit=3, selection=None))


def uneven(episodes=40, seed=0) -> Dataset:
    """Episodes of 1 to 9 steps; rewards count transitions, states and actions tell theirs."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, size=episodes).astype(np.int32)
    total = int(lengths.sum())
    return Dataset(
        state=rng.normal(size=(total + episodes, 2)).astype(np.float32),
        action=np.arange(2 * total, dtype=np.float32).reshape(total, 2, 1),
        reward=np.arange(total, dtype=np.float32),
        lengths=lengths,
        terminated=rng.random(episodes) < 0.5,
        card={"id": "test/uneven"},
    )


def everything(data, sampling):
    return np.arange(len(data.lengths)), data.view(), sampling, Continuous(1)


def test_a_window_that_holds_all_is_the_whole():
    data, sampling = uneven(), Sampling(discount=0.9, lookahead=3, halves=4, habit=2)
    episodes, view, *_ = everything(data, sampling)
    whole = data.replay(view, sampling, Continuous(1))
    held = Window(data, episodes, view, sampling, Continuous(1), int(data.lengths.sum())).replay(0)
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(held), strict=True):
        np.testing.assert_array_equal(x, y)


def test_windows_have_one_shape_and_draw_no_padding():
    data, sampling = uneven(), Sampling(habit=2, halves=2)
    made = Window(data, *everything(data, sampling), 50)
    shapes = {str(jax.tree.map(jnp.shape, made.replay(turn))) for turn in range(5)}
    assert len(shapes) == 1
    held = next(x for x in map(made.replay, range(50)) if x.size < 50)
    drawn = held.sample(Continuous(1), 2000, jax.random.key(0))
    logged = np.asarray(held.action[: held.size])
    assert np.isin(np.asarray(drawn.action), logged).all()
    assert len(np.unique(np.asarray(drawn.action)[:, 0])) == held.size


def test_every_transition_comes_in_the_end_and_counts_alike():
    data, sampling = uneven(), Sampling()
    made, seen = Window(data, *everything(data, sampling), 60), np.zeros(len(data.reward))
    for turn in range(150):
        held = made.replay(turn)
        rows = np.asarray(held.action[: held.size, 0, 0]) / 2
        seen[rows.astype(int)] += 1 / len(rows)
    expected = 150 / len(data.reward)
    assert seen.min() > 0.5 * expected
    assert seen.max() < 1.5 * expected


def test_a_windows_scales_are_those_of_all_the_data():
    data, sampling = uneven(), Sampling(discount=0.9, habit=2, halves=3)
    whole = data.replay(data.view(), sampling, Continuous(1))
    held = Window(data, *everything(data, sampling), 50).replay(1)
    for i in range(int(held.size)):
        row = int(held.action[i, 0, 0]) // 2
        for name in ("reward", "discount", "outcome", "halves"):
            np.testing.assert_array_equal(getattr(held, name)[i], getattr(whole, name)[row])
        code = held.action[i : i + 1]
        one, other = (x.habits.sample(jnp.array([at]), code) for x, at in ((held, i), (whole, row)))
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_moments_block_by_block_are_the_moments(monkeypatch):
    monkeypatch.setattr(window, "BLOCK", 13)
    data = replace(uneven(), state=(1e3 + uneven().state).astype(np.float32))
    whole, parts = data.view(), TeamView.over(blocks(data, np.arange(40)), 2)
    np.testing.assert_allclose(whole.mean, parts.mean, rtol=1e-6)
    np.testing.assert_allclose(whole.std, parts.std, rtol=1e-4)


def test_a_window_too_small_is_told():
    with pytest.raises(InputError, match="window 3 is shorter than the longest episode, 9"):
        Window(uneven(), *everything(uneven(), Sampling()), 3)


def test_a_stopped_run_with_a_window_goes_on_in_the_same_bits(hopper, tmp_path, monkeypatch):
    experiment = Experiment(hopper, TINY, 12, 8, (0,), 6, 1, log_every=4, window=1500)
    assert prepare(experiment).replay(0).size < 1500
    run(experiment, tmp_path / "whole")
    stop = {"at": 8}

    class Stop:
        def advanced(self, step, metrics):
            if step == stop["at"]:
                raise KeyboardInterrupt

        def evaluated(self, step, episodes):
            pass

    monkeypatch.setattr("vgm2p.runs.CHECKPOINT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "stopped", Stop())
    run(experiment, tmp_path / "stopped")
    whole, stopped = (load_file(tmp_path / name / "policy.safetensors") for name in ("whole", "stopped"))
    for name, x in whole.items():
        np.testing.assert_array_equal(x, stopped[name])
