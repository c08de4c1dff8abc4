"""Controllers that leave: the same actions without JAX, in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import slow
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

import vgm2p.export as export_module
from vgm2p.algorithms import ALGORITHMS, BC, CONTINUOUS, TD3BC, VGM2P, DiffusionBC, Fit, MeanFlowBC
from vgm2p.algorithms.vgm2p import encode
from vgm2p.cli import main
from vgm2p.data.store import read_json
from vgm2p.errors import InputError
from vgm2p.export import _in_units, controller, export
from vgm2p.policy import Policy
from vgm2p.runs import Experiment, load_policy, prepare, run
from vgm2p.tasks import task
from vgm2p.train import seed_keys
from vgm2p.types import Sight

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = {"fit": Fit(hidden=(16,))}


def trained(name, algorithm, folder, seeds=(0, 1), **more):
    """A run of a few updates."""
    experiment = Experiment(
        name, algorithm, updates=3, batch=16, seeds=seeds, eval_every=3, eval_episodes=1, **more
    )
    run(experiment, folder)
    return folder


def untrained(name, algorithm, **more) -> Policy:
    """A team as it is before its first update: its actions are as good as any to compare."""
    setup = prepare(Experiment(name, algorithm, seeds=(0, 1), **more))
    states = [algorithm.init(setup.spec, key) for key in seed_keys((0, 1))]
    params = jax.tree.map(lambda *x: jnp.stack(x), *(state.params for state in states))
    return Policy(algorithm, setup.spec, setup.view, params, (0, 1))


def shown(policy, rng):
    """Something that the environment could show."""
    state = np.asarray(
        policy.view.mean + policy.view.std * rng.normal(size=policy.view.mean.shape), np.float32
    )
    if not policy.view.own:
        return Sight(state)
    mean, std = policy.view.own
    n, o = policy.view.n, len(mean) * policy.view.history
    obs = np.tile(mean, policy.view.history) + np.tile(std, policy.view.history) * rng.normal(size=(n, o))
    legal = rng.random((n, policy.spec.action_dim)) < 0.5
    legal[:, 0] = True
    return Sight(state, obs.astype(np.float32), legal)


def alone(made, obs, noise, legal, w):
    """One agent's answer from its own observation and noise."""
    given = {"obs": obs, "noise": noise, "legal": legal, "w": np.asarray(w, np.float32)}
    return [given[name] for name in made.inputs]


QUICK = ("bc", "vgm2p", "categorical_cfg")  # of battles; the others are slow tests
TEAMS = [
    *(("hopper", name) for name in CONTINUOUS),
    *(("marines", name) for name in QUICK),
    *(slow("marines", name) for name in ALGORITHMS if name not in QUICK),
]


@pytest.mark.parametrize(("kind", "name"), TEAMS)
def test_each_agent_alone_acts_as_the_team_does(kind, name, request):
    where = request.getfixturevalue(kind)
    policy = untrained(where, ALGORITHMS[name](**TINY))
    w = 1.7 if "guidance" in policy.algorithm.options else 1.0
    policy = policy.with_options(guidance=w) if w > 1 else policy
    rng, n, a = np.random.default_rng(0), policy.view.n, policy.spec.action_dim
    draws = (policy.algorithm.steps + 1,) if name == "diffusion_bc" else ()
    for place in range(2):
        params = jax.tree.map(lambda x, place=place: x[place], policy.params)
        sight, noise = shown(policy, rng), rng.normal(size=(*draws, n, a)).astype(np.float32)
        team = policy.algorithm.act(
            policy.spec, params, policy.view.obs(sight), jnp.asarray(noise), sight.legal
        )
        for agent in range(n):
            made = controller(policy, {}, agent, place)
            obs = sight.state if sight.obs is None else sight.obs[agent]
            legal = None if sight.legal is None else sight.legal[agent]
            action = made.act(*alone(made, obs, noise[..., agent, :], legal, w))
            np.testing.assert_allclose(action, team[agent], atol=1e-5)


