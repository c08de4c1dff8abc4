"""Every equation of flows.py against a closed form or an independent slow version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgm2p import flows
from vgm2p.errors import InputError
from vgm2p.flows import MeanFlow, Sample
from vgm2p.nets import MLP

MU, SD = 0.7, 0.3


def spread(t, sd=SD):
    return jnp.sqrt((1 - t) ** 2 * sd**2 + t**2)


def marginal_velocity(z, t, mu=MU, sd=SD):
    """vbar(z, t) for x ~ N(mu, sd^2)."""
    t = t[..., None]
    return -mu + (t - (1 - t) * sd**2) / spread(t, sd) ** 2 * (z - (1 - t) * mu)


def average_velocity(z, t, r, mu=MU, sd=SD):
    """u(z, t, r) for x ~ N(mu, sd^2); defined for t > r."""
    t, r = t[..., None], r[..., None]
    return -mu + (spread(t, sd) - spread(r, sd)) / (t - r) * (z - (1 - t) * mu) / spread(t, sd)


@pytest.fixture
def points():
    with jax.enable_x64(True):
        key = jax.random.key(0)
        z = jax.random.normal(key, (64, 1), jnp.float64)
        ends = jnp.sort(jax.random.uniform(jax.random.key(1), (2, 64), jnp.float64, 0.05, 0.95), axis=0)
        yield z, ends[1] + 0.02, ends[0]


def test_average_velocity_of_a_gaussian_satisfies_the_meanflow_identity(points):
    z, t, r = points
    tangent = marginal_velocity(z, t)
    u, du = flows.total_derivative(average_velocity, z, t, r, tangent)
    np.testing.assert_allclose(u + (t - r)[:, None] * du, tangent, atol=1e-12)


def test_average_velocity_of_a_gaussian_is_the_integral_of_the_marginal_one(points):
    z, t, r = points
    steps = 4000
    h = (t - r) / steps

    def midpoint(k, path):
        now = t - k * h
        middle = path - h[:, None] / 2 * marginal_velocity(path, now)
        return path - h[:, None] * marginal_velocity(middle, now - h / 2)

    path = jax.lax.fori_loop(0, steps, midpoint, z)
    np.testing.assert_allclose((z - path) / (t - r)[:, None], average_velocity(z, t, r), atol=1e-5)


def test_one_jump_turns_noise_into_the_gaussian():
    noise = jax.random.normal(jax.random.key(0), (200_000, 1))
    x = MeanFlow().sample(average_velocity, noise)
    assert abs(float(x.mean()) - MU) < 0.005
    assert abs(float(x.std()) - SD) < 0.005


@pytest.mark.parametrize("steps", [2, 10])
def test_several_jumps_of_the_exact_flow_end_where_one_does(steps):
    noise = jax.random.normal(jax.random.key(0), (1000, 1))
    flow = MeanFlow(to_data=False)
    one, many = flow.sample(average_velocity, noise), flow.sample(average_velocity, noise, steps)
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_exact_flow_satisfies_the_split_identity(points):
    """u(z_t, t, r) = (1 - l) u(z_s, s, r) + l u(z_t, t, s), s = (1 - l) t + l r (SplitMeanFlow)."""
    z, t, r = points
    share = jnp.linspace(0.1, 0.9, len(t))
    s = (1 - share) * t + share * r
    first = average_velocity(z, t, s)
    z_s = z - (t - s)[:, None] * first
    split = (1 - share)[:, None] * average_velocity(z_s, s, r) + share[:, None] * first
    np.testing.assert_allclose(split, average_velocity(z, t, r), atol=1e-12)


def test_guided_fixed_point_of_two_gaussians_is_the_extrapolated_gaussian():
    """Equal spreads: guidance w moves the mean linearly, N(mu_0 + w (mu_1 - mu_0), sd^2)."""
    w, mu_null, mu_cond = 2.0, 0.3, 0.7
    guided_mean = mu_null + w * (mu_cond - mu_null)
    z, t = jnp.linspace(-2, 2, 50)[:, None], jnp.linspace(0.05, 0.95, 50)
    fixed = marginal_velocity(z, t, guided_mean)
    target = flows.guided_velocity(
        marginal_velocity(z, t, mu_cond), fixed, marginal_velocity(z, t, mu_null), w
    )
    np.testing.assert_allclose(target, fixed, atol=1e-5)


@pytest.mark.parametrize("w", [1.0, 1.5, 2.0, 5.0])
def test_both_published_forms_of_guidance_agree(w):
    """omega v + kappa v_c + (1 - omega - kappa) v_u with kappa = 1 - 1/w, omega = w (1 - kappa)."""
    v, v_cond, v_null = jax.random.normal(jax.random.key(0), (3, 100, 2))
    kappa = 1 - 1 / w
    omega = w * (1 - kappa)
    meanflow_form = omega * v + kappa * v_cond + (1 - omega - kappa) * v_null
    ours = flows.guided_velocity(v, v_cond, v_null, jnp.full(100, w))
    np.testing.assert_allclose(ours, meanflow_form, atol=2e-6)


def test_guidance_of_one_is_plain_cloning():
    v, v_cond, v_null = jax.random.normal(jax.random.key(0), (3, 100, 2))
    np.testing.assert_array_equal(flows.guided_velocity(v, v_cond, v_null, 1.0), v)


@pytest.fixture
def network():
    net = MLP(3, (32, 32), 1, jax.random.key(0))
    return lambda z, t, r: net(jnp.concatenate([z, t[..., None], r[..., None]], -1))


def test_derivative_agrees_with_central_differences(network):
    z, t = jax.random.normal(jax.random.key(1), (256, 1)), jnp.full(256, 0.6)
    tangent = jax.random.normal(jax.random.key(2), (256, 1))
    _, exact = flows.total_derivative(network, z, t, t - 0.3, tangent)
    slow = flows.difference_derivative(network, z, t, t - 0.3, tangent, step=1e-3)
    assert float(jnp.linalg.norm(exact - slow) / jnp.linalg.norm(exact)) < 1e-2


def test_an_unresolvable_difference_step_is_refused(network):
    z, t = jnp.ones((4, 1)), jnp.full(4, 0.6)
    with pytest.raises(ValueError, match=r"can't be resolved in float32.*use at least"):
        flows.difference_derivative(network, z, t, t, z, step=1e-12)


def linear_field(params, z, t, r, condition):
    return params["a"] * z + params["b"] * t[..., None] + params["c"] * r[..., None] * z**2 + condition


@pytest.mark.parametrize("tangent", ["network", "ema", "sample"])
def test_no_gradient_flows_through_target_derivative_or_tangent(tangent):
    """Against a version in which all three are numbers computed beforehand."""
    flow = MeanFlow(tangent=tangent)
    params = {"a": jnp.float32(0.4), "b": jnp.float32(-0.2), "c": jnp.float32(0.3)}
    sample = flow.draw(jax.random.normal(jax.random.key(0), (32, 2)), jax.random.key(1))
    condition, ema = jnp.zeros((32, 2)), jax.random.normal(jax.random.key(2), (32, 2))

    def ours(p):
        field = lambda z, t, r, c: linear_field(p, z, t, r, c)  # noqa: E731
        target = sample.v + 0.5 * linear_field(p, sample.z, sample.t, sample.t, condition)
        return flow.loss(field, sample, condition, target, ema[flow.anchor_rows(32) :])

    z, v, t, r = sample
    carried = {"network": linear_field(params, z, t, t, condition), "ema": ema, "sample": v}[tangent]
    _, du = flows.total_derivative(lambda z, t, r: linear_field(params, z, t, r, condition), z, t, r, carried)
    target = v + 0.5 * linear_field(params, z, t, t, condition)

    def detached(p):
        velocity = linear_field(p, z, t, r, condition) + (t - r)[:, None] * du
        return jnp.square(velocity - target).sum(-1).mean()

    for name, gradient in jax.grad(ours)(params).items():
        np.testing.assert_allclose(gradient, jax.grad(detached)(params)[name], rtol=1e-4)


def test_anchor_rows_and_only_they_have_equal_times():
    sample = MeanFlow(anchors=0.25).draw(jnp.zeros((400, 3, 2)), jax.random.key(0))
    assert (sample.r[:100] == sample.t[:100]).all()
    assert (sample.r[100:] < sample.t[100:]).all()


def test_marginal_velocities_that_nothing_teaches_carry_no_derivative():
    with pytest.raises(InputError, match=r"anchors 0\.0 must be above 0 and at most 1"):
        MeanFlow(anchors=0.0)
    z = jnp.zeros((1, 2))
    with pytest.raises(InputError, match=r"batch 1 with anchors 0\.5 leaves no row to r = t"):
        MeanFlow().loss(lambda z, t, r, c: z, MeanFlow().draw(z, jax.random.key(0)), None, z, z)


def test_a_batch_too_small_to_teach_a_jump_is_refused():
    z, flow = jnp.zeros((32, 2)), MeanFlow(anchors=0.99)
    with pytest.raises(InputError, match=r"batch 32 with anchors 0\.99 leaves no row to r < t"):
        flow.loss(lambda z, t, r, c: z, flow.draw(z, jax.random.key(0)), None, z, z)


def test_a_misspelt_choice_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown times 'Uniform': did you mean uniform"):
        MeanFlow(times="Uniform")
    with pytest.raises(InputError, match=r"unknown tangent 'slow'"):
        MeanFlow(tangent="slow")


def test_intervals_end_at_the_data_or_at_the_earlier_of_two_draws():
    z = jnp.zeros((4000, 2))
    flows_of = (MeanFlow(anchors=0.1, to_data=b) for b in (True, False))
    at_data, drawn = (jax.tree.map(lambda x: x[400:], flow.draw(z, jax.random.key(0))) for flow in flows_of)
    np.testing.assert_array_equal(at_data.r, 0)
    np.testing.assert_array_equal(at_data.t, drawn.t)
    assert float(drawn.r.mean()) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_draws_lie_on_the_straight_path(times):
    x = jax.random.normal(jax.random.key(0), (100, 2))
    z, v, t, r = MeanFlow(times=times).draw(x, jax.random.key(1))
    np.testing.assert_allclose(z - t[:, None] * v, x, atol=1e-5)
    assert ((r >= 0) & (r <= t) & (t <= 1)).all()


def test_loss_vanishes_at_the_exact_average_velocity_when_the_target_is_the_marginal_one():
    flow = MeanFlow()
    z, v, t, r = flow.draw(MU + SD * jax.random.normal(jax.random.key(0), (512, 1)), jax.random.key(1))
    r = jnp.where(r < t, jnp.minimum(r, t - 0.05), r).clip(0)

    def exact(z, t, r, condition):
        near = (t - r) < 1e-6
        apart = average_velocity(z, t, jnp.where(near, t - 0.1, r))
        return jnp.where(near[..., None], marginal_velocity(z, t), apart)

    velocity = marginal_velocity(z, t)
    far = velocity[flow.anchor_rows(512) :]
    loss = flow.loss(exact, Sample(z, v, t, r), jnp.zeros((512, 1)), velocity, far)
    assert float(loss) < 1e-6


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_adaptive_weight_scales_rows_but_gives_no_gradient(power):
    flow = MeanFlow(anchors=1.0, power=power, tangent="sample")
    sample = flow.draw(jnp.ones((64, 1)), jax.random.key(0))

    def loss(a):
        return flow.loss(lambda z, t, r, c: a * z, sample, jnp.zeros((64, 1)), sample.v)

    error = 0.5 * sample.z - sample.v
    weight = 1 / (error**2 + 0.01) ** power
    np.testing.assert_allclose(jax.grad(loss)(0.5), (weight * 2 * error * sample.z).mean(), rtol=1e-4)
