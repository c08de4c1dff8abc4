"""Controllers for where there is no JAX: one graph per agent, in the environment's units, and a model card.

    obs, noise[, legal][, w] -> action

Standardisation is inside and noise is an input (standard normal; zeros act without any), so a graph is a
function: it has no state and no random numbers of its own. `w` is the strength of guidance, where the policy
leaves it open.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from vgm2p.algorithms import DiffusionBC
from vgm2p.command import command
from vgm2p.data.card import versions
from vgm2p.data.store import read_json, replace_file
from vgm2p.errors import InputError, needs
from vgm2p.policy import Policy
from vgm2p.runs import algorithm_name, changed_fields, load_policy, read_experiment
from vgm2p.stats import interval_name
from vgm2p.types import Sight

Kind = Literal["onnx", "stablehlo"]
WITHIN = 1e-5  # how far a graph's action may be from the policy's
DIFFUSED = 10 * WITHIN  # diffusion's first step divides by 0.01, and so do its rounding errors
STRONGEST = 3.0  # guidance that graphs are checked with, where any can be asked for
TRIED = 64  # random observations that each graph is checked on


class Controller(NamedTuple):
    """One agent of a trained team as a function of plain arrays.

    inputs: name -> shape and type, in the order of `act`'s arguments.
    reach: half the range of each entry of its action, in the environment's units; 1 where that is unknown.
    """

    name: str
    act: Callable[..., Array]
    inputs: dict[str, jax.ShapeDtypeStruct]
    reach: Any


def controller(policy: Policy, card: dict[str, Any], agent: int, seed: int) -> Controller:
    """The controller of one agent, with the parameters of the training seed at place `seed`.

    card: the data's; of your own teams it holds agents' names, widths of observations, ranges of actions.
    """
    spec, view = policy.spec, policy.view
    params = jax.tree.map(lambda x: x[seed], policy.params)
    shared = getattr(policy.algorithm, "shared_noise", False)
    widest = view.own[0].shape[-1] if view.own else view.mean.shape[-1]
    width = card["obs_widths"][agent] if view.own and "obs_widths" in card else widest
    choices = card.get("sizes", [spec.action_dim] * view.n)[agent]
    inputs = {"obs": jax.ShapeDtypeStruct((view.history * width,), jnp.float32)}
    inputs["noise"] = jax.ShapeDtypeStruct(_noise_shape(policy, shared), jnp.float32)
    if spec.actions.discrete:
        inputs["legal"] = jax.ShapeDtypeStruct((spec.action_dim,), jnp.bool_)
    if "guidance" in policy.algorithm.options:
        inputs["w"] = jax.ShapeDtypeStruct((), jnp.float32)

    def act(*values):
        given = dict(zip(inputs, values, strict=True))
        steps = given["obs"].reshape(view.history, width)
        seen = jnp.pad(steps, ((0, 0), (0, widest - width))).ravel()
        own = jnp.broadcast_to(seen, (view.n, len(seen))) if view.own else None
        row = view.obs(Sight(seen, own))[agent]
        rows = jnp.broadcast_to(row, (view.n if shared else 1, len(row)))
        legal = None
        if "legal" in given:
            its_own = given["legal"] & (jnp.arange(spec.action_dim) < choices)
            legal = jnp.broadcast_to(its_own, (len(rows), spec.action_dim))
        noise = given["noise"] if shared else given["noise"][..., None, :]
        algorithm = _asking(policy.algorithm, given.get("w"))
        action = algorithm.act(spec, params, rows, noise, legal)[agent if shared else 0]
        return _in_units(action, card, agent)

    name = card.get("names", [f"agent_{i}" for i in range(view.n)])[agent]
    if Path(name).name != name:  # it becomes a file's, and a card may have been downloaded
        raise InputError(f"agent {name!r} can't name a file: leave slashes out of the names in data.json")
    low, high = (np.array(card[x][agent]) for x in ("low", "high")) if "low" in card else (-1.0, 1.0)
    return Controller(name, act, inputs, (high - low) / 2)


def export(
    folder: Path, out: Path, kind: Kind = "onnx", seed: int | None = None, noise: float | None = None
) -> list[Path]:
    """Write `<agent>.onnx` (or `.stablehlo`) for every agent of a run, `model.json` and a README.md.

    noise: the scale that is built in; by default the run's own. With 0 agents that choose make their
      likeliest choice, which zeros given to another scale's graph do not.

    Each graph is run on random observations and held against the same function in JAX (which tests hold
    against the team's policy). Raises InputError if an action is further away than 1e-5 of half its range
    (diffusion: 1e-4), for a training seed that the run does not have, for a file, or a folder that
    holds files but no earlier export, which is replaced, and if a package is missing.
    """
    earlier = _graphs_in(out)
    policy, card = load_policy(folder), read_json(folder / "data.json")
    if seed is not None and seed not in policy.seeds:
        raise InputError(f"{folder} has no training seed {seed}: it has {', '.join(map(str, policy.seeds))}")
    place = 0 if seed is None else policy.seeds.index(seed)
    policy = policy if noise is None else policy.with_options(noise=noise)
    contents, agents = {}, {}
    for agent in range(policy.view.n):
        made = controller(policy, card, agent, place)
        name = f"{made.name}.{kind}"
        contents[name], run = _WRITERS[kind](made)
        agents[made.name] = {
            "file": name,
            "inputs": {name: _shape(x) for name, x in made.inputs.items()},
            "action": _shape(jax.eval_shape(made.act, *made.inputs.values())),
            "furthest_from_policy": _furthest(policy, made, run),
        }
    model = _model(folder, policy, card, policy.seeds[place], agents)
    contents |= {"README.md": _readme(model).encode(), "model.json": json.dumps(model, indent=1).encode()}
    (out / "model.json").unlink(missing_ok=True)  # none ever tells of other graphs than lie beside it
    for name, content in contents.items():  # once all have passed
        _write(out / name, content)
    for name in earlier - set(contents):
        (out / name).unlink(missing_ok=True)
    return [out / name for name in contents]


def _graphs_in(out: Path) -> set[str]:
    """The graphs of an earlier export. InputError if the folder holds files and is none."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder with --out")
    if not out.exists() or not any(out.iterdir()):
        return set()
    others = InputError(
        f"{out} holds other files than an exported team: name another folder with --out, or delete this one "
        "if an export that was killed has left it"
    )
    if not (out / "model.json").exists():
        raise others
    try:
        files = [agent["file"] for agent in read_json(out / "model.json")["agents"].values()]
    except (KeyError, TypeError, AttributeError) as error:  # somebody else's model.json
        raise others from error
    return {name for name in files if Path(name).name == name}  # it may have been downloaded


