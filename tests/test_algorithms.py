"""Every algorithm, continuous and discrete: it learns, stays legal, samples what it should."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small

from vgm2p.actions import Continuous, Discrete
from vgm2p.algorithms import (
    ALGORITHMS,
    AWR,
    BC,
    CONTINUOUS,
    CQL,
    OM2P,
    TD3BC,
    VGM2P,
    CategoricalCFG,
    CFGRLFlow,
    DiffusionBC,
    FilteredBC,
    Fit,
    FlowBC,
    MacFlow,
    MeanFlowBC,
    OmigaPolicy,
    diffusion_bc,
)
from vgm2p.algorithms.algorithm import ValuePolicyParams, Velocity, pick, redraw
from vgm2p.data.dataset import Dataset
from vgm2p.envs.env import play
from vgm2p.envs.toy import MatrixGame, matrix_dataset
from vgm2p.errors import InputError
from vgm2p.flows import FLOW_MATCHING, MeanFlow
from vgm2p.train import advance, init, seed_keys
from vgm2p.types import Sight, Spec
from vgm2p.values import LEARNERS, OMIGA, LinearAdvantage, MixedIQL

SMALL = {"fit": Fit(hidden=(32, 32), slow_rate=0.01), "noise": 1.0}
VALUED = SMALL | {"values": LinearAdvantage(hidden=(32, 32))}


def quick(kind):
    """The algorithm with small networks, and what else `SMALL` has for it."""
    names = {field.name for field in fields(kind)}
    some = SMALL | ({"samples": 2} if kind is CQL else {})
    return small(kind(**{name: value for name, value in some.items() if name in names}), 32, 32)


KINDS = [quick(kind) for kind in ALGORITHMS.values()]
NAMES = list(ALGORITHMS)
GRADED, GRADED_NAMES = [quick(ALGORITHMS[name]) for name in CONTINUOUS], list(CONTINUOUS)
CLIMBERS = (MacFlow, OM2P, TD3BC, CQL)  # their policies leave the logged actions
BATCH = 128  # with the same data and batch, the tests of an algorithm share one compilation


def bandit(reward, action, episodes=2048) -> Dataset:
    """One-step episodes with a random state; `action` [e, 2, 1] and `reward` [e] are given."""
    state = np.random.default_rng(1).normal(size=(2 * episodes, 1)).astype(np.float32)
    return Dataset(
        state,
        action,
        reward.astype(np.float32),
        np.ones(episodes, np.int32),
        np.ones(episodes, bool),
        {"id": "b"},
    )


def additive(episodes=2048) -> Dataset:
    """Actions near zero; the team earns more the larger each is."""
    action = 0.3 * np.random.default_rng(0).normal(size=(episodes, 2, 1)).astype(np.float32)
    return bandit(action.sum((1, 2)), action, episodes)


def setup(algorithm, data, discrete=None):
    view = data.view()
    actions = Discrete(discrete) if discrete else Continuous(data.action.shape[-1])
    spec = Spec(2, view.obs_dim, view.mean.shape[-1], actions)
    return spec, view, data.replay(view, algorithm.sampling, actions)


def trained(algorithm, data, updates, discrete=None, seed=0):
    """(spec, view, slow parameters, metrics) after `updates` updates."""
    spec, view, replay = setup(algorithm, data, discrete)
    keys = seed_keys((seed,))
    states, metrics = advance(
        algorithm, spec, init(algorithm, spec, keys), replay, keys, jnp.int32(updates), batch=BATCH
    )
    return spec, view, jax.tree.map(lambda x: x[0], states.target), metrics


def actions_of(algorithm, spec, view, params, rows=4000, seed=0):
    return algorithm.act(spec, params, view.obs(Sight(jnp.zeros((rows, 1)))), jax.random.key(seed))


@pytest.mark.parametrize("algorithm", GRADED, ids=GRADED_NAMES)
def test_continuous_loss_falls_and_actions_stay_in_range(algorithm):
    data = additive()
    _, _, _, early = trained(algorithm, data, 5)
    spec, view, params, late = trained(algorithm, data, 400)
    assert "loss/policy" in late  # what the training bar shows
    loss = "loss/q" if isinstance(algorithm, CLIMBERS) else "loss/policy"
    assert float(late[loss][0]) < float(early[loss][0])
    actions = actions_of(algorithm, spec, view, params)
    assert actions.shape == (4000, 2, 1)
    assert (jnp.abs(actions) <= 1).all()


@pytest.mark.parametrize("algorithm", KINDS, ids=NAMES)
def test_discrete_actions_are_legal_choices(algorithm):
    spec, view, params, metrics = trained(
        algorithm, matrix_dataset("matching", np.eye(3), 512, 0), 50, discrete=3
    )
    assert all(np.isfinite(value).all() for value in metrics.values())
    obs = view.obs(Sight(jnp.zeros((2000, 1))))
    legal = jax.random.bernoulli(jax.random.key(1), 0.5, (2000, 2, 3)).at[..., 1].set(True)
    choice = algorithm.act(spec, params, obs, jax.random.key(0), legal)
    assert jnp.take_along_axis(legal, choice[..., None], -1).all()


@pytest.mark.parametrize("algorithm", GRADED, ids=GRADED_NAMES)
def test_an_agents_action_depends_on_its_own_observation_only(algorithm):
    spec, _, _ = setup(algorithm, additive(64))
    params = jax.tree.map(lambda x: x[0], init(algorithm, spec, seed_keys((0,))).target)
    obs = jax.random.normal(jax.random.key(0), (16, 2, spec.obs_dim))
    other = obs.at[:, 1].add(1.0)
    acts = [algorithm.act(spec, params, o, jax.random.key(1)) for o in (obs, other)]
    np.testing.assert_array_equal(acts[0][:, 0], acts[1][:, 0])
    assert (acts[0][:, 1] != acts[1][:, 1]).any()


@pytest.mark.parametrize("algorithm", GRADED, ids=GRADED_NAMES)
def test_every_parameter_is_trained(algorithm):
    """After a few updates no weight matrix is where it began: no loss has an identically zero gradient."""
    spec, _, replay = setup(algorithm, additive())
    keys = seed_keys((0,))
    before = init(algorithm, spec, keys)
    start = jax.tree.map(np.asarray, before.params)
    after, _ = advance(algorithm, spec, before, replay, keys, jnp.int32(3), batch=BATCH)
    for old, new in zip(jax.tree.leaves(start), jax.tree.leaves(after.params), strict=True):
        assert not np.array_equal(old, new)


@pytest.mark.parametrize("values", [kind() for kind in LEARNERS], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("label", ["global", "local"])
def test_every_value_learner_serves_every_label_source(values, label):
    algorithm = VGM2P(values=values, label=label, **SMALL)
    spec, _, replay = setup(algorithm, additive(256))
    params = algorithm.init(spec, jax.random.key(0)).params.values
    batch = replay.sample(spec.actions, 64, jax.random.key(1))
    good, metrics = algorithm.label_rows(params, params, batch)
    assert good.shape == (64, 2)
    assert all(np.isfinite(value) for value in metrics.values())
    assert float(metrics["label/positive"]) == pytest.approx(float(good.mean()))


def test_a_quantile_sets_the_share_of_positive_labels():
    algorithm = VGM2P(quantile=0.2, warmup=0, **VALUED)
    _, _, _, metrics = trained(algorithm, additive(), 20)
    assert float(metrics["label/positive"][0]) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("kind", [VGM2P, FilteredBC, CategoricalCFG])
def test_the_share_of_good_actions_is_told_as_it_is_and_not_as_the_warm_up_has_it(kind):
    choices = 3 if kind is CategoricalCFG else None
    data = matrix_dataset("matching", np.eye(3), 512, 0) if choices else additive()
    _, _, _, metrics = trained(kind(threshold=1e9, warmup=100, **VALUED), data, 3, discrete=choices)
    assert float(metrics["label/positive"][0]) == 0.0


def test_rows_for_one_of_two_likelihoods_alone_are_refused():
    with pytest.raises(
        InputError, match=r"batch \d+ with null_share 0.999 leaves a likelihood without a row"
    ):
        trained(
            CategoricalCFG(null_share=0.999, **VALUED), matrix_dataset("matching", np.eye(3), 512, 0), 1, 3
        )


def test_labels_are_shared_by_the_team_or_an_agents_own():
    data = additive(256)
    for label, equal in (("global", True), ("local", False)):
        algorithm = VGM2P(values=MixedIQL(hidden=(16,)), label=label, **SMALL)
        spec, _, replay = setup(algorithm, data)
        params = algorithm.init(spec, jax.random.key(0)).params
        batch = replay.sample(spec.actions, 64, jax.random.key(1))
        good, _ = algorithm.label_rows(params.values, params.values, batch)
        assert bool((good[:, 0] == good[:, 1]).all()) == equal


def test_guidance_moves_actions_towards_the_good_and_beyond_cloning():
    """Bandit where larger is better: cloning centres on 0, the good half on +, guidance further still."""
    data = additive()
    means = []
    for algorithm in (
        MeanFlowBC(**SMALL),
        *(VGM2P(guidance=w, guidance_max=None, warmup=100, **VALUED) for w in (1.0, 3.0)),
    ):
        spec, view, params, _ = trained(algorithm, data, 1500)
        means.append(float(actions_of(algorithm, spec, view, params).mean()))
    assert abs(means[0]) < 0.06
    assert means[0] + 0.08 < means[1] < means[2] - 0.05


def test_filtered_cloning_takes_the_good_half():
    algorithm = FilteredBC(warmup=100, **VALUED)
    spec, view, params, _ = trained(algorithm, additive(), 1500)
    assert float(actions_of(algorithm, spec, view, params).mean()) > 0.08


NOISY = [algorithm for algorithm in GRADED if "noise" in algorithm.options]


@pytest.mark.parametrize("algorithm", NOISY, ids=lambda algorithm: type(algorithm).__name__)
def test_noise_scale_narrows_what_is_executed(algorithm):
    spec, view, params, _ = trained(algorithm, additive(), 300)
    spreads = [
        float(actions_of(replace(algorithm, noise=s), spec, view, params)[:, 0].std())
        for s in (0.0, 0.5, 1.0)
    ]
    assert spreads[0] < 1e-6
    assert spreads[1] < spreads[2]


@pytest.mark.parametrize("t", [0.03, 0.1, 0.5, 1.0])
def test_the_flows_network_answers_in_actions(t):
    """z - max(t, 0.1) u is what the network says; at t = 1 a jump to the data lands on it."""
    spec, _, _ = setup(MeanFlowBC(**SMALL), additive(64))
    u = Velocity(spec, 0, Fit(hidden=(16,)), jax.random.key(0))
    z, obs = jax.random.normal(jax.random.key(1), (8, 2, 1)), jnp.ones((8, 2, spec.obs_dim))
    t, r = jnp.full((8, 2), t), jnp.zeros((8, 2))
    times = jnp.stack([t, t - r], -1)
    inputs = jnp.concatenate([z, times, jnp.sin(jnp.pi * times), jnp.cos(jnp.pi * times), obs], -1)
    found = z - jnp.maximum(t, 0.1)[..., None] * u(z, t, r, obs, jnp.zeros((8, 2, 0)))
    np.testing.assert_allclose(found, u.net(inputs), atol=1e-5)


@pytest.mark.slow
def test_one_jump_and_ten_both_sample_a_learned_gaussian():
    algorithm = MeanFlowBC(fit=Fit(hidden=(64, 64), slow_rate=0.01), noise=1.0)
    spec, view, params, _ = trained(algorithm, additive(), 2500)
    one, ten = (actions_of(replace(algorithm, steps=k), spec, view, params)[:, 0, 0] for k in (1, 10))
    assert float(one.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(ten.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(one.std()) == pytest.approx(0.3, abs=0.05)
    assert float(ten.std()) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(("kind", "steps"), [(FlowBC, 40), (DiffusionBC, 40)], ids=["flow", "diffusion"])
def test_cloning_in_many_steps_samples_a_learned_gaussian(kind, steps):
    algorithm = kind(steps=steps, fit=Fit(hidden=(64, 64), slow_rate=0.01), noise=1.0)
    spec, view, params, _ = trained(algorithm, additive(), 2500)
    actions = actions_of(algorithm, spec, view, params)
    assert float(actions.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(actions.std()) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(("steps", "error"), [(100, 0.02), (50, 0.04)])
@pytest.mark.parametrize("fresh", [0.0, 0.5, 1.0])
def test_denoising_with_the_exact_noise_of_a_gaussian_samples_it(fresh, steps, error, monkeypatch):
    """For x ~ N(m, s^2) the best guess of the noise in z is known, so the sampler alone is on trial."""
    mean, spread = 0.2, 0.3

    def exact(policy, z, time, obs):
        kept = diffusion_bc.abar(time)[..., None]
        return jnp.sqrt(1 - kept) * (z - jnp.sqrt(kept) * mean) / (kept * spread**2 + 1 - kept)

    monkeypatch.setattr(diffusion_bc, "_predict", exact)
    algorithm = DiffusionBC(steps=steps, fresh=fresh, noise=1.0, fit=Fit(hidden=(8,)))
    spec, view, _ = setup(algorithm, additive(64))
    params = algorithm.init(spec, jax.random.key(0)).params
    actions = actions_of(algorithm, spec, view, params, rows=20_000)
    assert float(actions.mean()) == pytest.approx(mean, abs=0.02)
    assert float(actions.std()) == pytest.approx(spread, abs=error)


def test_a_strength_that_was_not_trained_for_is_refused():
    with pytest.raises(InputError, match=r"guidance 3.0 must be at most guidance_max 2.0"):
        VGM2P(guidance_max=2.0, guidance=3.0)
    assert "guidance" in VGM2P(guidance_max=2.0).options
    assert "guidance" not in VGM2P(guidance_max=None).options


def test_steps_beyond_the_trained_levels_are_refused():
    with pytest.raises(InputError, match="steps 25 is not between 1 and the 10 levels"):
        DiffusionBC(levels=10, steps=25)


@pytest.mark.parametrize("w", [1.0, 1.5, 3.0])
def test_guidance_at_execution_of_exact_velocities_gives_the_guided_gaussian(w):
    """Good and any are Gaussians of spread s: the guided flow ends in N(m_any + w (m_good - m_any), s^2)."""
    spread = 0.2

    def velocity(z, t, r, obs, condition, legal=None):
        mean, t = jnp.where(condition[..., :1] == 1, 0.2, 0.1), t[..., None]
        slope = (t - (1 - t) * spread**2) / (jnp.square((1 - t) * spread) + jnp.square(t))
        return -mean + slope * (z - (1 - t) * mean)

    algorithm = CFGRLFlow(guidance=w, steps=200, noise=1.0)
    spec, view, _ = setup(algorithm, additive(64))
    actions = actions_of(algorithm, spec, view, ValuePolicyParams(None, velocity), rows=20_000)
    assert float(actions.mean()) == pytest.approx(0.1 + w * 0.1, abs=0.01)
    assert float(actions.std()) == pytest.approx(spread, abs=0.01)


def test_a_flow_guided_at_execution_is_trained_without_guidance():
    seen, _ = spied_loss(CFGRLFlow(**VALUED)._training)
    np.testing.assert_array_equal(seen["target"], seen["sample"].v)


@pytest.mark.slow
def test_guidance_at_execution_moves_a_many_step_flow_beyond_the_good():
    algorithm = CFGRLFlow(**VALUED)
    spec, view, params, _ = trained(algorithm, additive(), 1500)
    weak, strong = (
        float(actions_of(replace(algorithm, guidance=w), spec, view, params).mean()) for w in (1.0, 2.0)
    )
    assert weak > 0.08
    assert strong > weak + 0.05


@pytest.mark.slow
def test_advantage_weights_are_exponential_capped_and_greedier_when_cold():
    data, means = additive(), []
    for temperature in (10.0, 0.5):
        algorithm = AWR(temperature=temperature, max_weight=5.0, **VALUED)
        spec, view, params, _ = trained(algorithm, data, 1500)
        means.append(float(actions_of(algorithm, spec, view, params).mean()))
    assert abs(means[0]) < 0.06
    assert means[1] > means[0] + 0.08
    _, _, replay = setup(algorithm, data)
    batch = replay.sample(spec.actions, 512, jax.random.key(1))
    found = algorithm.log_weights(params.values, params.values, batch)
    team = algorithm.values.advantage(params.values, params.values, batch).team
    expected = np.minimum(team / 0.5, np.log(5.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_omiga_weights_each_agents_likelihood_by_its_share_of_the_advantage():
    algorithm = OmigaPolicy(values=OMIGA(hidden=(32,)), **SMALL)
    spec, _, params, _ = trained(algorithm, additive(), 50)
    _, _, replay = setup(algorithm, additive())
    batch = replay.sample(spec.actions, 64, jax.random.key(1))
    shares = algorithm.values.advantage(params.values, params.values, batch).agents
    found = algorithm.weights(params.values, params.values, batch)
    np.testing.assert_allclose(found, np.exp(np.clip(shares / algorithm.values.alpha, -10, 10)), rtol=1e-5)
    assert found.shape == (64, 2)
    assert float(jnp.abs(found[:, 0] - found[:, 1]).max()) > 0


@pytest.mark.slow
def test_omiga_moves_towards_good_actions_when_cold_and_clones_when_hot():
    means = []
    for alpha in (10.0, 0.003):
        algorithm = OmigaPolicy(values=OMIGA(alpha=alpha, hidden=(32,)), **SMALL)
        spec, view, params, _ = trained(algorithm, additive(), 1500)
        means.append(float(actions_of(algorithm, spec, view, params).mean()))
    assert abs(means[0]) < 0.06
    assert means[1] > means[0] + 0.06


def centre_of(algorithm, updates=1500):
    """Mean action on the bandit whose logged actions centre on 0 and where larger is better."""
    spec, view, params, _ = trained(algorithm, additive(), updates)
    return float(actions_of(algorithm, spec, view, params).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("near", "far"),
    [
        (MacFlow(alpha=300.0, **SMALL), MacFlow(alpha=1.0, **SMALL)),
        (OM2P(weight=0.0, **SMALL), OM2P(weight=0.3, **SMALL)),
        (TD3BC(weight=0.0, fit=SMALL["fit"]), TD3BC(fit=SMALL["fit"])),
    ],
    ids=["mac_flow", "om2p", "td3_bc"],
)
def test_a_rivals_coefficient_leads_from_cloning_to_climbing_its_critic(near, far):
    near, far = (replace(algorithm, discount=0.0, hidden=(32,)) for algorithm in (near, far))
    assert abs(centre_of(near, 500)) < 0.08
    assert centre_of(far, 500) > 0.2


@pytest.mark.slow
def test_a_conservative_critic_keeps_a_climbing_policy_off_actions_that_nobody_took():
    """Logged actions lie within about 0.9: a policy that only climbs goes to 1, a conservative one stays."""
    climbing, cautious = (replace(quick(CQL), discount=0.0, weight=weight) for weight in (0.0, 1.0))
    assert centre_of(climbing, 500) > 0.9
    assert 0.1 < centre_of(cautious, 500) < 0.9


def test_the_conservative_term_is_zero_for_a_flat_critic_and_grows_off_the_data():
    algorithm = quick(CQL)
    spec, _, replay = setup(algorithm, additive(64))
    params = algorithm.init(spec, jax.random.key(0)).params
    batch = replay.sample(spec.actions, 32, jax.random.key(1))

    def term(critics):
        return float(algorithm.conservative(spec, critics, params.policy, batch, jax.random.key(2)))

    assert term(lambda obs, action: (obs[..., 0] * 0 + 3.0,) * 2) == pytest.approx(0.0, abs=1e-5)
    assert term(lambda obs, action: (jnp.square(action).sum(-1),) * 2) > 0.1


def test_the_conservative_term_asks_all_choices_by_the_datas_codes():
    algorithm, data = quick(CQL), matrix_dataset("matching", np.eye(3), 64, 0)
    spec, view, _ = setup(algorithm, data, discrete=3)
    spec = replace(spec, actions=Discrete(3, size=3.0))
    batch = data.replay(view, algorithm.sampling, spec.actions).sample(spec.actions, 32, jax.random.key(1))
    params = algorithm.init(spec, jax.random.key(0)).params
    size = lambda obs, action: (jnp.square(action).sum(-1),) * 2  # noqa: E731
    term = algorithm.conservative(spec, size, params.policy, batch, jax.random.key(2))
    assert float(term) == pytest.approx(0.0, abs=1e-4)


def test_gaussian_cloning_recovers_mean_and_spread():
    algorithm = BC(**SMALL)
    spec, view, params, _ = trained(algorithm, additive(), 1500)
    actions = actions_of(algorithm, spec, view, params)
    assert float(actions.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(actions.std()) == pytest.approx(0.3, abs=0.03)


def spied_loss(algorithm, rows=40, slow_seed=0):
    """What reaches the flow's loss, `rows` rows, of a pool whose first half is good; and that pool.

    slow_seed: of the slow policy's weights; with 0 they are the policy's.
    """
    seen = {}

    class Spy(MeanFlow):
        def loss(self, u, sample, condition, target, tangent, *rest):
            label, log_strength = jnp.moveaxis(condition[1], -1, 0)
            seen.update(sample=sample, good=label, strength=jnp.exp(log_strength), target=target)
            seen.update(condition=condition, tangent=tangent)
            return super().loss(u, sample, condition, target, tangent, *rest)

    algorithm = replace(algorithm, flow=Spy(tangent="ema"))
    spec, _, replay = setup(algorithm, additive(64))
    policy, seen["slow"] = (algorithm.init(spec, jax.random.key(k)).params.policy for k in (0, slow_seed))
    drawn = rows * algorithm.pool
    batch = replay.sample(spec.actions, drawn, jax.random.key(1))
    good = jnp.broadcast_to(jnp.arange(drawn)[:, None] < drawn // 2, (drawn, 2))
    algorithm.policy_loss(policy, seen["slow"], batch, good, jax.random.key(2))
    return seen, batch


def test_targets_and_tangents_are_the_slow_policys_marginal_velocities_at_each_rows_own_time():
    """v + (1 - 1/w) (slow(z, t, t | good, w) - slow(z, t, t | any)), and du/dt along the row's own flow."""
    seen, _ = spied_loss(VGM2P(guidance_max=3.0, **VALUED), slow_seed=7)
    (z, v, t, _), (obs, condition, _) = seen["sample"], seen["condition"]
    own, anything = (seen["slow"](z, t, t, obs, asked) for asked in (condition, 0 * condition))
    share = (1 - 1 / seen["strength"])[..., None]
    np.testing.assert_allclose(seen["target"], v + share * (own - anything), atol=1e-5)
    np.testing.assert_allclose(seen["tangent"], own[20:], atol=1e-5)  # the anchors need none


