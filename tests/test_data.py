"""Alignment, look-ahead, files that can be trusted, and twins that can be made again."""

import json
import platform
from dataclasses import asdict, replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from vgm2p.actions import Continuous, Discrete
from vgm2p.behaviour import ladder, twin
from vgm2p.behaviour.build import RECIPES
from vgm2p.data import store
from vgm2p.data.card import versions
from vgm2p.data.dataset import Dataset, Habit, Habits, _halves
from vgm2p.errors import InputError
from vgm2p.tasks import TASKS, nearest_published, task
from vgm2p.types import Sampling, Sight
from vgm2p.view import TeamView


def episodes(lengths=(3, 2, 4), terminated=(True, False, False), seed=0) -> Dataset:
    """Random episodes; state entry 0 counts rows, so that alignment can be read off."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    state = rng.normal(size=(total + len(lengths), 2)).astype(np.float32)
    state[:, 0] = np.arange(len(state))
    return Dataset(
        state=state,
        action=rng.normal(size=(total, 2, 1)).astype(np.float32),
        reward=rng.normal(size=total).astype(np.float32),
        lengths=np.array(lengths, np.int32),
        terminated=np.array(terminated),
        card={"id": "test/data"},
    )


def habits_of(data, steps, codec=Continuous(1)) -> Habits:  # noqa: B008
    told = Habit.of(data, np.arange(len(data.lengths)), codec, steps)
    return Habits.of(data.lengths, told, steps)


def plain_view(n=2):
    return TeamView(jnp.zeros(2), jnp.ones(2), (), n)


@pytest.mark.parametrize("lookahead", [1, 2, 3, 1000])
def test_look_ahead_agrees_with_a_plain_loop(lookahead):
    data, gamma = episodes(), 0.9
    replay = data.replay(plain_view(), Sampling(discount=gamma, lookahead=lookahead), Continuous(1))
    scale, t = (1 - gamma) / data.reward.std(), 0
    outcome = np.repeat(data.returns, data.lengths)
    outcome = (outcome - outcome.mean()) / outcome.std()
    for episode, length in enumerate(data.lengths):
        first = t
        for step in range(length):
            taken = min(lookahead, length - step)
            reward = sum(gamma**j * data.reward[first + step + j] for j in range(taken))
            ended = step + taken == length and data.terminated[episode]
            assert replay.row[t] == t + episode
            assert replay.next_row[t] == t + episode + taken
            assert replay.reward[t] == pytest.approx(scale * reward, abs=1e-5)
            assert replay.discount[t] == pytest.approx(0.0 if ended else gamma**taken)
            assert replay.outcome[t] == pytest.approx(outcome[t], abs=1e-5)
            t += 1


def test_no_sample_crosses_an_episode_border():
    data, view = episodes(), plain_view()
    batch = data.replay(view, Sampling(discount=0.9), Continuous(1)).sample(
        Continuous(1), 500, jax.random.key(0)
    )
    np.testing.assert_array_equal(batch.next_state[:, 0] - batch.state[:, 0], 1)
    last_rows = np.cumsum(data.lengths + 1) - 1
    assert not np.isin(batch.state[:, 0], last_rows).any()


def test_halves_are_different_random_halves_of_whole_episodes():
    data, view = episodes(), plain_view()
    halves = np.asarray(data.replay(view, Sampling(halves=3), Continuous(1)).halves)
    borders = np.concatenate([[0], np.cumsum(data.lengths)])
    for start, stop in pairwise(borders):
        assert (halves[start:stop] == halves[start]).all()
    held = halves[borders[:-1]]
    assert held.shape == (len(data.lengths), 3)
    assert (held.sum(0) == (len(data.lengths) + 1) // 2).all()
    many = np.asarray(_halves(200, 8))
    assert (many.sum(0) == 100).all()
    assert np.abs(np.corrcoef(many.T) - np.eye(8)).max() < 0.3


@pytest.mark.parametrize("steps", [0, 2, 1000])
def test_a_habit_is_the_mean_of_the_other_first_actions_of_its_episode(steps):
    data = episodes()
    index = jnp.arange(int(data.lengths.sum()))
    habits = habits_of(data, steps)
    found = np.asarray(habits.sample(index, jnp.asarray(data.action)))
    ends = np.cumsum(data.lengths)
    for end, length in zip(ends, data.lengths, strict=True):
        for t in range(end - length, end):
            others = [k for k in range(end - length, min(end - length + steps, end)) if k != t]
            told = (data.action[others].mean(0) - habits.mean) / habits.std if others else 0.0
            np.testing.assert_allclose(found[t], np.broadcast_to(told, (2, 1)), atol=1e-4)


def test_habits_are_standardised_over_transitions():
    data = episodes()
    habits = habits_of(data, 1000)
    average = np.repeat(habits.total / habits.seen[:, None, None], data.lengths, axis=0)
    np.testing.assert_allclose(habits.mean, average.mean(0), atol=1e-5)
    np.testing.assert_allclose(habits.std, average.std(0), atol=1e-5)


def test_what_a_team_does_later_is_no_part_of_its_habit():
    """Later actions follow from earlier ones: a value that is told them gives earlier ones no credit."""
    data = episodes()
    later = np.concatenate([np.arange(length) >= 2 for length in data.lengths])
    changed = replace(data, action=np.where(later[:, None, None], 7.0, data.action).astype(np.float32))
    one, other = (habits_of(x, 2) for x in (data, changed))
    np.testing.assert_array_equal(one.total, other.total)


def test_a_habit_of_choices_is_of_their_codes():
    habits = habits_of(choices(), 10, Discrete(3))
    np.testing.assert_array_equal(habits.total[0], [[0, -2, 0], [-2, -2, 2]])


def test_only_true_ends_have_discount_zero():
    data, view = episodes(), plain_view()
    replay = data.replay(view, Sampling(discount=0.9), Continuous(1))
    np.testing.assert_array_equal(np.flatnonzero(replay.discount == 0), [2])


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("state", lambda x: x[:-1], "'state' has 11 rows but 'lengths' asks for 12"),
        (
            "reward",
            lambda x: np.where(np.arange(9) == 4, np.nan, x).astype(np.float32),
            "'reward' holds .* in row 4",
        ),
    ],
)
def test_broken_arrays_are_refused_with_field_and_row(field, change, message):
    data = episodes()
    fields = {name: getattr(data, name) for name in store.FIELDS} | {field: change(getattr(data, field))}
    with pytest.raises(InputError, match=message):
        Dataset(**fields, card={"id": "test/data"})


def choices(**changed) -> Dataset:
    """One episode of two steps of two agents that choose among three."""
    fields = {
        "state": np.zeros((3, 1), np.float32),
        "action": np.array([[0, 2], [2, 2]], np.int32),
        "reward": np.zeros(2, np.float32),
        "lengths": np.array([2], np.int32),
        "terminated": np.array([True]),
        "legal": np.ones((3, 2, 3), bool),
    }
    return Dataset(**fields | changed, card={"id": "test/choices"})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"legal": None}, r"'action' has shape \(2, 2\), 'legal' is missing"),
        ({"action": np.zeros((2, 2, 1), np.float32)}, "'legal' is there"),
        ({"legal": np.ones((3, 3, 3), bool)}, "different numbers of agents: {'action': 2, 'legal': 3}"),
        ({"lengths": np.array([2, 0], np.int32)}, "episode 1 has 0 steps"),
        ({"action": np.array([[0, 2], [2, 3]], np.int32)}, "choice 3 of agent 1 in row 1, 'legal' knows"),
        ({"action": np.array([[0, -1], [2, 2]], np.int32)}, "choice -1 of agent 1 in row 0"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(changed, told):
    with pytest.raises(InputError, match=told):
        choices(**changed)


def test_saved_data_come_back_equal(tmp_path):
    saved = store.save(episodes(), tmp_path)
    loaded = store.load(tmp_path)
    for name in store.FIELDS:
        np.testing.assert_array_equal(getattr(saved, name), getattr(loaded, name))
    assert loaded.card["sha256"] == store.sha256(tmp_path / "data.safetensors")


def test_truncated_file_is_refused(tmp_path):
    store.save(episodes(), tmp_path)
    path = tmp_path / "data.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"data.safetensors is truncated.*delete it and make it again"):
        store.load(tmp_path)


def test_changed_file_is_refused_by_its_digest(tmp_path):
    store.save(episodes(), tmp_path)
    other = episodes(seed=1)
    save_file({name: getattr(other, name) for name in store.FIELDS}, tmp_path / "data.safetensors")
    with pytest.raises(InputError, match=r"has sha256 .* but its card says"):
        store.load(tmp_path)


def test_a_card_tells_which_instructions_the_processor_has():
    family, latest = versions()["machine"].split()
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    assert family == platform.machine()
    assert latest in {*simd["baseline"], *simd["found"]} - {*simd.get("not found", ())}


def test_broken_card_is_refused(tmp_path):
    store.save(episodes(), tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card.json is not valid JSON"):
        store.load(tmp_path)


def test_a_card_without_what_every_card_tells_is_refused(tmp_path):
    store.save(episodes(), tmp_path)
    card = store.read_json(tmp_path / "card.json")
    store.write_json(tmp_path / "card.json", card | {"return_mean": None, "sha256": 5})
    with pytest.raises(InputError, match=r"card\.json lacks the fields sha256, return_mean,"):
        store.load(tmp_path)


def test_lines_that_are_no_objects_end_what_is_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n5\n{"step": 2}\n')
    assert store.read_lines(tmp_path / "metrics.jsonl") == [{"step": 1}]


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x.json"
    store.write_json(path, 1)

    def full_disk(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"can't write .*x.json: No space left on device"):
        store.replace_file(path, full_disk)
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    assert json.loads(path.read_text()) == 1


def test_folder_without_permission_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="can't write"):
        store.write_json(tmp_path / "file" / "card.json", {})


def test_take_gives_whole_episodes_in_the_order_asked_for():
    data = episodes()
    part = data.take(np.array([2, 1]))
    assert part.returns == pytest.approx(data.returns[[2, 1]])
    np.testing.assert_array_equal(part.take(np.array([1])).state, data.state[4:7])


def test_best_keeps_episodes_that_reach_an_expectile_of_the_returns():
    data = episodes((3, 3, 3, 3), (False,) * 4)
    data = replace(data, reward=np.repeat(np.float32([1, 2, 3, 10]), 3))
    np.testing.assert_allclose(data.returns[data.best(0.5)], [30])  # the mean is 12
    np.testing.assert_allclose(data.returns[data.best(0.08)], [6, 9, 30])  # the expectile is 5.5
    assert len(replace(data, reward=np.full(12, 0.1, np.float32)).best(0.8)) == 4


def test_views_standardise_with_the_data_and_append_the_id():
    state = np.random.default_rng(0).normal(3.0, 2.0, (1000, 2)).astype(np.float32)
    obs = TeamView.of(Sight(state), 3).obs(Sight(state))
    assert obs.shape == (1000, 3, 5)
    np.testing.assert_allclose(obs[..., :2].mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(obs[..., :2].std((0, 1)), 1, atol=1e-4)
    np.testing.assert_array_equal(obs[0, :, 2:], np.eye(3))


def test_constant_state_entries_stay_finite():
    view = TeamView.of(Sight(np.full((10, 2), 5.0, np.float32)), 1)
    assert np.isfinite(view.obs(Sight(np.full((1, 2), 5.0)))).all()


def test_vector_view_is_omigas_and_can_be_inverted():
    """sigma = 1 / (z_on - z_off), mu = -z_off sigma gives the raw vector back (docs/data.md)."""
    state = np.random.default_rng(0).normal(size=(50, 27)).astype(np.float32)
    obs = np.asarray(TeamView.of(Sight(state), 2, "vector", padding=84).obs(Sight(state)))
    assert obs.shape == (50, 2, 113)
    np.testing.assert_allclose(obs.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(obs.std(-1), 1, atol=1e-5)
    on, off = obs[:, 0, 111:112], obs[:, 0, 112:113]
    sigma = 1 / (on - off)
    np.testing.assert_allclose(obs[:, 0, :27] * sigma - off * sigma, state, atol=1e-4)


def test_codecs_round_trip():
    choice = jnp.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(Discrete(3).decode(Discrete(3).encode(choice), None), choice)
    wide = jnp.array([[-3.0, 0.5]])
    np.testing.assert_array_equal(Continuous(2).encode(wide), wide)
    np.testing.assert_array_equal(Continuous(2, "clipped").encode(wide), [[-1.0, 0.5]])
    np.testing.assert_array_equal(Continuous(2).decode(wide, None), [[-1.0, 0.5]])


def test_no_illegal_choice_is_ever_decoded():
    code = jax.random.normal(jax.random.key(0), (5000, 7))
    legal = jax.random.bernoulli(jax.random.key(1), 0.3, (5000, 7)).at[:, 3].set(True)
    choice = Discrete(7).decode(code, legal)
    assert legal[jnp.arange(5000), choice].all()


def test_unknown_task_names_the_nearest():
    with pytest.raises(
        InputError, match=r"unknown task 'twin/3hoper-medium'.*did you mean twin/3hopper-medium"
    ):
        task("twin/3hoper-medium")


def test_missing_data_says_how_to_make_them():
    with pytest.raises(InputError, match="vgm2p data make twin/2ant-expert"):
        task("twin/2ant-expert").load_data()


@pytest.mark.parametrize("robot", ["halfcheetah", "hopper", "ant"])
def test_shipped_ladders_are_complete(robot):
    card = ladder.card(robot)
    for rung in card["rungs"]:
        actor = ladder.load_actor(ladder.folder(robot) / rung["file"])
        assert np.isfinite(actor.mean).all()
    for shares in card["tiers"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.01)


def test_a_saved_behaviour_policy_acts_as_before(tmp_path):
    actor = ladder.load_actor(ladder.folder("hopper") / "05.safetensors")
    ladder.save_actor(actor, tmp_path / "again.safetensors")
    again, state = ladder.load_actor(tmp_path / "again.safetensors"), np.ones((4, 11), np.float32)
    key = jax.random.key(0)
    np.testing.assert_array_equal(*(x.act(Sight(state), key) for x in (actor, again)))


@pytest.mark.parametrize("seed", [-1, 202601011200])
def test_a_seed_that_keys_do_not_tell_apart_makes_no_data(seed):
    with pytest.raises(InputError, match=f"seed {seed} must be 0 to"):
        twin.make(task("twin/3hopper-expert"), transitions=10, seed=seed)


def test_twins_are_the_same_bytes_for_the_same_seed_whatever_the_threads(hopper, data_home):
    first = store.read_json(data_home / hopper / "card.json")["sha256"]
    one = twin.make(task(hopper), transitions=4_000, threads=1).card["sha256"]
    assert twin.make(task(hopper), transitions=4_000, seed=1).card["sha256"] != first
    again = twin.make(task(hopper), transitions=4_000).card["sha256"]
    assert first == one == again


def test_too_few_transitions_for_a_mix_are_refused(data_home):
    with pytest.raises(InputError, match="transitions 1 leave none to any team"):
        twin.make(task("twin/3hopper-medium-replay"), transitions=1)


def test_behaviour_acts_on_the_processor_whatever_accelerator_is_there(data_home, monkeypatch):
    seen, roll_out = [], ladder.roll_out

    def spy(*args):
        seen.append(jax.config.jax_default_device.platform)
        return roll_out(*args)

    monkeypatch.setattr(ladder, "roll_out", spy)
    twin.make(task("twin/2ant-medium"), transitions=50)
    assert set(seen) == {"cpu"}


def test_twins_log_unclipped_actions_and_pay_for_them(hopper):
    data = task(hopper).load_data()
    assert np.abs(data.action).max() > 1
    assert data.action.shape[1:] == (3, 1)


def test_medium_expert_holds_the_episodes_of_both(data_home):
    twin.make(task("twin/3hopper-medium-expert"), transitions=8_000)
    both = task("twin/3hopper-medium-expert").load_data().returns
    for tier in ("medium", "expert"):
        where = task(f"twin/3hopper-{tier}")
        share = 8_000 / task("twin/3hopper-medium-expert").transitions
        part = twin.make(where, transitions=round(share * where.transitions))
        assert np.isin(part.returns, both).all()


def test_nearest_published_set_is_found():
    stats = TASKS["twin/2ant-medium"].published
    returns = np.random.default_rng(0).normal(stats["mean"], stats["std"], 500)
    assert nearest_published("2ant", returns)[0] == "2ant-medium"


def test_fitted_shares_meet_the_mean_before_the_spread():
    mean, std = np.array([100.0, 500.0, 900.0, 1500.0]), np.array([20.0, 100.0, 200.0, 300.0])
    shares = ladder.fit_shares(mean, std, 700.0, 50.0)
    assert shares @ mean == pytest.approx(700, rel=0.02)


@pytest.mark.parametrize("robot", sorted(RECIPES))
def test_shipped_ladders_were_made_by_the_recipes_in_the_code(robot):
    written = json.loads(json.dumps(asdict(RECIPES[robot])))
    assert ladder.card(robot)["recipe"] == written
