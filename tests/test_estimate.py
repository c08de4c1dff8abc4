"""Offline evaluation against values that are known."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest

from vgm2p.actions import Discrete
from vgm2p.algorithms import BC, VGM2P, Fit
from vgm2p.cli import main
from vgm2p.cli.teams import Estimate
from vgm2p.data import store
from vgm2p.data.card import describe
from vgm2p.data.dataset import Dataset
from vgm2p.data.store import read_json
from vgm2p.errors import InputError
from vgm2p.estimate import FQE, SAMPLES, _log_likelihood, estimate
from vgm2p.policy import Policy
from vgm2p.runs import Experiment, run
from vgm2p.types import Spec

QUICK = FQE(updates=1000, batch=64, discount=0.8, hidden=(32, 32))


def line(episodes=200, length=4, seed=0) -> Dataset:
    """Two agents choose 0 or 1 at every step; the team earns 1 if both chose 1. The state is the step."""
    rng, total = np.random.default_rng(seed), episodes * length
    action = rng.integers(2, size=(total, 2)).astype(np.int32)
    state = np.tile(np.arange(length + 1, dtype=np.float32), episodes)[:, None]
    return Dataset(
        state=state,
        action=action,
        reward=action.all(1).astype(np.float32),
        lengths=np.full(episodes, length, np.int32),
        terminated=np.ones(episodes, bool),
        card={"id": "test/line", "agents": 2},
        obs=np.repeat(state[:, None], 2, 1),
        legal=np.ones((total + episodes, 2, 2), bool),
    )


def always(choice: int, data: Dataset) -> Policy:
    """A policy whose softmax is sure of one choice."""
    algorithm, view = BC(fit=Fit(hidden=(4,))), data.view()
    spec = Spec(2, view.obs_dim, 1, Discrete(2))
    params = algorithm.init(spec, jax.random.key(0)).params
    last = params.policy.layers[-1]
    sure = (0 * last.weight, last.bias.at[choice].set(50.0))
    net = eqx.tree_at(lambda net: (net.layers[-1].weight, net.layers[-1].bias), params.policy, sure)
    stacked = jax.tree.map(lambda x: x[None], params._replace(policy=net))
    return Policy(algorithm, spec, view, stacked, (0,))


def test_the_value_of_a_known_policy_lies_in_a_narrow_interval():
    """Both always choose 1: 1 + 0.8 + 0.64 + 0.512. Both always choose 0: nothing."""
    data = line()
    (good,), (bad,) = estimate(always(1, data), data, QUICK), estimate(always(0, data), data, QUICK)
    assert good.value == pytest.approx(2.952, abs=0.15)
    assert bad.value == pytest.approx(0.0, abs=0.15)
    assert good.low <= 2.952 <= good.high <= good.low + 0.3
    assert good.advantage > 0.5 > 0 > bad.advantage


def test_the_datas_own_value_is_counted_from_its_rewards():
    data = line()
    told = estimate(always(1, data), data, replace(QUICK, updates=1))[0]
    rewards = data.reward.reshape(-1, 4)
    assert told.data_value == pytest.approx((rewards * 0.8 ** np.arange(4)).sum(1).mean(), rel=1e-5)


def test_episodes_cut_short_have_no_value_to_compare_with():
    """A policy's value counts what would have followed; the data do not show it."""
    data = line()
    cut = replace(data, terminated=np.zeros(len(data.lengths), bool))
    assert np.isnan(estimate(always(1, cut), cut, replace(QUICK, updates=1))[0].data_value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"discount": 1.0}, "discount 1.0 must be"),
        ({"updates": 0}, "updates 0"),
        ({"members": 1}, "members 1"),
        ({"batch": 0}, "batch 0 must be above 0"),
        ({"learning_rate": -1.0}, "learning_rate -1.0 must be above 0"),
        ({"slow_rate": 0.0}, "slow_rate 0.0 must be above 0"),
    ],
)
def test_settings_that_estimate_nothing_are_told(wrong, told):
    with pytest.raises(InputError, match=told):
        FQE(**wrong)


def test_likelihoods_agree_with_closed_forms():
    spec = Spec(1, 1, 1, Discrete(2))
    codes = np.array(Discrete(2).encode(np.zeros((SAMPLES, 3, 1), int)))
    sure = np.log((SAMPLES + 0.5) / (SAMPLES + 1))
    np.testing.assert_allclose(_log_likelihood(spec, codes, codes[0]), np.full((3, 1), sure), rtol=1e-5)
    other = np.log(0.5 / (SAMPLES + 1))
    np.testing.assert_allclose(_log_likelihood(spec, codes, -codes[0]), np.full((3, 1), other), rtol=1e-5)


def test_a_kernel_density_of_equal_samples_is_its_kernel(hopper):
    from vgm2p.actions import Continuous

    spec = Spec(1, 1, 1, Continuous(2))
    drawn, logged = np.zeros((SAMPLES, 5, 1, 2)), np.full((5, 1, 2), 0.2)
    expected = -1.0 - 2 * np.log(0.2 * np.sqrt(2 * np.pi))
    found = _log_likelihood(spec, drawn, logged)
    np.testing.assert_allclose(found, np.full((5, 1), expected), rtol=1e-5)


def test_the_command_prints_and_keeps_every_seed(hopper, tmp_path, capsys):
    experiment = Experiment(hopper, VGM2P(fit=Fit(hidden=(8,))), 2, 8, (0, 3), 2, 1)
    run(experiment, tmp_path)
    main(["estimate", str(tmp_path), "--updates", "3", "--noise", "0"])
    assert "not what they do not hold" in " ".join(capsys.readouterr().out.split())
    kept = read_json(tmp_path / "estimate.json")["seeds"]
    assert set(kept) == {"0", "3"}
    assert kept["0"]["value"] != kept["3"]["value"]


def test_data_that_were_made_anew_are_not_taken_for_those_it_learned_from(data_home, tmp_path):
    data, folder = line(), data_home / "own/anew"
    data = replace(data, card={"id": "own/anew", "agents": 2, **describe(data.returns, data.lengths)})
    store.save(data, folder)
    run(Experiment("own/anew", BC(fit=Fit(hidden=(8,))), 2, 8, (0,), 2), tmp_path)
    store.save(replace(data, reward=data.reward + 1), folder)
    with pytest.raises(InputError, match="own/anew have been made anew since"):
        Estimate(tmp_path, updates=3).run()