def test_unconditional_rows_have_equal_times_and_plain_targets():
    """u(r < t | null) is never asked for, so it is never trained; only the good flow is guided."""
    seen, _ = spied_loss(VGM2P(null_share=0.25, **VALUED))
    null = seen["good"][:, 0] == 0
    assert int(null.sum()) == 10
    np.testing.assert_array_equal(seen["sample"].t[null], seen["sample"].r[null])
    np.testing.assert_array_equal(seen["target"][null], seen["sample"].v[null])
    assert (seen["target"][~null] != seen["sample"].v[~null]).any()


def test_a_share_of_the_good_rows_learns_strengths_above_1_with_and_without_r_equal_to_t():
    """40 rows: 8 of any action, 12 good anchors and 20 good others; a quarter of each learns more than 1."""
    seen, _ = spied_loss(VGM2P(guided_share=0.25, guidance_max=3.0, **VALUED))
    guided = np.flatnonzero(seen["strength"][:, 0] != 1)
    np.testing.assert_array_equal(guided, np.arange(20 - 3, 20 + 5))
    assert (seen["strength"][guided] > 1).all()
    assert (seen["strength"] <= 3).all()
    plain = np.delete(np.arange(40), guided)
    np.testing.assert_array_equal(seen["target"][plain], seen["sample"].v[plain])
    assert (seen["target"][guided] != seen["sample"].v[guided]).all(-1).any(0).all()