def test_actions_leave_in_the_units_of_the_environment():
    """From -1 to 1 onto each entry's range, without padding; choices from the agent's first."""
    ranges = {"low": [[0.0], [0.0, -2.0]], "high": [[1.0], [1.0, 4.0]]}
    np.testing.assert_allclose(_in_units(jnp.array([-0.5, 1.0, 0.0]), ranges, 1), [0.25, 4.0])
    np.testing.assert_allclose(_in_units(jnp.array([1.0, 0.3]), ranges, 0), [1.0])
    assert _in_units(jnp.array(2), {"starts": [1, 5]}, 1) == 7
    assert _in_units(jnp.array(0.3), {}, 0) == jnp.array(0.3)


@pytest.mark.parametrize(
    "name", ["vgm2p", *map(slow, ("bc", "diffusion_bc", "cfgrl_flow", "mac_flow", "td3_bc"))]
)
def test_graphs_of_robots_are_held_against_the_policy(name, hopper, tmp_path):
    """`export` raises where they differ; here for each kind of network and of noise."""
    trained(hopper, ALGORITHMS[name](**TINY), tmp_path / "run", seeds=(0,))
    paths = export(tmp_path / "run", tmp_path / "out")
    assert [path.name for path in paths] == [
        *(f"agent_{i}.onnx" for i in range(3)),
        "README.md",
        "model.json",
    ]
    for agent in read_json(tmp_path / "out/model.json")["agents"].values():
        onnx.checker.check_model(tmp_path / "out" / agent["file"])
        assert agent["furthest_from_policy"] <= (1e-4 if name == "diffusion_bc" else 1e-5)


def test_a_graph_that_differs_keeps_all_from_being_written(hopper, tmp_path, monkeypatch):
    trained(hopper, BC(**TINY), tmp_path / "run", seeds=(0,))
    passing = export_module._furthest

    def second_differs(policy, made, run):
        if made.name == "agent_1":
            raise InputError("an action is far from the policy's")
        return passing(policy, made, run)

    monkeypatch.setattr(export_module, "_furthest", second_differs)
    with pytest.raises(InputError, match="far from the policy's"):
        export(tmp_path / "run", tmp_path / "out", "stablehlo")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_answers_no_number_differs(hopper, tmp_path):
    trained(hopper, BC(**TINY), tmp_path, seeds=(0,))
    policy = load_policy(tmp_path)
    with pytest.raises(InputError, match="an action is nan half ranges from the policy's"):
        export_module._furthest(policy, controller(policy, {}, 0, 0), lambda *values: np.float32("nan"))


@pytest.mark.parametrize("name", ["vgm2p", slow("categorical_cfg")])
def test_graphs_of_battles_choose_what_is_legal(name, marines, tmp_path):
    trained(marines, ALGORITHMS[name](**TINY), tmp_path / "run", seeds=(0,))
    export(tmp_path / "run", tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out/agent_1.onnx")
    given = {x.name: np.zeros(x.shape, np.float32) for x in session.get_inputs()}
    given["w"] = np.ones((), np.float32)
    for only in range(len(given["legal"])):
        given["legal"] = np.arange(len(given["legal"])) == only
        assert session.run(None, given)[0] == only


def test_a_model_card_tells_score_data_and_licence(hopper, tmp_path):
    trained(hopper, VGM2P(**TINY), tmp_path / "run")
    main(
        ["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--seed", "1", "--to", "stablehlo"]
    )
    model = read_json(tmp_path / "out/model.json")
    data = task(hopper).load_data()
    assert (model["seed"], model["data"]["sha256"]) == (1, data.card["sha256"])
    text = (tmp_path / "out/README.md").read_text()
    assert "licence: apache-2.0" in text.lower().replace("license", "licence")
    assert f"{data.returns.mean():.4g} ±" in text
    assert f"Training: {model['updates']} updates; command: `vgm2p train {hopper}" in text
    export(tmp_path / "run", tmp_path / "out", "stablehlo", noise=0.0)
    text = (tmp_path / "out/README.md").read_text()
    assert "acting with noise 0.5 (with these graphs' 0.0 it has no score)" in text
    with pytest.raises(InputError, match="no training seed 7: it has 0, 1"):
        export(tmp_path / "run", tmp_path / "out", seed=7)


def test_a_model_card_of_a_run_that_has_not_ended_says_so(hopper, tmp_path):
    trained(hopper, BC(**TINY), tmp_path / "run", seeds=(0,))
    (tmp_path / "run/result.json").unlink()
    export(tmp_path / "run", tmp_path / "out", "stablehlo")
    assert "not scored: the run has not ended" in (tmp_path / "out/README.md").read_text()


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(hopper, tmp_path):
    trained(hopper, BC(**TINY), tmp_path / "run", seeds=(0,))
    with pytest.raises(InputError, match="holds other files than an exported team"):
        export(tmp_path / "run", tmp_path / "run")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "model.json").write_text('{"format": "layers-model"}')
    with pytest.raises(InputError, match="holds other files than an exported team"):
        export(tmp_path / "run", tmp_path / "theirs")
    export(tmp_path / "run", tmp_path / "out", "onnx")
    paths = export(tmp_path / "run", tmp_path / "out", "stablehlo")
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)


