"""The mathematics of the surrogate: every gradient against differences, every closed form against draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, norm

import welltuned as wt
from welltuned.pareto import crowding, front_reference, fronts, hypervolume, non_dominated, penalised, scalarise
from welltuned.samplers.bayes import Search
from welltuned.surrogate import acquisition, belief, fit, gp, kernels, lbfgs, outputs, rollouts, transfer, warp
from welltuned.surrogate import model as models
from welltuned.surrogate.embedding import embedding
from welltuned.surrogate.hypervolume import LogEHVI, boxes

SPACE = wt.Space(
    {
        "x": (0.0, 1.0),
        "lr": wt.Float(1e-4, 1.0, log=True),
        "c": wt.Categorical(["a", "b", "d"]),
        "z": wt.Float(0.0, 1.0, when={"c": "a"}),
    }
)


def value(p):
    return (p["x"] - 0.3) ** 2 + (np.log10(p["lr"]) + 2) ** 2 / 4 + (p["c"] != "a") * 0.3 + (p.get("z", 0.5) - 0.2) ** 2


def second(p):
    return (p["x"] - 0.9) ** 2 + (np.log10(p["lr"]) + 1) ** 2


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def history():
    study = wt.Study(SPACE, sampler="qmc", seed=0)
    study.optimize(value, n_trials=24)
    return study.history


@pytest.fixture(scope="module", params=["no trend", "trend"])
def model(history, request):
    found = models.fit_model(history, np.random.default_rng(0), trend=request.param == "trend")
    p = found.objective.posterior
    assert p.layout.trend == (request.param == "trend")
    if p.layout.trend:
        assert np.isfinite(p.thetas[:, p.layout.g + 2]).any()
    return found


@pytest.fixture(scope="module")
def rows(rng):
    return SPACE.activate(rng.random((16, len(SPACE))))


def data(n=30, rng=None, y=None):
    rng = rng or np.random.default_rng(0)
    phi = rng.random((n, 6))
    group = np.array([0, 1, 2, 3, 3, 3])
    y = np.sin(4 * phi[:, 0]) + phi[:, 1] + phi[:, 4] if y is None else y
    return gp.Observations(phi, outputs.standardise(y)[0], group, 3, 0.01 * rng.random(n))


def slopes_agree(function, unit, columns=(0, 1, 3), tolerance=1e-5):
    """Compare the gradient of an acquisition with central differences where a parameter is active."""
    at, d = function.gradient(unit)
    np.testing.assert_allclose(at, function.value(unit), rtol=1e-9, atol=1e-9)
    for j in columns:
        active = ~np.isnan(unit[:, j])
        step = np.zeros(unit.shape[1])
        step[j] = 1e-6
        numeric = (function.value(unit + step) - function.value(unit - step)) / 2e-6
        scale = np.abs(d[active, j]).max() + 1e-9
        np.testing.assert_allclose(d[active, j] / scale, numeric[active] / scale, atol=tolerance)
        assert (d[~active, j] == 0).all()
    assert (d[:, 2] == 0).all()


# kernels, warping, fits


def test_squared_distances_of_a_stack(rng):
    A, B = rng.random((3, 5, 4)), rng.random((3, 7, 4))
    direct = ((A[:, :, None] - B[:, None]) ** 2).sum(-1)
    np.testing.assert_allclose(kernels.squared_distances(A, B), direct, atol=1e-12)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_kernel_and_its_slope(smooth):
    r2 = np.linspace(0.0, 4.0, 50)
    k, dk = kernels.matern(r2, smooth)
    q = np.sqrt((5 if smooth else 3) * r2)
    np.testing.assert_allclose(k, (1 + q + smooth * q * q / 3) * np.exp(-q), rtol=1e-12)
    np.testing.assert_allclose(kernels.correlation(r2.copy(), smooth), k, rtol=1e-12)
    numeric = (kernels.matern(r2[1:] + 1e-6, smooth)[0] - kernels.matern(r2[1:] - 1e-6, smooth)[0]) / 2e-6
    np.testing.assert_allclose(dk[1:], numeric, rtol=1e-4)
    assert dk[0] == pytest.approx(-5 / 6 if smooth else -3 / 2)


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.4, 2.0), (3.0, 0.5)])
def test_warping_is_monotone_and_its_derivatives_are_right(a, b):
    x = np.linspace(0.01, 0.99, 40)
    v, d_a, d_b = warp.with_derivatives(x, np.float64(a), np.float64(b))
    np.testing.assert_allclose(v, warp.kumaraswamy(x, np.float64(a), np.float64(b)), rtol=1e-10)
    assert (np.diff(v) > 0).all() and 0 < v[0] < v[-1] < 1
    e = 1e-6
    up, down = (warp.kumaraswamy(x, a * np.exp(s), b) for s in (e, -e))
    np.testing.assert_allclose(d_a, (up - down) / (2 * e), atol=1e-8)
    up, down = (warp.kumaraswamy(x, a, b * np.exp(s)) for s in (e, -e))
    np.testing.assert_allclose(d_b, (up - down) / (2 * e), atol=1e-8)
    up, down = (warp.kumaraswamy(x + s, a, b) for s in (e, -e))
    np.testing.assert_allclose(warp.slope(x, a, b), (up - down) / (2 * e), rtol=1e-6)


def test_without_bending_warping_changes_nothing():
    x = np.linspace(0.0, 1.0, 11)
    np.testing.assert_allclose(warp.kumaraswamy(x, np.float64(1.0), np.float64(1.0)), x, atol=1e-8)


@pytest.mark.parametrize("warped", [0, 3])
@pytest.mark.parametrize(("trend", "bowl"), [(False, 0.0), (True, 0.0), (True, 0.7)])
@pytest.mark.parametrize("groups", ["few", "many"])
def test_the_gradient_of_the_posterior_of_hyperparameters(warped, trend, bowl, groups):
    """Against central differences, for a stack of three, with and without warping and trend, under both priors."""
    rng = np.random.default_rng(3)
    d = data(rng=rng)
    if groups == "many":
        phi = rng.random((20, 24))
        d = gp.Observations(phi, outputs.standardise(phi[:, 0])[0], np.arange(24), 3, np.zeros(20))
    d = replace(d, bowl=bowl)
    layout = gp.Layout(d.n_groups, warped, trend)
    thetas = fit.default_theta(layout) + 0.3 * rng.standard_normal((3, layout.size))
    _, slopes = fit.log_posterior(thetas, d, layout)
    numeric = np.empty_like(slopes)
    for j in range(layout.size):
        e = np.zeros(layout.size)
        e[j] = 1e-5
        up, down = (fit.log_posterior(thetas + s * e, d, layout)[0] for s in (1, -1))
        numeric[:, j] = (up - down) / 2e-5
    np.testing.assert_allclose(slopes, numeric, atol=1e-6 * np.abs(slopes).max())


def test_a_stack_gives_what_its_members_give_alone():
    d = data()
    layout = gp.Layout(d.n_groups, 3, trend=True)
    thetas = fit.default_theta(layout) + 0.2 * np.random.default_rng(0).standard_normal((4, layout.size))
    together = fit.log_posterior(thetas, d, layout)
    for m in range(4):
        alone = fit.log_posterior(thetas[m : m + 1], d, layout)
        np.testing.assert_allclose(together[0][m], alone[0][0])
        np.testing.assert_allclose(together[1][m], alone[1][0])
    p = gp.condition(thetas, d)
    q = np.random.default_rng(1).random((5, 6))
    np.testing.assert_allclose(p.members(q)[0][2], p.only(2).members(q)[0][0])
    np.testing.assert_allclose(p.members(q)[1][2], p.only(2).members(q)[1][0])


@pytest.mark.parametrize(("trend", "share"), [(False, 0.0), (True, 0.0), (True, 0.7)])
def test_predictions_are_those_of_the_textbook(trend, share):
    """Eqs. 2.25 and 2.26 of Rasmussen and Williams, by plain inversion."""
    d = replace(data(12), bowl=share)
    layout = gp.Layout(d.n_groups, 0, trend)
    theta = fit.default_theta(layout, noise=1e-2)
    p = gp.condition(theta[None], d)
    q = np.random.default_rng(5).random((4, 6))
    w = np.exp(-theta[:4])[d.group]
    v = np.exp(theta[6]) if trend else 0.0
    middle = np.array([0.5, 0.5, 0.5, 0.0, 0.0, 0.0])

    def k(A, B):
        slopes = 12.0 / 4 * (A - middle) @ (B - middle).T
        bowl = 180.0 / 3 * np.multiply.outer(*[((x[:, :3] - 0.5) ** 2).sum(1) - 3 / 12 for x in (A, B)])
        matern = kernels.matern(((A[:, None] * w - B[None] * w) ** 2).sum(-1))[0]
        return matern + v * (slopes + share * bowl)

    K = k(d.phi, d.phi) + np.diag(1e-2 + d.known + 1e-10)
    m = np.linalg.solve(K, d.y).sum() / np.linalg.solve(K, np.ones(12)).sum()
    mean = m + k(q, d.phi) @ np.linalg.solve(K, d.y - m)
    covariance = k(q, q) - k(q, d.phi) @ np.linalg.solve(K, k(d.phi, q))
    np.testing.assert_allclose(p.predict(q)[0], mean, rtol=1e-8)
    np.testing.assert_allclose(p.predict(q)[1], np.diag(covariance), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(p.joint(q)[1][0], covariance, atol=1e-8)


def test_leave_one_out_is_what_leaving_out_gives():
    d = data(15)
    p = gp.condition(fit.default_theta(gp.Layout(d.n_groups, 0), noise=1e-2)[None], d)
    mean, variance = p.leave_one_out()
    for i in (0, 7, 14):
        rest = gp.condition(p.thetas, d.subset(np.delete(np.arange(15), i)), mean=p.mean)
        m, v = rest.predict(d.phi[[i]])
        assert mean[i] == pytest.approx(m[0], abs=1e-8)
        assert variance[i] == pytest.approx(v[0] + 1e-2 + d.known[i], rel=1e-6)


def test_step_by_step_is_what_the_first_ones_say_of_the_next():
    d = data(15)
    p = gp.condition(fit.default_theta(gp.Layout(d.n_groups, 0), noise=1e-2)[None], d)
    mean, sd = p.step_by_step()
    for i in (1, 7, 14):
        m, v = gp.condition(p.thetas, d.subset(np.arange(i)), mean=p.mean).predict(d.phi[[i]])
        assert mean[0, i] == pytest.approx(m[0], abs=1e-8)
        assert sd[0, i] ** 2 == pytest.approx(v[0] + 1e-2 + d.known[i], rel=1e-6)


def test_the_evidence_has_to_be_for_the_smooth_kernel():
    """Fifty values of a process with either kernel tell which it is, and eight too little."""
    rng = np.random.default_rng(0)
    phi, found = rng.random((50, 2)), []
    for smooth in (True, False):
        K = kernels.matern(kernels.squared_distances(phi / 0.4, phi / 0.4), smooth)[0]
        y = np.linalg.cholesky(K + 1e-10 * np.eye(50)) @ rng.standard_normal(50)
        for n in (50, 8):
            d = gp.Observations(phi[:n], outputs.standardise(y[:n])[0], np.arange(2), 2, np.zeros(n))
            thetas, chosen = fit.fitted(d, gp.Layout(2, 0))
            found.append(chosen)
            climbed, d = fit.thetas(replace(d, smooth=chosen), gp.Layout(2, 0)), replace(d, smooth=chosen)
            one, other = (fit.log_posterior(t, d, gp.Layout(2, 0))[0][0] for t in (thetas, climbed))
            assert one == pytest.approx(other, abs=0.1)  # it begins elsewhere, and ends on the same peak
    assert found == [True, False, False, False]


@pytest.fixture(scope="module")
def unsure():
    """Return a process without noise that knows 6 places of 12, which of them, and the features of all."""
    d = data(6)
    d = replace(d, known=np.zeros(6))
    p = gp.condition(fit.default_theta(gp.Layout(d.n_groups, 0), noise=1e-9)[None], d)
    phi = np.vstack([d.phi, np.random.default_rng(5).random((6, 6))])
    return p, np.arange(12) < 6, phi


def test_a_search_of_one_step_gains_the_expected_improvement(unsure):
    p, known, phi = unsure
    found = rollouts.gains(p, phi, known, np.ones(12), 1, 4000, np.random.default_rng(0))
    mean, variance = p.members(phi[6:])
    each = acquisition.expected_improvement(mean[0], np.sqrt(variance[0]), p.data.y.min())
    assert found.min() >= 0
    assert found.mean() == pytest.approx(each.max(), abs=4 * found.std() / np.sqrt(4000))


def test_a_search_of_all_places_gains_what_their_best_has(unsure):
    """In whatever order the places are looked at: the same as by draws of all of them at once."""
    p, known, phi = unsure
    found = rollouts.gains(p, phi, known, np.ones(12), 9, 4000, np.random.default_rng(0))
    mean, covariance = p.joint(phi[6:])
    drawn = np.random.default_rng(1).multivariate_normal(mean[0], covariance[0], 4000).min(1)
    direct = np.maximum(p.data.y.min() - drawn, 0.0)
    error = np.hypot(found[:, -1].std(), direct.std()) / np.sqrt(4000)
    assert found[:, -1].mean() == pytest.approx(direct.mean(), abs=4 * error)
    assert (np.diff(found, axis=1) >= -1e-6).all()
    np.testing.assert_array_equal(found[:, 6:], found[:, [5] * 3])  # nowhere is left to look


def test_places_that_violate_constraints_gain_nothing(unsure):
    p, known, phi = unsure
    sure, doubtful, never = (
        rollouts.gains(p, phi, known, np.where(known, 1.0, c), 6, 500, np.random.default_rng(0)) for c in (1, 0.3, 0)
    )
    assert sure[:, -1].mean() > 1.5 * doubtful[:, -1].mean() > 0.0
    assert (never == 0.0).all()


def test_another_look_at_what_is_noisy_tells_which_is_the_best():
    """All places are known, but not how good they are: there is something to gain by evaluating them again."""
    d = data(12)
    p = gp.condition(fit.default_theta(gp.Layout(d.n_groups, 0), noise=0.3)[None], d)
    known, rng = np.ones(12, dtype=bool), np.random.default_rng(0)
    again = rollouts.gains(p, d.phi, known, np.ones(12), 20, 300, rng, again=True)
    assert again.min() >= 0.0 and 0.0 < again[:, 0].mean() < again[:, -1].mean()
    assert (rollouts.gains(p, d.phi, known, np.ones(12), 20, 4, rng) == 0.0).all()


def test_a_trend_says_which_way_leads_on():
    """Two dozen values of a linear function of six numbers, in one corner of the cube: what is it in the opposite?"""
    rng = np.random.default_rng(0)
    slopes = np.array([3.0, -2.0, 1.0, 0.5, 0.0, 0.0])
    phi, far = 0.5 * rng.random((24, 6)), 0.5 + 0.5 * rng.random((50, 6))
    y, centre, scale = outputs.standardise(phi @ slopes)
    d = gp.Observations(phi, y, np.arange(6), 6, np.zeros(24))
    errors = []
    for trend in (False, True):
        p = gp.condition(fit.thetas(d, gp.Layout(6, 0, trend)), d)
        errors.append(np.abs(centre + scale * p.means(far) - far @ slopes).mean())
    assert errors[1] < 0.05 * errors[0], errors


def test_a_bowl_is_seen_from_a_dozen_results():
    """A sphere around the middle of the cube in six numbers: with a bowl, the middle is expected to be the best."""
    rng = np.random.default_rng(0)
    phi = rng.random((12, 6))
    far = phi[((phi - 0.5) ** 2).sum(1) > 0.3]
    y, _, _ = outputs.standardise(((far - 0.5) ** 2).sum(1))
    middle, corners = np.full((1, 6), 0.5), rng.integers(0, 2, (50, 6)).astype(float)
    gaps = []
    for bowl in (0.0, 1.0):
        d = gp.Observations(far, y, np.arange(6), 6, np.zeros(len(far)), bowl=bowl)
        p = gp.condition(fit.thetas(d, gp.Layout(6, 0, trend=True)), d)
        gaps.append(p.means(corners).min() - p.means(middle)[0])
    assert gaps[1] > 2.0 > gaps[0], gaps


def test_principal_axes_are_found_where_divide_and_conquer_finds_none():
    """The curvature of a fit in one branch of a real space, where the features of the others are constant."""
    H = np.load(Path(__file__).parent / "data" / "curvature.npy")
    values, axes = fit.principal(H)
    np.testing.assert_allclose(axes * values @ axes.T, H, atol=1e-12)
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(H)), atol=1e-12)


def test_members_with_and_without_a_trend_follow_the_evidence():
    """Values of a plane, and of a wave with as much of it up as down."""
    rng = np.random.default_rng(1)
    phi = rng.random((20, 2))
    layout = gp.Layout(2, 0, trend=True)
    shares = []
    for y in (phi @ [2.0, -1.0], np.cos(4 * np.pi * phi[:, 0])):
        d = gp.Observations(phi, outputs.standardise(y)[0], np.arange(2), 2, np.zeros(20))
        found = fit.thetas(d, layout, 8, rng)
        shares.append(np.isfinite(found[:, 4]).mean() if found.shape[1] == layout.size else 0.0)
    assert shares[0] > 0.5 > shares[1], shares


def test_a_trend_of_no_variance_is_none():
    d = data()
    layout = gp.Layout(d.n_groups, 2, trend=True)
    flat = fit.default_theta(layout.flat)[None]
    q = np.random.default_rng(1).random((5, 6))
    expected, found = gp.condition(flat, d).predict(q), gp.condition(layout.tilted(flat), d).predict(q)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_laplace_draws_spread_as_the_curvature_says():
    """Of a direction that the data fix, the draws stay close; of one they say nothing about, they do not."""
    d = data(60)
    layout = gp.Layout(d.n_groups, 0)
    best = fit.most_probable(d, layout)
    found = fit.Peak.at(best, d, layout).members(200, layout, np.random.default_rng(0))
    low, high = fit.bounds(layout)
    assert (found >= low).all() and (found <= high).all()
    sd = found.std(0)
    assert sd[0] < sd[2], "the first feature matters, the third does not"


def test_climbing_finds_the_top_of_each_start_inside_the_box():
    target = np.array([[0.2, 0.9], [0.5, 1.4]])

    def bowl(x, rows):
        return -((x - target[rows]) ** 2 * [1.0, 30.0]).sum(1), -2 * (x - target[rows]) * [1.0, 30.0]

    x, f = lbfgs.climb(bowl, np.array([[0.9, 0.1], [0.1, 0.1]]), np.zeros(2), np.ones(2), least_gain=1e-9, flat=1e-6)
    np.testing.assert_allclose(x, [[0.2, 0.9], [0.5, 1.0]], atol=1e-4)
    np.testing.assert_allclose(f, [0.0, -30 * 0.16], atol=1e-4)


# outputs


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e12, 1e300])
def test_standardising_survives_any_magnitude(factor):
    y = factor * np.array([1.0, 2.0, 3.0, 10.0])
    scaled, centre, scale = outputs.standardise(y)
    assert scaled.mean() == pytest.approx(0, abs=1e-9) and scaled.std() == pytest.approx(1)
    np.testing.assert_allclose(centre + scale * scaled, y)


def test_constant_values_have_no_scale():
    scaled, centre, scale = outputs.standardise(np.full(5, 3.5))
    assert (scaled == 0).all() and centre == 3.5 and scale == 1.0


def test_only_the_bad_tail_is_clipped():
    y = np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 1000.0])
    assert outputs.winsorise(y)[0] == -1000 and outputs.winsorise(y)[-1] < 20
    y = np.array([0.0, 1.0, 2.0, 1e6])
    assert outputs.clip_bad(y)[-1] == 1.5 + 5 * 1.5
    assert (outputs.clip_bad(np.full(4, 2.0)) == 2.0).all()


# acquisitions


def test_log_h_from_both_sides_of_its_seam():
    z = np.array([-1.0 - 1e-9, -1.0 + 1e-9])
    for part in acquisition.log_h(z):
        assert part[0] == pytest.approx(part[1], rel=1e-6)
    direct = norm.pdf(0.7) + 0.7 * norm.cdf(0.7)
    assert acquisition.log_h(np.array([0.7]))[0][0] == pytest.approx(np.log(direct))
    assert np.isfinite(acquisition.log_h(np.array([-1e150, -1e3, 40.0]))[0]).all()


def test_expected_improvement_is_what_draws_give(model, rows, rng):
    target = model.incumbents() + 0.5  # an easy one, which draws do reach
    ei = acquisition.log_ei(model.embed, model.objective.posterior, target, rows[:0], rng)
    found = np.exp(ei.value(rows))
    mean, variance = model.objective.posterior.members(model.embed(rows))
    draws = mean[:, :, None] + np.sqrt(variance)[:, :, None] * rng.standard_normal((len(mean), len(rows), 20000))
    estimate = np.maximum(target[:, None, None] - draws, 0.0).mean((0, 2))
    np.testing.assert_allclose(found, estimate, rtol=0.15, atol=0.02 * estimate.max())


@pytest.mark.parametrize("n_pending", [0, 3])
def test_the_gradient_of_expected_improvement(model, rows, rng, n_pending):
    pending = SPACE.activate(rng.random((n_pending, len(SPACE))))
    slopes_agree(
        acquisition.log_ei(model.embed, model.objective.posterior, model.incumbents(), pending, rng), rows
    )


def test_gradients_of_the_other_terms(model, rows):
    p = model.objective.posterior
    slopes_agree(acquisition.LogProbability(model.embed, p.only(0), 0.1, 0.1), rows)
    slopes_agree(acquisition.LogMean(model.embed, p, -2.0), rows)
    both = (acquisition.LogMean(model.embed, p, 1.0), acquisition.LogProbability(model.embed, p.only(1), 0.0, 0.1))
    slopes_agree(acquisition.total(list(both)), rows)


def test_running_trials_lower_the_improvement_expected_beside_them(model, rng):
    at = SPACE.activate(model.best_rows(1) + 0.05)
    free = acquisition.log_ei(model.embed, model.objective.posterior, model.incumbents(), at[:0], rng).value(at)
    taken = acquisition.log_ei(model.embed, model.objective.posterior, model.incumbents(), at, rng).value(at)
    assert taken[0] < free[0] - 0.5


# several objectives


@pytest.mark.parametrize(("m", "digits", "worst"), [(2, 9, 1.1), (3, 9, 1.1), (4, 9, 1.1), (3, 1, 1.1), (3, 9, 0.7)])
def test_boxes_add_up_to_the_growth_of_the_hypervolume(m, digits, worst, rng):
    points = rng.random((9, m)).round(digits)
    front, reference = points[non_dominated(points)], np.full(m, worst)
    lower, upper = boxes(front, reference)
    assert len(lower) <= (len(front) + 1) ** (m - 1)
    before = hypervolume(front, reference)
    for new in rng.random((40, m)) * 0.9:
        growth = np.prod(np.maximum(0.0, upper - np.maximum(lower, new)), axis=1).sum()
        assert growth == pytest.approx(hypervolume(np.vstack([front, new]), reference) - before, abs=1e-12)


@pytest.mark.parametrize("m", [2, 3])
def test_nothing_of_a_long_front_promises_to_add_to_it(m):
    """Of two dozen points alone a front has gaps, in which what is known already seemed to be worth a trial."""
    corners = np.random.default_rng(0).dirichlet(np.ones(m), 50)
    names = "abc"[:m]
    trials = [
        wt.Trial(i, wt.State.COMPLETE, dict(zip(names, c.tolist(), strict=True)), dict(zip(names, 1 - c, strict=True)))
        for i, c in enumerate(corners)
    ]
    space = wt.Space(dict.fromkeys(names, (0.0, 1.0)))
    seen = wt.History(space, [t.but(objectives=tuple(names)) for t in trials], dict.fromkeys(names, "minimize"))
    search = Search.begin(seen, np.random.default_rng(0), wt.Bayes())
    growth = search.acquisition(seen.unit[:0])
    means = np.column_stack([p.means(growth.embed(search.model.unit)) for p in growth.posteriors])
    sides = np.maximum(growth.upper - np.maximum(growth.lower, means[:, None]), 0.0)
    assert len(growth.lower) > 50 and np.prod(sides, axis=2).sum(1).max() < 1e-12


def test_volumes_are_measured_from_close_by_or_from_far_out():
    front = np.array([[0.0, 1.0], [0.5, 0.5]])
    points = np.vstack([front, [[4.0, 0.6], [1.0, 1.0]]])
    assert front_reference(front, points) == pytest.approx([0.5 + 0.4, 1.0 + 0.05])
    assert front_reference(front, points, wide=True) == pytest.approx([4.0, 1.0 + 0.05])
    assert front_reference(front[:1], front[:1]) == pytest.approx([0.1, 1.1])


def test_expected_hypervolume_improvement_is_what_draws_give(history, rows, rng):
    trials = [
        wt.Trial(t.number, t.state, t.params, {"a": t.value, "b": second(t.params)}, objectives=("a", "b"))
        for t in history.trials
    ]
    both = wt.History(SPACE, trials, {"a": "minimize", "b": "minimize"})
    model = models.fit_model(both, np.random.default_rng(0), members=1)
    posteriors = tuple(q.posterior for q in model.objectives)
    points = np.column_stack([p.means(model.embed(model.unit)) for p in posteriors])
    front = points[non_dominated(points)]
    reference = front_reference(front, points)
    found = LogEHVI(model.embed, posteriors, *boxes(front, reference))
    slopes_agree(found, rows[np.argsort(-found.value(rows))[:6]], tolerance=1e-4)
    best = int(np.argmax(found.value(rows)))
    moments = [p.members(model.embed(rows[[best]])) for p in posteriors]
    draws = np.column_stack([m[0, 0] + np.sqrt(v[0, 0]) * rng.standard_normal(4000) for m, v in moments])
    before = hypervolume(front, reference)
    estimate = np.mean([hypervolume(np.vstack([front, d]), reference) - before for d in draws])
    assert np.exp(found.value(rows[[best]]))[0] == pytest.approx(estimate, rel=0.15)


def test_non_dominated_agrees_with_the_definition(rng):
    for _ in range(200):
        losses = rng.integers(0, 5, (rng.integers(1, 25), rng.integers(1, 4))).astype(float)
        kept = non_dominated(losses)
        for i, row in enumerate(losses):
            beaten = ((losses <= row).all(1) & (losses < row).any(1)).any()
            assert kept[i] == (not beaten and not (losses[:i] == row).all(1).any())


def test_fronts_and_crowding():
    losses = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [1.0, 2.0], [3.0, 3.0]])
    assert [sorted(f.tolist()) for f in fronts(losses, 5)] == [[0, 1, 2], [3], [4]]
    assert len(fronts(losses, 3)) == 1
    distance = crowding(losses[:3])
    assert np.isinf(distance[[0, 2]]).all() and distance[1] == pytest.approx(2.0)


def test_scalarising_one_objective_changes_nothing(rng):
    losses = rng.random((5, 1))
    assert (scalarise(losses, rng) == losses[:, 0]).all()


# beliefs and earlier studies


def test_beliefs_raise_what_the_user_believes_in():
    space = wt.Space(
        {
            "lr": wt.Float(1e-5, 1e-1, log=True, prior=norm(1e-3, 5e-4)),
            "n": wt.Int(1, 100, prior=norm(20, 5)),
            "c": wt.Categorical(["a", "b"], prior=[3, 1]),
            "free": (0.0, 1.0),
            "z": wt.Float(0.0, 1.0, prior=norm(0.8, 0.1), when={"c": "b"}),
        }
    )
    term = belief.log_belief(space, 2.0)
    likely = space.encode([{"lr": 1e-3, "n": 20, "c": "a", "free": 0.5}])
    unlikely = space.encode([{"lr": 5e-2, "n": 90, "c": "a", "free": 0.5}])
    floor = 2.0 * (2 * np.log(belief.FLOOR) + np.log(0.9 * 1.5 + 0.1))
    assert term.value(likely)[0] > 0 > term.value(unlikely)[0]
    assert term.value(unlikely)[0] >= floor - 1e-9, "a wrong belief has a floor"
    unit = space.activate(np.random.default_rng(0).random((30, 5)))
    _, d = term.gradient(unit)
    e = np.zeros(5)
    e[0] = 1e-7
    numeric = (term.value(unit + e) - term.value(unit - e)) / 2e-7
    assert np.median(np.abs(d[:, 0] - numeric)) < 1e-3
    assert belief.log_belief(SPACE, 1.0) is None


def test_a_belief_in_whole_numbers_is_that_of_their_probabilities():
    space, prior = wt.Space({"n": wt.Int(0, 9, prior=binom(9, 0.3))}), binom(9, 0.3).pmf(range(10))
    logs = belief.log_belief(space, 1.0).value(space.encode([{"n": n} for n in range(10)]))
    assert logs == pytest.approx(np.log((1.0 - belief.FLOOR) * 10 * prior + belief.FLOOR), abs=1e-6)


def shifted(params, shift):
    return value({**params, "x": min(max(params["x"] + shift, 0.0), 1.0)})


def test_a_study_like_this_one_weighs_more_than_one_unlike_it(history):
    few = wt.History(SPACE, history.trials[:10])
    like = wt.Study(SPACE, sampler="random", seed=5)
    like.optimize(lambda p: shifted(p, 0.02), n_trials=40)
    unlike = wt.Study(SPACE, sampler="random", seed=6)
    unlike.optimize(lambda p: -value(p), n_trials=40)
    weights = []
    for earlier in (like.history, unlike.history):
        target = wt.History(SPACE, few.trials, wishes=wt.history.Wishes(earlier=(earlier,)))
        rng = np.random.default_rng(0)
        ensemble = transfer.ensemble(models.fit_model(few, rng), transfer.earlier_models(target, rng), 50, rng)
        weights.append(0.0 if ensemble is None else float(ensemble.weights[0]))
    assert weights[0] > 0.5 > 0.1 > weights[1]


def test_the_gradient_of_the_ensemble(history, rows):
    few = wt.History(SPACE, history.trials[:10])
    rng = np.random.default_rng(0)
    both = [models.fit_model(h, rng, members=1) for h in (history, few)]
    ensemble = transfer.Ensemble(both[0].embed, tuple(m.objective.posterior for m in both), np.array([0.7, 0.3]))
    slopes_agree(transfer.TransferEI(ensemble, -1.0), rows)


def test_a_portfolio_is_made_of_what_was_good_before(history):
    model = models.fit_model(history, np.random.default_rng(0), members=1)
    chosen = transfer.portfolio([model], 3)
    best = history.unit[np.argsort(history.losses[:, 0])[:5]]
    assert len(chosen) == 3
    for row in chosen:
        assert any(((row == b) | (np.isnan(row) & np.isnan(b))).all() for b in best)
    assert len(transfer.portfolio([], 3)) == 0


# the model of a history


def test_remembering_changes_nothing(history):
    models._CACHE.clear()
    first = models.fit_model(history, np.random.default_rng(0))
    again = models.fit_model(history, np.random.default_rng(0))
    models._CACHE.clear()
    anew = models.fit_model(history, np.random.default_rng(0))
    assert (first.objective.posterior.thetas == again.objective.posterior.thetas).all()
    assert (first.objective.posterior.thetas == anew.objective.posterior.thetas).all()


def test_what_another_thread_evicts_at_once_is_there_all_the_same(history, monkeypatch):
    models._CACHE.clear()
    monkeypatch.setattr(models, "_CACHED", 0)
    assert len(models.fit_model(history, np.random.default_rng(0)).objective.posterior.thetas)
    assert not models._CACHE


def test_many_observations_are_thinned_to_the_best_the_nearest_and_the_latest():
    unit = np.random.default_rng(0).random((1000, 3))
    y = ((unit - 0.5) ** 2).sum(1)
    kept = models.informative(unit, y, 90)
    assert len(kept) == len(set(kept.tolist())) == 90
    assert set(np.argsort(y)[:30]) <= set(kept.tolist())
    assert (kept >= 960).sum() >= 25
    assert (models.informative(unit[:50], y[:50], 90) == np.arange(50)).all()


@pytest.mark.parametrize(
    "y",
    [[1.0] * 12, [1e12] * 6 + [-1e12] * 6, [1e-9 * i for i in range(12)], [0.0] * 11 + [1e300], [1e308, -1e308] * 6],
)
def test_awkward_values_give_finite_predictions(history, y):
    trials = [
        wt.Trial(t.number, t.state, t.params, {"value": float(v)}) for t, v in zip(history.trials[:12], y, strict=True)
    ]
    model = models.fit_model(wt.History(SPACE, trials), np.random.default_rng(0))
    mean, sd = model.objective.predict(embedding(SPACE)(history.unit))
    assert np.isfinite(mean).all() and np.isfinite(sd).all()


def test_small_arrays_round_alike_wherever_they_lie():
    """NumPy may take another routine where input and output are next to each other in memory."""
    block, x = np.empty(64), np.random.default_rng(0).standard_normal(3)
    for function, of in ((kernels.exp, x), (kernels.log, np.abs(x))):
        found = set()
        for at in range(40):
            block[at : at + 3] = of
            found.add(function(block[at : at + 3]).tobytes())
        assert len(found) == 1


def test_violations_as_far_apart_as_numbers_are():
    y, violations = np.array([1e300, -1e300, 0.0, 1.0]), np.array([[-1.0], [1e-300], [1e-300], [1e300]])
    found = penalised(y, violations)
    assert np.isfinite(found).all() and (found[1:] > found[0]).all() and found[3] >= found[1:3].max()


@pytest.mark.parametrize("over", [5e-324, 1e-310, 1e300, 1.7e308])
def test_a_constraint_that_is_missed_by_any_size(over):
    """Where 0 was beside large values overflowed when it was squared, and the smallest ones were none."""
    study = wt.Study({"x": (0.0, 1.0)}, sampler="bayes", seed=0)
    study.optimize(lambda trial: trial.constrain("room", over) or trial["x"], n_trials=14)
    assert all(t.state is wt.State.COMPLETE for t in study.trials)
    assert not study.history.feasible.any() and study.history.best is None
    study.optimize(lambda trial: trial.constrain("room", over * (trial["x"] > 0.5)) or trial["x"], n_trials=20)
    assert study.best.params["x"] <= 0.5