def test_bad_actions_may_be_a_class_of_their_own_which_nothing_guides():
    seen, batch = spied_loss(VGM2P(negatives=True, guided_share=1.0, **VALUED))
    z, v, t, _ = seen["sample"]
    actions, label = np.asarray(z - t[..., None] * v), np.asarray(seen["good"][:, 0])
    for half, named in zip(np.split(np.asarray(batch.action), 2), (1.0, -1.0), strict=True):
        assert (label == named).sum() > 5
        gaps = np.abs(actions[label == named][:, None] - half[None]).max((2, 3)).min(1)
        np.testing.assert_allclose(gaps, 0, atol=1e-5)
    bad = label == -1
    np.testing.assert_array_equal(seen["target"][bad], v[bad])


@pytest.mark.parametrize("control", [FilteredBC(), AWR(), CategoricalCFG(), MeanFlowBC()])
def test_controls_have_the_settings_of_what_they_control_for(control):
    ours = VGM2P()
    shared = {field.name for field in fields(control)} & {field.name for field in fields(ours)}
    assert {"fit", "noise"} <= shared
    assert {name: getattr(control, name) for name in shared} == {name: getattr(ours, name) for name in shared}


def test_a_guided_share_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"guided_share 0\.0 must be above 0 and at most 1"):
        VGM2P(guided_share=0.0)


