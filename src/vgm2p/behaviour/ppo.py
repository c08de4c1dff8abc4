"""PPO on vectorised environments: how the behaviour policies of our own data come about.

A robot's network sees the full state and returns the mean of a diagonal Gaussian. Since every agent of the
paper's MA-MuJoCo teams sees the full state as well, that Gaussian is a product over agents: a decentralised
team policy. In battles one network, shared over agents, sees each agent's own observation and id and weighs
its legal choices; the critic sees the state (Schulman et al., 2017, arXiv 1707.06347; Yu et al., 2022, arXiv
2103.01955; the usual settings: observation and return normalisation, learning rate falling to zero).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.actions import masked
from vgm2p.envs.env import VecEnv
from vgm2p.nets import MLP, mean
from vgm2p.types import Sight, had_choice


class Actor(eqx.Module):
    """A diagonal Gaussian over a robot's joint action, or each agent's categorical distribution over choices.

    mean, std: of the inputs, for their standardisation. log_std: None where agents choose.
    """

    net: MLP
    log_std: Float[Array, " a"] | None
    mean: Float[Array, " i"]
    std: Float[Array, " i"]

    def standardise(self, inputs: Float[Array, "*b i"]) -> Float[Array, "*b i"]:
        """Zero mean and unit variance over the data seen in training, clipped at 10."""
        return jnp.clip((inputs - self.mean) / self.std, -10, 10)

    @eqx.filter_jit
    def act(self, sight: Sight, key: PRNGKeyArray) -> Array:
        """A robot's joint action per copy, Gaussian and not clipped, or every agent's legal choice."""
        out = self.net(self.standardise(inputs_of(sight)))
        if self.log_std is None:
            return masked(out + jax.random.gumbel(key, out.shape), sight.legal).argmax(-1)
        return out + jnp.exp(self.log_std) * jax.random.normal(key, out.shape)


def inputs_of(sight: Sight) -> Float[Array, "*b i"]:
    """What an actor's network sees: the state, or each agent's own observation and id."""
    if sight.obs is None:
        return sight.state
    n = sight.obs.shape[-2]
    ids = jnp.broadcast_to(jnp.eye(n), (*sight.obs.shape[:-1], n))
    return jnp.concatenate([sight.obs, ids], -1, dtype=jnp.float32)


@dataclass(frozen=True)
class PPO:
    """Settings of the behaviour training; the defaults train HalfCheetah and Hopper, ants add a goal.

    Battles have larger minibatches, fewer epochs and some entropy (`build.py`).
    """

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
    entropy: float = 0.0  # what a nat of the choices' entropy is worth
    initial_std: float = 0.4  # from 1.0, HalfCheetah and Hopper stay on the way for long


class _Learner(NamedTuple):
    actor: Actor
    critic: MLP
    scale: tuple[Float[Array, " s"], Float[Array, " s"]]  # mean and std of the states that the critic sees
    opt: optax.OptState


class _Rollout(NamedTuple):
    inputs: Float[Any, "t e *n i"]
    state: Float[Any, "t e s"]
    next_state: Float[Any, "t e s"]
    action: Any
    legal: Bool[Any, "t e n c"] | None
    reward: Float[Any, "t e"]
    discount: Float[Any, "t e"]  # 0 after a true end: no bootstrap
    ended: Float[Any, "t e"]  # 1 after any end: no trace across it


class _Moments:
    """Running mean and variance (Chan's parallel update)."""

    def __init__(self, shape):
        self.mean, self.var, self.count = np.zeros(shape), np.ones(shape), 1e-4

    def update(self, x):
        count, mean, var = len(x), x.mean(0), x.var(0)
        total, shift = self.count + count, mean - self.mean
        spread = self.var * self.count + var * count + shift**2 * self.count * count / total
        self.mean, self.var, self.count = self.mean + shift * count / total, spread / total, total


def train(env: VecEnv, config: PPO, iterations: int, seed: int):
    """Train on `env`; yields (iteration, actor, mean return of the episodes that ended) each time.

    While learning, a robot's actions are clipped before they are sent, so their noise costs no more than the
    motors can take and exploration stays alive; the data are rolled out unclipped (`ladder.roll_out`).
    """
    sight = env.reset(seed)
    optimiser = _optimiser(config, iterations)
    learner = _init(env, sight, config, optimiser, jax.random.key(seed))
    seen, states, returns = _Moments(learner.actor.mean.shape), _Moments(sight.state.shape[1:]), _Moments(())
    running_return, score = np.zeros(env.copies), np.zeros(env.copies)
    for iteration in range(iterations):
        key = jax.random.fold_in(jax.random.key(seed), iteration)
        rows: list = []
        finished: list[float] = []
        for t in range(config.steps):
            inputs = np.asarray(inputs_of(sight))
            seen.update(inputs.reshape(-1, inputs.shape[-1]))
            states.update(sight.state)
            learner = _rescale(learner, seen, states)
            action = np.asarray(learner.actor.act(sight, jax.random.fold_in(key, t)))
            following, reward, terminated, truncated = env.step(
                action if env.choices else np.clip(action, -1, 1)
            )
            ended = terminated | truncated
            learned = reward if config.reward_goal is None else _near(reward, config.reward_goal)
            running_return = running_return * config.discount + learned
            returns.update(running_return)
            score += reward
            finished.extend(score[ended])
            scaled = np.clip(learned / np.sqrt(returns.var + 1e-8), -10, 10)
            ends = (scaled, 1.0 - terminated, ended)
            rows.append(_Rollout(inputs, sight.state, following.state, action, sight.legal, *ends))
            running_return[ended], score[ended] = 0, 0
            sight = env.restart(ended)
        rollout = jax.tree.map(lambda *x: _on_device(np.stack(x)), *rows)
        learner = _improve(learner, rollout, key, config=config, optimiser=optimiser)
        yield iteration, learner.actor, float(np.mean(finished)) if finished else float("nan")


def _on_device(x):
    return jnp.asarray(x, x.dtype if x.dtype.kind in "bi" else jnp.float32)


def _near(reward, goal):
    """Highest, `goal`, where the reward meets the goal: makes slow, steady walkers of a wanted return."""
    return goal - np.abs(reward - goal)


def _init(env, sight, config, optimiser, key):
    actor_key, critic_key = jax.random.split(key)
    inputs, outputs = inputs_of(sight).shape[-1], env.choices or env.action_dim
    net = MLP(inputs, config.hidden, outputs, actor_key, activation="tanh", last_gain=0.01)
    critic = MLP(sight.state.shape[-1], config.hidden, 1, critic_key, activation="tanh")
    log_std = None if env.choices else jnp.full(outputs, math.log(config.initial_std))
    actor = Actor(net, log_std, jnp.zeros(inputs), jnp.ones(inputs))
    scale = (jnp.zeros(sight.state.shape[-1]), jnp.ones(sight.state.shape[-1]))
    return _Learner(actor, critic, scale, optimiser.init(((net, log_std), critic)))


def _optimiser(config, iterations):
    updates = iterations * config.epochs * (config.copies * config.steps // config.minibatch)
    schedule = optax.linear_schedule(config.learning_rate, 0.0, updates)
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.adam(schedule, eps=1e-5))


def _rescale(learner, inputs, states):
    """The learner with what the actor's inputs and the critic's states have been like so far."""
    (mean, std), scale = (
        (jnp.asarray(m.mean, jnp.float32), jnp.asarray(np.sqrt(m.var + 1e-8), jnp.float32))
        for m in (inputs, states)
    )
    actor = Actor(learner.actor.net, learner.actor.log_std, mean, std)
    return learner._replace(actor=actor, scale=scale)


def _log_prob(net, log_std, inputs, action, legal):
    """(log probability of an action, entropy of choices): of a robot's joint action, or of each agent's."""
    out = net(inputs)
    if log_std is None:
        log_p = jax.nn.log_softmax(masked(out, legal))
        entropy = -(jnp.exp(log_p) * jnp.where(legal, log_p, 0.0)).sum(-1)
        return jnp.take_along_axis(log_p, action[..., None], -1)[..., 0], entropy
    z = (action - out) * jnp.exp(-log_std)
    log_p = -0.5 * jnp.square(z).sum(-1) - log_std.sum() - 0.5 * action.shape[-1] * jnp.log(2 * jnp.pi)
    return log_p, jnp.zeros(())


def _advantages(critic, rollout, scale, config):
    """Generalised advantage estimates and value targets [t, e] (arXiv 1506.02438, eq. 16)."""
    value, following = (
        critic(jnp.clip((x - scale[0]) / scale[1], -10, 10))[..., 0]
        for x in (rollout.state, rollout.next_state)
    )
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
    advantage, target = _advantages(learner.critic, rollout, learner.scale, config)
    inputs = actor.standardise(rollout.inputs)
    state = jnp.clip((rollout.state - learner.scale[0]) / learner.scale[1], -10, 10)
    old, _ = _log_prob(actor.net, actor.log_std, inputs, rollout.action, rollout.legal)
    rows = (inputs, state, rollout.action, rollout.legal, advantage, target, old)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)

    def loss(params, batch):
        (net, log_std), critic = params
        inputs, state, action, legal, adv, target, old = batch
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        adv = adv.reshape(adv.shape + (1,) * (old.ndim - 1))  # the team's, for each of its agents
        log_p, entropy = _log_prob(net, log_std, inputs, action, legal)
        ratio = jnp.exp(log_p - old)
        clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
        policy = -jnp.minimum(ratio * adv, clipped * adv) - config.entropy * entropy
        acting = None if legal is None else had_choice(legal)
        gap = critic(state)[..., 0] - target
        return mean(policy, acting) + config.value_weight * jnp.square(gap).mean()

    def update(carry, index):
        params, opt = carry
        grads = jax.grad(loss)(params, jax.tree.map(lambda x: x[index], flat))
        updates, opt = optimiser.update(grads, opt)
        return (optax.apply_updates(params, updates), opt), None

    keys = jax.random.split(key, config.epochs)
    orders = jax.vmap(lambda k: jax.random.permutation(k, advantage.size))(keys)
    params = ((actor.net, actor.log_std), learner.critic)
    batches = orders.reshape(-1, config.minibatch)
    (params, opt), _ = jax.lax.scan(update, (params, learner.opt), batches)
    (net, log_std), critic = params
    return _Learner(Actor(net, log_std, actor.mean, actor.std), critic, learner.scale, opt)
