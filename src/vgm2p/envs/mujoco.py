"""MuJoCo teams: many copies of one robot, all stepped by one `mujoco.rollout` call.

The physics and rewards are those of Gymnasium's `HalfCheetah-v4`, `Hopper-v4` and `Ant-v4`
(a test holds them together to rounding). As in the published data, MuJoCo clamps the torques to
[-1, 1] but the control cost is paid on the action as it was sent.
"""

import importlib.util
import os
import re
import sys
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

# How to render is settled when MuJoCo is first imported. EGL needs no display; told to take an EGL that is
# missing, as it is on many servers, MuJoCo would not import, and nobody but films needs it.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "disable")

import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8
from mujoco.rollout import Rollout
from numpy import ndarray

from vgm2p.envs.env import Step
from vgm2p.errors import InputError, needs
from vgm2p.types import Sight

HORIZON = 1000
_FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


@dataclass(frozen=True)
class Robot:
    """What tells one Gymnasium v4 robot from another. `skip` leading positions are not observed."""

    xml: str
    frame_skip: int
    skip: int
    control_cost: float
    alive: float
    reset_noise: float
    gaussian_velocity: bool  # reset velocities: normal (True) or uniform
    velocity_limit: float = np.inf
    stale_torso: bool = False  # reads its speed where the last Runge-Kutta stage left the torso


ROBOTS = {
    "halfcheetah": Robot("half_cheetah.xml", 5, 1, 0.1, 0.0, 0.1, True),
    "hopper": Robot("hopper.xml", 4, 1, 1e-3, 1.0, 5e-3, False, velocity_limit=10.0),
    "ant": Robot("ant.xml", 5, 2, 0.5, 1.0, 0.1, True, stale_torso=True),
}


