"""A trained team: an algorithm, its slow parameters and the view that its agents see the world through."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpy import ndarray

from vgm2p.algorithms.algorithm import Algorithm
from vgm2p.envs.env import Remembering, VecEnv
from vgm2p.errors import InputError
from vgm2p.tasks import Own, Task
from vgm2p.types import Params, Sight, Spec
from vgm2p.view import TeamView


@dataclass(frozen=True)
class Policy:
    """`policy.act(sight, keys)` gives the team's actions; each agent's depends on its own observation only.

    params: the slow (EMA) copies, with a leading axis of seeds.
    """

    algorithm: Algorithm
    spec: Spec
    view: TeamView
    params: Params
    seeds: tuple[int, ...]

    def act(self, sight: Sight, keys: PRNGKeyArray) -> ndarray:
        """Actions [seeds, e, n, a] (or choices [seeds, e, n]) in what is shown [seeds, e, ...].

        One key per seed, fresh at every step.
        """
        return np.asarray(self._decide(sight, keys))

    @cached_property
    def _decide(self) -> Callable[[Sight, PRNGKeyArray], Array]:
        """View and networks go in as plain arrays: to take modules apart anew costs more than a pass."""
        leaves, structure = jax.tree.flatten((self.view, self.params))
        return partial(_decision(self.algorithm, self.spec, structure), leaves)

    def env(self, task: Task | Own, copies: int, threads: int | None = None) -> VecEnv:
        """The task's environment, showing agents what they have learned to look at.

        InputError for a task of another number of agents.
        """
        if task.n != self.view.n:
            raise InputError(f"{task.id} has {task.n} agents, but the team was trained as {self.view.n}")
        env = task.make_env(copies, threads)
        return env if self.view.history == 1 else Remembering(env, self.view.history)

    def check(self, env: VecEnv, sight: Sight, name: str) -> None:
        """InputError if the environment `name`, which shows `sight`, is none that the team can act in."""
        view, learned = self.view, self.spec.actions.dim if self.spec.actions.discrete else 0
        shown = sight.obs if view.own else sight.state
        there = 0 if shown is None else shown.shape[-1]
        wanted = view.history * view.own[0].shape[-1] if view.own else view.mean.shape[-1]
        what = "what an agent observes" if view.own else "the state"
        if there != wanted:
            raise InputError(f"{name}: {what} has {there} entries there, and {wanted} where the team learned")
        if env.choices != learned:
            raise InputError(
                f"{name}: agents have {env.choices} choices there, and {learned} where the team learned "
                "(0: continuous actions)"
            )

    def with_options(self, **options: Any) -> "Policy":
        """The same policy with other execution options (`algorithm.options`), such as `noise=0.0`.

        Raises InputError for a field that training has fixed, or a value that was not trained for.
        """
        known = self.algorithm.options
        for name, value in options.items():
            if name not in known and getattr(self.algorithm, name, None) != value:
                told = " (guidance is one in a vgm2p that was trained with guidance_max)"
                raise InputError(
                    f"{name} can't be set to {value} after training; this policy's options are "
                    f"{', '.join(known) or 'none'}{told if name == 'guidance' else ''}"
                )
        changed = {name: value for name, value in options.items() if name in known}
        algorithm = dataclasses.replace(self.algorithm, **changed)  # type: ignore[type-var]
        check_execution(algorithm)
        return dataclasses.replace(self, algorithm=algorithm)


def check_execution(algorithm: Algorithm) -> None:
    """InputError for noise or `fresh` outside 0 to 1, fewer than one step, or guidance below 0."""
    noise, steps, guidance = (getattr(algorithm, name, 1) for name in ("noise", "steps", "guidance"))
    if not 0.0 <= noise <= 1.0:
        raise InputError(f"noise {noise} must be at least 0 (none) and at most 1 (as in training)")
    if steps < 1:
        raise InputError(f"steps {steps} must be at least 1: without one, noise is all there is")
    if not guidance >= 0.0:
        raise InputError(
            f"guidance {guidance} must be at least 0, which asks for any action; 1 is for good ones"
        )
    if not 0.0 <= (fresh := getattr(algorithm, "fresh", 1.0)) <= 1.0:
        raise InputError(f"fresh {fresh} must be at least 0 (DDIM) and at most 1 (DDPM)")


@cache
def _decision(algorithm, spec, structure):
    """(leaves of view and parameters, sight, keys) -> actions; compiled once for all policies alike.

    On processors, one operation after another: to hand such small ones from thread to thread takes longer
    than they do. What each computes, down to its bits, is the same.
    """

    def decide(leaves, sight, keys):
        view, params = jax.tree.unflatten(structure, leaves)

        def one_seed(params, sight, key):
            return algorithm.act(spec, params, view.obs(sight), key, sight.legal)

        return jax.vmap(one_seed)(params, sight, keys)

    in_turn = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    return jax.jit(decide, compiler_options=in_turn if jax.default_backend() == "cpu" else None)
