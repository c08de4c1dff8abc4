"""One-step flows: MeanFlow with guidance built into its target. Knows nothing of agents or values.

Convention (MeanFlow's): time 1 is noise, time 0 is data. With x data and e ~ N(0, I),

    z_t = (1 - t) x + t e,      v = e - x,      vbar(z, t) = E[v | z_t = z]
    u(z, t, r) = 1/(t - r) * integral of vbar(z_s, s) over s in [r, t],      u(z, t, t) = vbar(z, t)

so that `z_r = z_t - (t - r) u(z_t, t, r)` jumps from t to r at once, and `x = e - u(e, 1, 0)`.

| equation | here | source |
|---|---|---|
| u = vbar - (t - r) du/dt, du/dt = vbar . grad_z u + d_t u | `total_derivative` | MeanFlow 2505.13447 |
| V = u + (t - r) sg(du/dt), regressed on a fixed target | `MeanFlow.loss` | improved MeanFlow 2512.02012 |
| v_g = v + (1 - 1/w) (v_c - v_u) | `guided_velocity` | improved MeanFlow 2512.02012 |
| one jump, or k equal jumps | `MeanFlow.sample` | MeanFlow |

Shapes: z, v, x are [*b, a]; t, r are [*b]; a velocity field is a callable u(z, t, r) -> [*b, a].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from vgm2p.errors import InputError, check_not_negative, check_share, check_words
from vgm2p.nets import mean

Field = Callable[[Float[Array, "*b a"], Float[Array, "*b"], Float[Array, "*b"]], Float[Array, "*b a"]]
ConditionedField = Callable[
    [Float[Array, "*b a"], Float[Array, "*b"], Float[Array, "*b"], Any], Float[Array, "*b a"]
]


class Sample(NamedTuple):
    """A point on the straight path between data and noise, its velocity, and a time interval."""

    z: Float[Array, "*b a"]
    v: Float[Array, "*b a"]
    t: Float[Array, "*b"]
    r: Float[Array, "*b"]


def guided_velocity(
    v: Float[Array, "*b a"],
    v_cond: Float[Array, "*b a"],
    v_null: Float[Array, "*b a"],
    w: Float[Array, "*b"] | float,
) -> Float[Array, "*b a"]:
    """The regression target whose fixed point is the guided flow of strength w >= 1.

    v + (1 - 1/w) (v_cond - v_null), where v_cond is the *guided* network's own (EMA) marginal velocity. At
    its fixed point v_cond = w vbar_cond + (1 - w) v_null: classifier-free guidance. w = 1 gives plain v.
    """
    gain = 1.0 - 1.0 / jnp.asarray(w)[..., None]
    return v + gain * (v_cond - v_null)


def total_derivative(
    u: Field,
    z: Float[Array, "*b a"],
    t: Float[Array, "*b"],
    r: Float[Array, "*b"],
    tangent: Float[Array, "*b a"],
) -> tuple[Float[Array, "*b a"], Float[Array, "*b a"]]:
    """(u, du/dt) along a path that moves with velocity `tangent` while r stays: one forward-mode pass."""
    return jax.jvp(u, (z, t, r), (tangent, jnp.ones_like(t), jnp.zeros_like(r)))


def difference_derivative(
    u: Field,
    z: Float[Array, "*b a"],
    t: Float[Array, "*b"],
    r: Float[Array, "*b"],
    tangent: Float[Array, "*b a"],
    step: float = 1e-3,
) -> Float[Array, "*b a"]:
    """du/dt by central differences: the independent check of `total_derivative`.

    Raises ValueError for a step that the number format can't resolve near t = 1; a published code uses
    1e-12 in float32, which makes the derivative exactly zero and the method plain flow matching.
    """
    resolution = float(jnp.finfo(t.dtype).eps)
    if step < 10 * resolution:
        raise ValueError(
            f"difference step {step:g} can't be resolved in {t.dtype} (resolution {resolution:.1g}): "
            f"use at least {10 * resolution:.1g}; 1e-3 is a good choice in float32"
        )
    ahead = u(z + step * tangent, t + step, r)
    behind = u(z - step * tangent, t - step, r)
    return (ahead - behind) / (2 * step)


@dataclass(frozen=True)
class MeanFlow:
    """How average velocities are trained."""

    times: Literal["uniform", "logit-normal"] = "uniform"
    """Law of the interval: two draws put in order, "uniform" or MeanFlow's "logit-normal" (-0.4, 1)."""
    to_data: bool = True
    """Intervals start at the later draw and, but for anchors, end at the data, r = 0, as the one jump that
    acts does; if false, at the earlier draw."""
    anchors: float = 0.5
    """Share of the rows with r = t, where the loss is plain flow matching. They teach u(z, t, t)."""
    power: float = 0.0
    """p of the row weight 1 / (loss + 0.01)^p. MeanFlow's 1 seeks modes on actions; 0 is unbiased."""
    tangent: Literal["ema", "network", "sample"] = "ema"
    """Velocity that carries du/dt: the network's EMA's, its own, or the noisy sample v (MeanFlow's)."""

    def __post_init__(self):
        check_words(self)
        check_not_negative(self, "power")
        check_share(self, "anchors")

    def anchor_rows(self, rows: int) -> int:
        """How many leading rows of a batch have r = t (the rows of a batch are exchangeable)."""
        return round(self.anchors * rows)

    def draw(self, x: Float[Array, "b *n a"], key: PRNGKeyArray, together: bool = False) -> Sample:
        """Noise, times and the point between, independently for every vector of `x`.

        together: vectors of one row have the same times, as parts of one flow do.
        """
        noise_key, time_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, x.shape)
        shape = (2, len(x), *(1 for _ in x.shape[1:-1])) if together else (2, *x.shape[:-1])
        if self.times == "uniform":
            ends = jax.random.uniform(time_key, shape)
        else:
            ends = jax.nn.sigmoid(jax.random.normal(time_key, shape) - 0.4)
        t = jnp.broadcast_to(ends.max(0), x.shape[:-1])
        r = jnp.zeros_like(t) if self.to_data else jnp.broadcast_to(ends.min(0), x.shape[:-1])
        anchored = jnp.arange(x.shape[0]) < self.anchor_rows(x.shape[0])
        r = jnp.where(jnp.expand_dims(anchored, tuple(range(1, t.ndim))), t, r)
        return Sample((1 - t)[..., None] * x + t[..., None] * noise, noise - x, t, r)

    def loss(
        self,
        u: ConditionedField,
        sample: Sample,
        condition: Any,
        target: Float[Array, "b *n a"],
        ema_velocity: Float[Array, "far *n a"] | None = None,
        where: Bool[Array, "*b"] | None = None,
    ) -> Float[Array, ""]:
        """Mean squared gap between V = u + (t - r) sg(du/dt) and sg(target), of all or of those `where`.

        `condition` is a pytree whose leaves start with axis b. The leading anchor rows need neither a
        derivative nor a tangent; `ema_velocity`, needed if `tangent` is "ema", is for the rows behind them.
        """
        k = self.anchor_rows(sample.z.shape[0])
        if k == 0 or (k == len(sample.z) and self.anchors < 1):
            untaught = "r = t" if k == 0 else "r < t"
            raise InputError(
                f"batch {len(sample.z)} with anchors {self.anchors} leaves no row to {untaught}: take a "
                "larger one"
            )
        (near, near_condition), (far, far_condition) = _split((sample, condition), k)
        anchored = u(near.z, near.t, near.t, near_condition)
        velocity = jnp.concatenate([anchored, self._compound(u, far, far_condition, ema_velocity)])
        error = jnp.square(velocity - stop_gradient(target)).sum(-1)
        error = error / stop_gradient(error + 0.01) ** self.power
        return mean(error, where)

    def sample(self, u: Field, noise: Float[Array, "*b a"], steps: int = 1) -> Float[Array, "*b a"]:
        """Data from noise in `steps` equal jumps; one is the method's own.

        Every jump asks for an interval that was trained: [r, t] if both ends were drawn. If intervals end at
        the data, the marginal velocity u(z, t, t), which anchors teach, carries all jumps but the last
        (Euler); if there were anchors only, the last as well.
        """
        z, ones = noise, jnp.ones(noise.shape[:-1], noise.dtype)
        for k in range(steps, 0, -1):
            marginal = self.anchors == 1.0 or (self.to_data and k > 1)
            t, r = k / steps, k / steps if marginal else (k - 1) / steps
            z = z - u(z, ones * t, ones * r) / steps
        return z

    def _compound(self, u, s, condition, ema_velocity):
        field = lambda z, t, r: u(z, t, r, condition)  # noqa: E731
        if self.tangent == "network":
            tangent = field(s.z, s.t, s.t)
        else:
            tangent = ema_velocity if self.tangent == "ema" else s.v
        velocity, derivative = total_derivative(field, s.z, s.t, s.r, stop_gradient(tangent))
        return velocity + (s.t - s.r)[..., None] * stop_gradient(derivative)


FLOW_MATCHING = MeanFlow(anchors=1.0, tangent="sample")  # r = t on every row: marginal velocities only


def _split(tree, k):
    return jax.tree.map(lambda x: x[:k], tree), jax.tree.map(lambda x: x[k:], tree)