def test_a_team_that_sees_the_state_is_given_all_of_it_where_agents_could_see_less(hopper):
    policy = untrained(hopper, BC(**TINY))
    card = {"obs_widths": [4, 4, 4]}
    assert controller(policy, card, 1, 0).inputs["obs"].shape == policy.view.mean.shape


def test_an_agent_with_fewer_choices_never_makes_one_it_lacks(marines):
    """However it is told what is legal."""
    policy = untrained(marines, BC(**TINY))
    choices = policy.spec.action_dim
    made = controller(policy, {"sizes": [2, choices, choices]}, 0, 0)
    rng, legal = np.random.default_rng(0), np.ones(choices, bool)
    obs, noise = (rng.normal(size=(64, *made.inputs[x].shape)).astype(np.float32) for x in ("obs", "noise"))
    chosen = {int(made.act(*alone(made, o, 9 * e, legal, 1.0))) for o, e in zip(obs, noise, strict=True)}
    assert chosen == {0, 1}


def test_an_agent_that_sees_less_remembers_no_more_than_it_saw(marines):
    """Two steps of four numbers go in, each filled up with zeros as the team's are."""
    policy = untrained(marines, BC(**TINY), history=2)
    wide = policy.view.own[0].shape[0]
    made = controller(policy, {"obs_widths": [4, wide, wide]}, 0, 0)
    steps = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    legal, noise = np.ones(policy.spec.action_dim, bool), np.zeros(made.inputs["noise"].shape, np.float32)
    whole = controller(policy, {}, 0, 0)
    padded = np.pad(steps, ((0, 0), (0, wide - 4))).ravel()
    assert made.inputs["obs"].shape == (8,)
    assert made.act(*alone(made, steps.ravel(), noise, legal, 1.0)) == whole.act(
        *alone(whole, padded, noise, legal, 1.0)
    )


@pytest.mark.parametrize("algorithm", [BC, TD3BC])  # the second acts without noise, and takes it all the same
def test_stablehlo_is_what_its_own_parser_reads(algorithm, hopper, tmp_path):
    trained(hopper, algorithm(**TINY), tmp_path / "run", seeds=(0,))
    export(tmp_path / "run", tmp_path / "out", "stablehlo")
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        module = stablehlo.deserialize_portable_artifact(
            context, (tmp_path / "out/agent_0.stablehlo").read_bytes()
        )
        (main,) = (op for op in module.body.operations if op.attributes["sym_name"].value == "main")
        taken = len(main.regions[0].blocks[0].arguments)
    assert taken == len(read_json(tmp_path / "out/model.json")["agents"]["agent_0"]["inputs"]) == 2


def test_agents_that_share_noise_take_the_teams(hopper):
    policy = untrained(hopper, MeanFlowBC(shared_noise=True, **TINY))
    rng = np.random.default_rng(0)
    sight, noise = shown(policy, rng), rng.normal(size=(3, 1)).astype(np.float32)
    params = jax.tree.map(lambda x: x[0], policy.params)
    team = policy.algorithm.act(policy.spec, params, policy.view.obs(sight), jnp.asarray(noise))
    for agent in range(3):
        made = controller(policy, {}, agent, 0)
        np.testing.assert_allclose(made.act(sight.state, noise), team[agent], atol=1e-5)


def test_a_graph_far_from_its_policy_is_never_written(hopper, tmp_path, monkeypatch):
    trained(hopper, BC(**TINY), tmp_path / "run", seeds=(0,))
    monkeypatch.setattr("vgm2p.export.WITHIN", -1.0)
    with pytest.raises(InputError, match=r"agent_0: an action is .* from the policy's"):
        export(tmp_path / "run", tmp_path / "out", "stablehlo")
    assert not (tmp_path / "out").exists()