def _write(path, content: bytes):
    replace_file(path, lambda p: p.write_bytes(content))


def _shape(like) -> dict[str, Any]:
    return {"shape": list(like.shape), "dtype": like.dtype.name}


def _noise_shape(policy, shared) -> tuple[int, ...]:
    """Of an agent's noise: its own, the team's if shared, or one for each of diffusion's draws."""
    width = policy.spec.action_dim
    if isinstance(policy.algorithm, DiffusionBC):
        return (policy.algorithm.steps + 1, width)
    return (policy.view.n, width) if shared else (width,)


def _asking(algorithm, w):
    """The algorithm with its strength of guidance as an input of the graph.

    Set past the check of its range, which can't be made on an input whose value is not known yet.
    """
    if w is None:
        return algorithm
    asking = copy.copy(algorithm)
    object.__setattr__(asking, "guidance", w)
    return asking


def _in_units(action, card, agent) -> Array:
    """The action as the environment takes it: unpadded, in its range, counted from its first choice."""
    if "starts" in card:
        return action + card["starts"][agent]
    if "low" not in card:
        return action
    low, high = (jnp.asarray(card[name][agent]) for name in ("low", "high"))
    return low + (action[: len(low)] + 1) / 2 * (high - low)


def onnx(made: Controller) -> tuple[bytes, Callable[..., np.ndarray]]:
    """The controller's ONNX graph, and what runs it on one thread: a pass is too short to share."""
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ModuleNotFoundError as error:
        raise needs("export to ONNX", "export") from error

    content = to_onnx(
        made.act,
        list(made.inputs.values()),
        model_name=made.name,
        input_names=list(made.inputs),
        output_names=["action"],
    ).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of constants that it can't fold
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(*values):
        named = zip(made.inputs, values, strict=True)
        return session.run(None, {name: np.asarray(x) for name, x in named})[0]

    return content, run


def _stablehlo(made):
    whole = jax.jit(made.act, keep_unused=True)  # model.json names every input, read or not
    exported = jax.export.export(whole)(*made.inputs.values())
    return exported.mlir_module_serialized, exported.call


_WRITERS: dict[str, Callable] = {"onnx": onnx, "stablehlo": _stablehlo}


def _furthest(policy, made, run) -> float:
    """The largest distance of the graph's actions from JAX's, on random inputs, in half ranges; checked."""
    rng, act, furthest = np.random.default_rng(0), jax.jit(made.act), 0.0
    for _ in range(TRIED):
        values = [_drawn(rng, policy, name, x) for name, x in made.inputs.items()]
        gap = np.abs(np.asarray(run(*values), np.float64) - np.asarray(act(*values), np.float64))
        furthest = float(np.maximum(furthest, (gap / made.reach).max()))  # which keeps what is no number
    within = DIFFUSED if isinstance(policy.algorithm, DiffusionBC) else WITHIN
    if not furthest <= within:
        raise InputError(
            f"{made.name}: an action is {furthest:.1e} half ranges from the policy's, more than {within:.0e}"
        )
    return furthest