def test_the_good_flow_is_trained_on_good_actions_only():
    seen, batch = spied_loss(VGM2P(null_share=0.25, **VALUED))
    z, v, t, _ = seen["sample"]
    actions = np.asarray(z - t[..., None] * v)
    logged = np.asarray(batch.action)
    np.testing.assert_allclose(actions[:10], logged[:10], atol=1e-5)
    nearest = np.abs(actions[10:, None] - logged[None, : len(logged) // 2]).max((2, 3)).min(1)
    np.testing.assert_allclose(nearest, 0, atol=1e-5)


def test_rows_are_picked_among_the_good_together_for_agents_that_agree():
    good = jnp.broadcast_to(jnp.arange(50)[:, None] % 5 == 0, (50, 3))
    index = pick(good, 1000, jax.random.key(0))
    assert (index % 5 == 0).all()
    assert (index[:, 0] == index[:, 2]).all()
    assert len(np.unique(index)) == 10


@pytest.mark.parametrize("name", ["bc", "meanflow_bc", "flow_bc", "diffusion_bc"])
def test_what_stands_in_place_of_absent_agents_teaches_nothing(name):
    """The second agent is gone in every second row; whatever its action there, training is the same."""
    action = np.random.default_rng(0).normal(size=(512, 2, 1)).astype(np.float32)
    present = np.arange(1024)[:, None] % 4 < [4, 2]  # a state and its next have the same
    lasting = action.copy()
    lasting[~present[::2]] = 7.0
    made = [
        trained(quick(ALGORITHMS[name]), replace(bandit(x[:, 0, 0], x, 512), present=present), 3)[2]
        for x in (action, lasting)
    ]
    for one, other in zip(*map(jax.tree.leaves, made), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    everyone = trained(quick(ALGORITHMS[name]), bandit(lasting[:, 0, 0], lasting, 512), 3)[2]
    assert not all(map(np.allclose, jax.tree.leaves(made[1]), jax.tree.leaves(everyone)))


def test_rows_of_absent_agents_are_not_picked():
    data = replace(additive(), present=np.arange(4096)[:, None] % 4 < [4, 2])
    _, _, replay = setup(quick(FilteredBC), data)
    batch = replay.sample(Continuous(1), 64, jax.random.key(0))
    drawn = redraw(batch, pick(jnp.ones((64, 2), bool), 200, jax.random.key(1), batch.acting), lead=10)
    assert drawn.acting[:10].tolist() == batch.present[:10].tolist()
    assert 0.2 < float(batch.acting[:, 1].mean()) < 0.8
    assert drawn.acting[10:].all()


def test_rows_are_picked_anywhere_for_an_agent_without_good_ones():
    good = jnp.stack([jnp.zeros(50, bool), jnp.arange(50) == 7], -1)
    index = pick(good, 2000, jax.random.key(0))
    assert len(np.unique(index[:, 0])) == 50
    assert (index[:, 1] == 7).all()


@pytest.mark.slow
def test_strength_chosen_at_execution_works_from_one_network():
    """Trained for every w in [1, 5]: the same parameters shift further when more is asked."""
    algorithm = VGM2P(guidance_max=5.0, warmup=100, **VALUED)
    spec, view, params, _ = trained(algorithm, additive(), 1500)
    means = [
        float(actions_of(replace(algorithm, guidance=w), spec, view, params).mean()) for w in (1.0, 2.0, 4.0)
    ]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize(
    ("flow", "ends"),
    [
        (MeanFlow(to_data=False), [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]),
        (MeanFlow(), [(1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.25, 0.0)]),
        (FLOW_MATCHING, [(1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.25, 0.25)]),
    ],
    ids=["drawn ends", "ends at the data", "anchors only"],
)
def test_sampling_asks_for_trained_intervals_only(flow, ends):
    asked = []

    def field(z, t, r):
        asked.append((float(t[0]), float(r[0])))
        return jnp.zeros_like(z)

    flow.sample(field, jnp.zeros((1, 1)), steps=4)
    assert asked == ends


def score(algorithm, data, game, choices, updates):
    spec, view, params, _ = trained(algorithm, data, updates, discrete=choices)
    act = lambda sight, step: np.asarray(  # noqa: E731
        algorithm.act(spec, params, view.obs(sight), jax.random.key(5))
    )
    return play(MatrixGame(game, 4000), act, 0).returns.mean()


@pytest.mark.slow
def test_guidance_beats_cloning_where_teams_match():
    data = matrix_dataset("matching", np.diag([0.2, 0.3, 0.5]), 4096, 0)
    plain = score(MeanFlowBC(**SMALL), data, "matching", 3, 2000)
    guided = score(VGM2P(warmup=200, quantile=0.2, guidance=2.0, **VALUED), data, "matching", 3, 2000)
    assert plain < 0.25
    assert guided > 0.9


@pytest.mark.slow
def test_bimodal_actions_are_cloned_in_their_proportion():
    """Modes at -0.6 (70 %) and +0.6 (30 %): p = 0 keeps both, one jump hits them."""
    rng = np.random.default_rng(0)
    mode = np.where(rng.random((8192, 2, 1)) < 0.7, -0.6, 0.6)
    data = bandit(np.zeros(8192), (mode + 0.08 * rng.normal(size=mode.shape)).astype(np.float32), 8192)
    algorithm = MeanFlowBC(fit=Fit(hidden=(128, 128), slow_rate=0.01), noise=1.0)
    spec, view, params, _ = trained(algorithm, data, 6000)
    actions = np.asarray(actions_of(algorithm, spec, view, params)).ravel()
    near = np.abs(np.abs(actions) - 0.6) < 0.25
    assert (actions[near] > 0).mean() == pytest.approx(0.3, abs=0.05)
    assert near.mean() > 0.85
