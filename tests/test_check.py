"""`vgm2p data check`: each trouble is planted in good data, found, and told with its rows."""

from dataclasses import replace

import numpy as np
import pytest

from vgm2p.cli import main
from vgm2p.data import store
from vgm2p.data.card import describe
from vgm2p.data.check import BLOCK, check, place
from vgm2p.data.dataset import Dataset
from vgm2p.tasks import task


def good(discrete=False, episodes=30, length=20, seed=0) -> Dataset:
    """Smooth states, actions within their range, returns that differ."""
    rng, total = np.random.default_rng(seed), episodes * length
    steps = 0.1 * rng.normal(size=(episodes, length + 1, 3))
    steps[:, 0] = rng.normal(size=(episodes, 3))
    legal = rng.random((total + episodes, 2, 4)) < 0.5
    legal[..., 0] = True
    level = rng.normal(size=episodes)
    return Dataset(
        state=np.cumsum(steps, 1).reshape(-1, 3).astype(np.float32),
        action=np.zeros((total, 2), np.int32)
        if discrete
        else rng.uniform(-0.9, 0.9, (total, 2, 1)).astype("f4"),
        reward=(rng.normal(size=total) + np.repeat(level, length)).astype(np.float32),
        lengths=np.full(episodes, length, np.int32),
        terminated=np.zeros(episodes, bool),
        card={"id": "test/good", "agents": 2},
        legal=legal if discrete else None,
    )


def put(x, where, value):
    """A copy of an array with another value somewhere."""
    changed = x.copy()
    changed[where] = value
    return changed


def found(data, level):
    return [finding for finding in check(data) if finding.level == level]


@pytest.mark.parametrize("discrete", [False, True])
def test_good_data_give_no_trouble(discrete):
    data = good(discrete)
    assert not found(data, "error")
    assert not found(data, "warning")


def test_a_time_limit_flagged_as_an_end():
    (finding,) = found(replace(good(), terminated=np.ones(30, bool)), "warning")
    assert "30 episodes truly end after exactly 20 steps" in finding.told
    assert "--time-limit 20" in finding.mend
    assert finding.rows[:2] == (19, 39)


def test_a_missing_border():
    data = good()
    joined = replace(
        data,
        state=np.delete(data.state, 20, axis=0),  # the first episode's last
        lengths=np.array([40, *data.lengths[2:]], np.int32),
        terminated=data.terminated[1:],
        action=data.action,
    )
    (finding,) = found(joined, "warning")
    assert "from one episode to the next" in finding.told
    assert 19 in finding.rows


def test_copies_are_counted_and_named():
    data = good()
    twice = data.take(np.array([*range(30), 3, 3]))
    (finding,) = found(twice, "warning")
    assert "6% of the transitions are copies" in finding.told
    assert (finding.many, finding.rows[0]) == (40, 600)
    assert place(twice, 621) == "row 621 (episode 31, step 1)"


def test_actions_out_of_range_or_still():
    data = good()
    (finding,) = found(replace(data, action=put(data.action, (7, 1), 40.0)), "warning")
    assert finding.rows == (7,)
    assert "--action-range" in finding.mend
    (finding,) = found(replace(data, action=put(data.action, (slice(None), 1), 0.5)), "warning")
    assert "action entry 0 of agent 1 never changes" in finding.told
    clipped = replace(data, action=np.clip(3 * data.action, -1, 1))
    assert any("were clipped" in finding.told for finding in found(clipped, "note"))


def test_illegal_choices():
    data = good(discrete=True)
    late = replace(
        data, action=put(data.action, (5, 0), 3), legal=put(data.legal, (5, 0), [True, True, True, False])
    )
    (finding,) = found(late, "error")
    assert finding.rows == (5,)
    assert "a row late" in finding.mend
    stuck = replace(data, legal=put(data.legal, (22, 1), False))  # episode 1's second state
    assert {finding.rows for finding in found(stuck, "error")} == {(21,)}


def test_rewards_that_tell_nothing_or_too_much():
    data = good()
    (finding,) = found(replace(data, reward=np.ones_like(data.reward)), "error")
    assert "never changes" in finding.told
    (finding,) = found(replace(good(episodes=300), reward=put(good(episodes=300).reward, 9, 1e6)), "warning")
    assert finding.rows == (9,)


def test_a_state_that_holds_the_action():
    data = good()
    at = np.arange(600) + np.repeat(np.arange(30), 20)
    (finding,) = found(replace(data, state=put(data.state, (at, 2), 3 * data.action[:, 1, 0] - 1)), "error")
    assert "'state' entry 2 is the action of the same step" in finding.told


def test_few_episodes_and_still_entries():
    data = good(episodes=5)
    still = replace(data, state=put(data.state, (slice(None), 1), 0.0))
    assert any("5 episodes only" in finding.told for finding in found(still, "warning"))
    assert any(
        "1 of 3 entries (1) of 'state' never change" in finding.told for finding in found(still, "note")
    )


def test_blocks_do_not_change_what_is_found(monkeypatch):
    data = replace(good(), terminated=np.ones(30, bool), action=put(good().action, (7, 1), 40.0))
    whole = check(data)
    monkeypatch.setattr("vgm2p.data.check.BLOCK", 64)
    assert BLOCK != 64
    assert check(data) == whole


def test_the_command_tells_and_its_status_says_so(data_home, tmp_path, capsys):
    bad = good(discrete=True)
    bad = replace(bad, action=put(bad.action, (5, 0), 3), legal=put(bad.legal, (5, 0, 3), False))
    card = {"id": "own/bad", "agents": 2, "horizon": 20, **describe(bad.returns, bad.lengths)}
    store.save(replace(bad, card=card), data_home / "own/bad")
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", "own/bad", "--page", str(tmp_path / "check.html")])
    assert ended.value.code == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "error in 1 transitions an agent makes a choice that is not legal there" in told
    assert "row 5 (episode 0, step 5)" in told
    page = (tmp_path / "check.html").read_text()
    assert page.count("<svg") == 5
    assert "row 5 (episode 0, step 5)" in page


def test_a_twin_passes(hopper, capsys):
    main(["data", "check", hopper])
    assert not found(task(hopper).load_data(), "error")
    assert "are unique (SACo)" in capsys.readouterr().out
