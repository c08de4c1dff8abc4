"""PPO on the vectorised physics: how the behaviour policies of our own data come about.

One network sees the full state and returns the mean of a diagonal Gaussian. Since every agent of the
paper's MA-MuJoCo teams sees the full state as well, that Gaussian is a product over agents: a
decentralised team policy (Schulman et al., 2017, arXiv 1707.06347; the usual continuous-control
settings: observation and return normalisation, learning rate falling to zero).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from vgm2p.envs.mujoco import MujocoVec
from vgm2p.nets import MLP


class Actor(eqx.Module):
    """A diagonal Gaussian over the team's joint action, with its own state standardisation."""

    net: MLP
    log_std: Float[Array, " a"]
    mean: Float[Array, " s"]
    std: Float[Array, " s"]

    def standardise(self, state: Float[Array, "*b s"]) -> Float[Array, "*b s"]:
        """Zero mean and unit variance over the data seen in training, clipped at 10."""
        return jnp.clip((state - self.mean) / self.std, -10, 10)

    @eqx.filter_jit
    def sample(self, state: Float[Array, "*b s"], key: PRNGKeyArray) -> Float[Array, "*b a"]:
        """One unclipped Gaussian action per row."""
        mean = self.net(self.standardise(state))
        return mean + jnp.exp(self.log_std) * jax.random.normal(key, mean.shape)


@dataclass(frozen=True)
class PPO:
    """Settings of the behaviour training; the defaults train HalfCheetah and Hopper, ants add a goal."""

    copies: int = 64
    steps: int = 64
    epochs: int = 10
    minibatch: int = 128
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    discount: float = 0.99
    trace: float = 0.95  # lambda of generalised advantage estimation
    clip: float = 0.2
    value_weight: float = 0.5
    max_grad_norm: float = 0.5
    reward_goal: float | None = None  # if set, a step is worth less the further its reward is from this
    initial_std: float = 0.4  # from 1.0, HalfCheetah and Hopper stay on the way for long


class _Learner(NamedTuple):
    actor: Actor
    critic: MLP
    opt: optax.OptState


class _Rollout(NamedTuple):
    state: Float[Array, "t e s"]
    next_state: Float[Array, "t e s"]
    action: Float[Array, "t e a"]
    reward: Float[Array, "t e"]
    discount: Float[Array, "t e"]  # 0 after a true end: no bootstrap
    ended: Float[Array, "t e"]  # 1 after any end: no trace across it


class _Moments:
    """Running mean and variance (Chan's parallel update)."""

    def __init__(self, shape):
        self.mean, self.var, self.count = np.zeros(shape), np.ones(shape), 1e-4

    def update(self, x):
        count, mean, var = len(x), x.mean(0), x.var(0)
        total, shift = self.count + count, mean - self.mean
        spread = self.var * self.count + var * count + shift**2 * self.count * count / total
        self.mean, self.var, self.count = self.mean + shift * count / total, spread / total, total


def train(env: MujocoVec, config: PPO, iterations: int, seed: int):
    """Train on `env`; yields (iteration, actor, mean return of the episodes that ended) each time.

    While learning, actions are clipped before they are sent, so their noise costs no more than the motors
    can take and exploration stays alive; the data are rolled out unclipped (`ladder.roll_out`).
    """
    optimiser = _optimiser(config, iterations)
    learner = _init(env, config, optimiser, jax.random.key(seed))
    states, returns = _Moments(env.state_dim), _Moments(())
    running_return, score = np.zeros(env.copies), np.zeros(env.copies)
    state = env.reset(seed)
    for iteration in range(iterations):
        key = jax.random.fold_in(jax.random.key(seed), iteration)
        rows, finished = [], []
        for t in range(config.steps):
            states.update(state)
            learner = learner._replace(actor=_restandardise(learner.actor, states))
            action = np.asarray(learner.actor.sample(state.astype(np.float32), jax.random.fold_in(key, t)))
            following, reward, terminated, truncated = env.step(np.clip(action, -1, 1))
            ended = terminated | truncated
            learned = reward if config.reward_goal is None else _near(reward, config.reward_goal)
            running_return = running_return * config.discount + learned
            returns.update(running_return)
            score += reward
            finished.extend(score[ended])
            scaled = np.clip(learned / np.sqrt(returns.var + 1e-8), -10, 10)
            rows.append((state, following, action, scaled, 1.0 - terminated, ended))
            running_return[ended], score[ended] = 0, 0
            state = env.restart(ended)
        rollout = _Rollout(*(jnp.asarray(np.stack(x), jnp.float32) for x in zip(*rows, strict=True)))
        learner = _improve(learner, rollout, key, config=config, optimiser=optimiser)
        yield iteration, learner.actor, float(np.mean(finished)) if finished else float("nan")