class MujocoVec:
    """`copies` independent robots behind one vectorised interface.

    `reset(seed)` starts every copy; `step(action)` moves the copies whose episode is running and
    leaves the others where they ended; `restart(where)` starts the named copies again.
    State: float64 [copies, s], as Gymnasium observes it.
    """

    choices, won = 0, None

    def __init__(self, robot: str, copies: int, threads: int | None = None):
        self.robot = ROBOTS[robot]
        self.name, self.copies, self.horizon = robot, copies, HORIZON
        self.model = _model(self.robot.xml)
        self.dt = self.model.opt.timestep * self.robot.frame_skip
        threads = min(os.cpu_count() or 1, copies) if threads is None else threads
        if threads < 1:
            raise InputError(f"threads {threads} must be at least 1")
        self._pool = Rollout(nthread=threads)
        self._renderer: mujoco.Renderer | None = None
        self._scratch = [mujoco.MjData(self.model) for _ in range(threads)]
        self._start = _full_state(self.model)
        self._physics = np.tile(self._start, (copies, 1))
        self.action_dim = self.model.nu
        self.state_dim = self.model.nq + self.model.nv - self.robot.skip

    def reset(self, seed: int) -> Sight:
        """Start every copy. Copy i begins as Gymnasium does after `reset(seed=seed + i)`."""
        self._rngs = [np.random.default_rng(seed + i) for i in range(self.copies)]
        self.running = np.zeros(self.copies, bool)
        self._age = np.zeros(self.copies, int)
        self._torso = np.zeros(self.copies)
        return self.restart(np.ones(self.copies, bool))

    def restart(self, where: Bool[ndarray, " copies"]) -> Sight:
        """Begin a new episode in the copies of `where`; returns what all copies show."""
        nq, nv, scale = self.model.nq, self.model.nv, self.robot.reset_noise
        for i in np.flatnonzero(where):
            rng = self._rngs[i]
            position = rng.uniform(-scale, scale, nq)
            gaussian = self.robot.gaussian_velocity
            velocity = scale * rng.standard_normal(nv) if gaussian else rng.uniform(-scale, scale, nv)
            self._physics[i] = self._start
            self._physics[i, 1 : 1 + nq + nv] += np.concatenate([position, velocity])
        self.running[where], self._age[where] = True, 0
        self._torso[where] = self._physics[where, 1]
        return Sight(self.state())

    def step(self, action: Float[ndarray, " copies *a"]) -> Step:
        """Advance the running copies by one control step.

        `action` holds each copy's torques in actuator order; an agents axis is flattened.
        Returns (sight, reward, terminated, truncated); copies that had ended get reward 0 and
        False twice. `truncated` is the time limit of 1000 steps, never together with `terminated`.
        """
        live, robot = np.flatnonzero(self.running), self.robot
        action = np.asarray(action, np.float64).reshape(self.copies, -1)[live]
        before = self._torso[live]
        if live.size:  # `rollout` does not survive an empty batch
            self._simulate(live, action)
        self._age[live] += 1

        reward, terminated = np.zeros(self.copies), np.zeros(self.copies, bool)
        speed = (self._torso[live] - before) / self.dt
        reward[live] = speed + robot.alive - robot.control_cost * np.square(action).sum(-1)
        terminated[live] = ~self._healthy(live)
        truncated = self.running & (self._age >= self.horizon) & ~terminated
        self.running &= ~(terminated | truncated)
        return Sight(self.state()), reward, terminated, truncated

    def state(self) -> Float[ndarray, "copies s"]:
        """The observed state of every copy: positions (without the first `skip`) and velocities."""
        nq, nv, limit = self.model.nq, self.model.nv, self.robot.velocity_limit
        position = self._physics[:, 1 + self.robot.skip : 1 + nq]
        velocity = self._physics[:, 1 + nq : 1 + nq + nv]
        return np.concatenate([position, np.clip(velocity, -limit, limit)], axis=1)

    def picture(self, size: int) -> UInt8[ndarray, "size size 3"]:
        """The first copy, seen by a camera that goes with it. No display is needed.

        InputError if MuJoCo has no way to render here.
        """
        if self._renderer is None:
            self._renderer = self._new_renderer(size)
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False  # costs 6 to 9 times the rest
            self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        data, camera = self._scratch[0], mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(self.model, camera)
        camera.distance = 1.2 * self.model.stat.extent if self.name != "halfcheetah" else 4.0
        data.qpos[:], data.qvel[:] = self.pose(0)
        mujoco.mj_forward(self.model, data)
        camera.lookat[:] = data.xpos[1]
        self._renderer.update_scene(data, camera)
        return self._renderer.render().copy()

    def _new_renderer(self, size):
        try:
            return mujoco.Renderer(self.model, size, size)
        except Exception as error:  # each way to draw raises its own where it can't be had
            how = os.environ.get("MUJOCO_GL", "")
            raise InputError(
                f"MuJoCo can't draw here (MUJOCO_GL={how}: {error}). Install EGL, on "
                "Debian with `apt install libegl1 libgl1-mesa-dri`, or set MUJOCO_GL=osmesa where that is"
            ) from error

    def pose(self, copy: int) -> tuple[Float[ndarray, " q"], Float[ndarray, " v"]]:
        """Positions and velocities of one copy, for the renderer."""
        nq, nv = self.model.nq, self.model.nv
        return self._physics[copy, 1 : 1 + nq], self._physics[copy, 1 + nq : 1 + nq + nv]

    def close(self) -> None:
        """End the physics threads and the renderer."""
        self._pool.close()
        if self._renderer is not None:
            self._renderer.close()

    def _simulate(self, live, action):
        """Move `live` copies by one control step; sets their physics and torso position."""
        substeps = self.robot.frame_skip - self.robot.stale_torso
        control = np.repeat(action[:, None], substeps, axis=1)
        states, _ = self._pool.rollout(
            self.model, self._scratch, initial_state=self._physics[live], control=control
        )
        self._physics[live] = states[:, -1]
        self._torso[live] = states[:, -1, 1]
        if self.robot.stale_torso:
            self._last_substep(live, action)

    def _last_substep(self, live, action):
        """Gymnasium's Ant reads `xpos`, which only a step on one `MjData` at a time shows."""
        data = self._scratch[0]
        for i, control in zip(live, action, strict=True):
            mujoco.mj_setState(self.model, data, self._physics[i], _FULL)
            data.ctrl[:], data.qacc_warmstart[:] = control, 0.0  # nothing of the copy before
            mujoco.mj_step(self.model, data)
            mujoco.mj_getState(self.model, data, self._physics[i], _FULL)
            self._torso[i] = data.xpos[1, 0]

    def _healthy(self, live):
        position = self._physics[live, 1 : 1 + self.model.nq]
        if self.name == "hopper":
            rest = self._physics[live, 3 : 1 + self.model.nq + self.model.nv]
            upright = (position[:, 1] > 0.7) & (np.abs(position[:, 2]) < 0.2)
            return upright & (np.abs(rest) < 100).all(-1)
        if self.name == "ant":
            return (
                np.isfinite(self._physics[live]).all(-1) & (position[:, 2] >= 0.2) & (position[:, 2] <= 1.0)
            )
        return np.ones(len(live), bool)


def _model(xml: str) -> mujoco.MjModel:
    """Gymnasium's model; HalfCheetah's total mass is set as MuJoCo 4 wants it, without a deprecation."""
    text = (_assets() / xml).read_text()
    total = re.search(r'\s*settotalmass="([\d.]+)"', text)
    model = mujoco.MjModel.from_xml_string(text.replace(total[0], "") if total else text)
    if total:
        mujoco.mj_setTotalmass(model, float(total[1]))
        mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def _assets() -> Path:
    """Gymnasium's folder of robot models, found without importing Gymnasium."""
    spec = importlib.util.find_spec("gymnasium")
    if spec is None or spec.origin is None:
        raise needs("a MuJoCo task", "mujoco")
    return Path(spec.origin).parent / "envs" / "mujoco" / "assets"


def _full_state(model):
    data = mujoco.MjData(model)
    out = np.empty(mujoco.mj_stateSize(model, _FULL))
    mujoco.mj_getState(model, data, out, _FULL)
    return out