def _drawn(rng, policy, name, like):
    """A random input, observations in the range of those trained on."""
    if name == "legal":
        legal = rng.random(like.shape) < 0.5
        legal[rng.integers(len(legal))] = True
        return legal
    if name == "w":
        trained = getattr(policy.algorithm, "guidance_max", None)
        return np.float32(rng.uniform(1, trained) if trained else rng.uniform(0, STRONGEST))
    normal = rng.normal(size=like.shape).astype(np.float32)
    if name == "noise":
        return normal
    mean, std = policy.view.own if policy.view.own else (policy.view.mean, policy.view.std)
    rows = [np.resize(np.asarray(x), like.shape) for x in (mean, std)]
    return (rows[0] + rows[1] * normal).astype(np.float32)


def _model(folder, policy, card, seed, agents) -> dict[str, Any]:
    """What is known of the exported team, as it stands in model.json."""
    result = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
    experiment, _ = read_experiment(folder)
    kept = ("id", "source", "note", "licence", "sha256", "transitions", "return_mean", "return_std")
    return {
        "algorithm": algorithm_name(policy.algorithm),
        "fields": changed_fields(policy.algorithm),
        "noise": getattr(policy.algorithm, "noise", 0.0),
        "guidance": getattr(policy.algorithm, "guidance", None),
        "guidance_max": getattr(policy.algorithm, "guidance_max", None),
        "task": experiment.task,
        "history": experiment.history,
        "seed": seed,
        "updates": result.get("updates"),
        "command": command(experiment),
        "return": {
            "mean": result.get("mean"),
            "interval": result.get("interval"),
            "seeds": result.get("seeds"),
            "noise": getattr(experiment.algorithm, "noise", 0.0),
        },
        "win_rate": result.get("win_rate"),
        "data": {name: card[name] for name in kept if name in card},
        "env": card.get("env"),
        "action_units": _units(card),
        "agents": agents,
        "versions": versions(),
    }


def _units(card) -> str:
    """In which units a controller acts: data that were imported without an environment may not tell."""
    told = "env" not in card or card["env"] or {"low", "starts"} & set(card)
    return "the environment's units" if told else "[-1, 1], in which the data's actions are taken to be"


def _of_inputs(model) -> str:
    """What legal and w mean, where there are such inputs."""
    given, told = next(iter(model["agents"].values()))["inputs"], ""
    if "legal" in given:
        told += "`legal` says which choices the agent has now; it makes one of them.\n"
    if "w" in given:
        most = f", up to {model['guidance_max']:g}" if model["guidance_max"] else ""
        told += f"`w` is the strength of guidance: 1 asks for good actions as they are, more goes on{most}.\n"
    return told


def _score(model) -> str:
    """The run's score in words, and with which noise it was made, if the graphs have another."""
    score = model["return"]
    if score["mean"] is None:
        unfinished = model["updates"] is None
        return f"not scored: {'the run has not ended' if unfinished else 'the data name no environment'}"
    low, high = score["interval"]
    seeds = len(score["seeds"])
    spread = "no interval" if seeds == 1 else f"{interval_name(seeds)} {low:.4g} to {high:.4g}"
    told = f"{score['mean']:.4g} on average over {seeds} training seed{'s' * (seeds > 1)}, {spread}"
    if score["noise"] == model["noise"]:
        return told
    return f"{told}, acting with noise {score['noise']} (with these graphs' {model['noise']} it has no score)"


def _readme(model) -> str:
    """The model card in words, with the head that the Hugging Face Hub reads."""
    data = model["data"]
    rows = "\n".join(
        f"| {name} | `{x['file']}` | "
        + ", ".join(f"`{n}` {y['dtype']} {y['shape']}" for n, y in x["inputs"].items())
        + f" | {x['furthest_from_policy']:.1e} |"
        for name, x in model["agents"].items()
    )
    licence = data.get("licence", "not stated")
    updates = f"{model['updates']:,} updates" if model["updates"] else "a run that has not ended"
    steps, units = model["history"], model["action_units"]
    remembered = (
        "" if steps == 1 else f", its last {steps} steps side by side, the newest first, zeros before"
    )
    return f"""---
library_name: vgm2p
license: {licence.lower() if licence == "Apache-2.0" else "other"}
tags: [multi-agent, offline-reinforcement-learning, {model["algorithm"]}]
---

# {model["algorithm"]} on {model["task"]}

A team of {len(model["agents"])} agents, each a graph of its own that needs its own observation alone.
Made with vgm2p {model["versions"]["vgm2p"]}; training seed {model["seed"]} of the run.

- Return: {_score(model)}. The data's episodes: {data["return_mean"]:.4g} ± {data["return_std"]:.4g}.
- Data: {data["id"]}, {data["transitions"]:,} transitions; {data.get("source", "source not stated")}.
  Licence: {licence}. sha256 {data.get("sha256", "not stated")}.
- Training: {updates}; command: `{model["command"]}`
- Settings that differ from the defaults: {json.dumps(model["fields"]) if model["fields"] else "none"}.

| agent | file | inputs | furthest from the policy |
|---|---|---|---|
{rows}

`obs` is what the environment shows the agent, as it is{remembered}.
`noise` is standard normal, drawn anew at every step; it is scaled by {model["noise"]} inside, and zeros act
without noise.
{_of_inputs(model)}`action` is in {units}.
"""