def _near(reward, goal):
    """Highest, `goal`, where the reward meets the goal: makes slow, steady walkers of a wanted return."""
    return goal - np.abs(reward - goal)


def _init(env, config, optimiser, key):
    actor_key, critic_key = jax.random.split(key)
    sizes = (env.state_dim, config.hidden)
    net = MLP(*sizes, env.action_dim, actor_key, activation="tanh", last_gain=0.01)
    critic = MLP(*sizes, 1, critic_key, activation="tanh")
    log_std = jnp.full(env.action_dim, math.log(config.initial_std))
    actor = Actor(net, log_std, jnp.zeros(env.state_dim), jnp.ones(env.state_dim))
    return _Learner(actor, critic, optimiser.init(((net, log_std), critic)))


def _optimiser(config, iterations):
    updates = iterations * config.epochs * (config.copies * config.steps // config.minibatch)
    schedule = optax.linear_schedule(config.learning_rate, 0.0, updates)
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(schedule, eps=1e-5))


def _restandardise(actor, moments):
    where = lambda a: (a.mean, a.std)  # noqa: E731
    new = (jnp.asarray(moments.mean, jnp.float32), jnp.asarray(np.sqrt(moments.var + 1e-8), jnp.float32))
    return eqx.tree_at(where, actor, new)


def _log_prob(mean, log_std, action):
    z = (action - mean) * jnp.exp(-log_std)
    return -0.5 * jnp.square(z).sum(-1) - log_std.sum() - 0.5 * action.shape[-1] * jnp.log(2 * jnp.pi)


def _advantages(critic, rollout, actor, config):
    """Generalised advantage estimates and value targets [t, e] (arXiv 1506.02438, eq. 16)."""
    value = critic(actor.standardise(rollout.state))[..., 0]
    following = critic(actor.standardise(rollout.next_state))[..., 0]
    delta = rollout.reward + config.discount * rollout.discount * following - value

    def backwards(carry, row):
        delta, ended = row
        carry = delta + config.discount * config.trace * (1 - ended) * carry
        return carry, carry

    _, advantage = jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, rollout.ended), reverse=True)
    return advantage, advantage + value


@partial(jax.jit, static_argnames=("config", "optimiser"))
def _improve(learner, rollout, key, *, config, optimiser):
    """All epochs of clipped updates on one rollout."""
    actor = learner.actor
    advantage, target = _advantages(learner.critic, rollout, actor, config)
    inputs = actor.standardise(rollout.state)
    old = _log_prob(actor.net(inputs), actor.log_std, rollout.action)
    flat = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:]), (inputs, rollout.action, advantage, target, old)
    )
    rows = advantage.size

    def loss(params, batch):
        (net, log_std), critic = params
        x, action, adv, target, old = batch
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        ratio = jnp.exp(_log_prob(net(x), log_std, action) - old)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy = -jnp.minimum(ratio * adv, clipped * adv).mean()
        return policy + config.value_weight * jnp.square(critic(x)[..., 0] - target).mean()

    def update(carry, index):
        params, opt = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[index], flat))
        updates, opt = optimiser.update(grads, opt)
        return (optax.apply_updates(params, updates), opt), None

    orders = jax.vmap(lambda k: jax.random.permutation(k, rows))(jax.random.split(key, config.epochs))
    params = ((actor.net, actor.log_std), learner.critic)
    batches = orders.reshape(-1, config.minibatch)
    (params, opt), _ = jax.lax.scan(update, (params, learner.opt), batches)
    (net, log_std), critic = params
    actor = eqx.tree_at(lambda a: (a.net, a.log_std), actor, (net, log_std))
    return _Learner(actor, critic, opt)