def test_an_agents_name_can_not_lead_out_of_the_folder(hopper):
    with pytest.raises(InputError, match=r"agent '../evil' can't name a file"):
        controller(untrained(hopper, BC(**TINY)), {"names": ["../evil", "b", "c"]}, 0, 0)


def test_without_noise_a_graph_makes_the_likeliest_choice(marines):
    """Whatever noise it is given: at t = 1 the marginal velocity tells the mean of the codes."""
    policy = untrained(marines, VGM2P(**TINY)).with_options(noise=0.0)
    made, rng = controller(policy, {}, 0, 0), np.random.default_rng(0)
    sight = shown(policy, rng)
    noises = rng.normal(size=(5, policy.spec.action_dim)).astype(np.float32)
    chosen = {int(made.act(*alone(made, sight.obs[0], noise, sight.legal[0], 1.0))) for noise in noises}
    params = jax.tree.map(lambda x: x[0], policy.params)
    obs, ones = policy.view.obs(sight), jnp.ones(policy.view.n)
    z = jnp.zeros((policy.view.n, policy.spec.action_dim))
    mean = z - params.policy(z, ones, ones, obs, encode(ones, ones), sight.legal)
    assert chosen == {int(jnp.where(sight.legal[0], mean[0], -jnp.inf).argmax())}


def test_noise_from_a_key_is_the_noise_itself(hopper):
    """Diffusion draws anew in each step; all others once."""
    policy = untrained(hopper, DiffusionBC(steps=2, **TINY))
    key, sight = jax.random.key(3), shown(policy, np.random.default_rng(0))
    first, later = jax.random.split(key)
    keys = [first, *(jax.random.fold_in(later, i) for i in range(2))]
    noise = jnp.stack([jax.random.normal(k, (3, 1)) for k in keys])
    params = jax.tree.map(lambda x: x[0], policy.params)
    obs = policy.view.obs(sight)
    act = lambda chance: policy.algorithm.act(policy.spec, params, obs, chance)  # noqa: E731
    np.testing.assert_allclose(act(key), act(noise), atol=1e-6)


def test_processes_that_share_nothing_drive_the_robot(hopper, tmp_path):
    """Without noise they return what the same policy returns in one process, up to rounding."""
    trained(hopper, VGM2P(**TINY), tmp_path / "run", seeds=(0,))
    export(tmp_path / "run", tmp_path / "team")
    command = [sys.executable, EXAMPLES / "drive.py", tmp_path / "team", "--still", "--episodes", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    policy = load_policy(tmp_path / "run").with_options(noise=0.0)
    env, returns = task(hopper).make_env(1, threads=1), []
    for seed in range(2):
        sight, earned = env.reset(seed), 0.0
        while env.running[0]:
            one = jax.tree.map(lambda x: x[None], sight)
            keys = jnp.stack([jax.random.key(0)])
            sight, reward, *_ = env.step(policy.act(one, keys)[0])
            earned += reward[0]
        returns.append(f"episode {seed}: return {earned:.2f}")
    assert [line.split(",")[0] for line in told.splitlines()[:2]] == returns
    assert "control rate 125 Hz" in told


def test_an_agent_process_imports_no_more_than_it_says():
    code = f"import sys; sys.path.insert(0, {str(EXAMPLES)!r}); import agent; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"jax", "vgm2p", "mujoco", "equinox", "onnx"} & set(told.split())


def test_a_dead_agent_process_is_named(hopper, tmp_path):
    sys.path.insert(0, str(EXAMPLES))
    from team import Team

    model = {
        "agents": {"a": {"file": "a.onnx", "inputs": {"obs": {"shape": [1]}, "noise": {"shape": [1]}}}},
        "fields": {},
    }
    model["agents"]["a"]["action"] = {"shape": [1], "dtype": "float32"}
    (tmp_path / "model.json").write_text(json.dumps(model))
    with Team(tmp_path) as team:
        with pytest.raises(ValueError, match="a was shown 2 numbers, its graph takes 1"):
            team.act([np.zeros(2)])
        with pytest.raises(RuntimeError, match=r"a.onnx ended with 1"):
            team.act([np.zeros(1)])
