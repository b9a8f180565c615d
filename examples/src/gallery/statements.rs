//! What the survey says about the optimizers on its worked example, asserted.
//!
//! The function is f(x) = 0.1 x1^2 + 2 x2^2 from (-5, -2), with curvatures 0.2 and 4.

use crate::runs;
use crate::surface::{BEALE, ROSENBROCK, SADDLE, Surface, VALLEY};
use crate::trajectory::{Outcome, Trajectory, follow};
use firebrick::core::ConfigError;
use firebrick::optim::{Elementwise, RatePlacement, SgdConfig};

fn walk(surface: &Surface, rule: Result<Elementwise, ConfigError>, lr: f64) -> Trajectory {
    follow(surface, &rule.expect("the gallery's rules are valid"), lr)
}

fn valley(rule: Result<Elementwise, ConfigError>, lr: f64) -> Trajectory {
    walk(&VALLEY, rule, lr)
}

fn steps(trajectory: &Trajectory) -> usize {
    match trajectory.outcome {
        Outcome::Reached { steps, .. } | Outcome::Left(steps) => steps,
        other => panic!("not there: {other}"),
    }
}

fn assert_near(found: f64, expected: f64, relative: f64) {
    let error = (found - expected).abs();
    assert!(error <= relative * expected.abs(), "{found} is not {expected}");
}

/// Where tests/references/schedule_gallery.py stands after 20 steps.
#[test]
fn twenty_steps_are_those_of_a_plain_model() {
    let model = [
        (runs::descent(), 0.4, [-0.9434666458139824, -7.312316880125978e-05]),
        (runs::descent(), 0.6, [-0.38781396819094793, -1673.365108505695]),
        (runs::momentum(0.5), 0.4, [-0.06284345503037868, 0.0012023355717834623]),
        (runs::momentum(0.5), 0.6, [0.007187866737294238, 0.0025532747547120727]),
        (runs::ada_grad(), 0.4, [-2.382562771979649, -0.15859055003666966]),
        (runs::ada_grad(), 2.0, [-0.002295340252192116, 0.0]),
        (runs::rms_prop(), 0.4, [-0.010598672134113744, 0.0]),
        (runs::ada_delta(), 0.0, [-4.930470233413441, -1.9309858854811341]),
        (runs::adam(), 0.4, [0.9960325469238898, -0.2127506522697793]),
    ];
    for (row, (rule, rate, expected)) in model.into_iter().enumerate() {
        let point = valley(rule, rate).points[20];
        for axis in 0..2 {
            let error = (point[axis] - expected[axis]).abs();
            assert!(error <= 1e-12 * expected[axis].abs().max(1.0), "row {row}: {point:?}");
        }
    }
}

/// Each coordinate is multiplied by 1 - rate * curvature: 0.92 along x1, -0.6 along x2.
#[test]
fn descent_at_0_4_moves_slowly_along_x1() {
    let walk = valley(runs::descent(), 0.4);
    for k in [1, 5, 20, 50] {
        assert_near(walk.points[k][0], -5.0 * 0.92f64.powi(k as i32), 1e-12);
        assert_near(walk.points[k][1], -2.0 * (-0.6f64).powi(k as i32), 1e-12);
    }
    let [x1, x2] = walk.points[20];
    assert!(x1.abs() > 0.9 && x2.abs() < 1e-4, "after 20 steps x2 has arrived, x1 has not");
    assert!(steps(&walk) > 40);
}

/// The factor along x2 is 1 - 0.6 * 4 = -1.4.
#[test]
fn descent_at_0_6_diverges_along_x2() {
    let walk = valley(runs::descent(), 0.6);
    assert!(matches!(walk.outcome, Outcome::Diverged(_)));
    for k in [1, 10, 20] {
        assert_near(walk.points[k][1], -2.0 * (-1.4f64).powi(k as i32), 1e-12);
    }
    let last = walk.last();
    assert!(last[1].abs() > 1e6 && last[0].abs() < 5.0, "along x2 only: {last:?}");
}

/// Momentum's iteration along an axis of curvature h has the roots of z^2 - (1 + mu - rate h) z + mu: along x1
/// the larger is 0.774 (plain descent: 0.92), along x2 a complex pair of size sqrt(0.5).
#[test]
fn momentum_at_0_4_is_smooth_and_fast() {
    let walk = valley(runs::momentum(0.5), 0.4);
    let plain = valley(runs::descent(), 0.4);
    assert!(steps(&walk) * 2 < steps(&plain), "{} against {}", steps(&walk), steps(&plain));
    let root = (1.42 + (1.42f64 * 1.42 - 2.0).sqrt()) / 2.0;
    assert_near(walk.points[61][0] / walk.points[60][0], root, 1e-3);
    // Smooth along x1: it only ever comes nearer, and never crosses.
    let x1: Vec<f64> = walk.points[..40].iter().map(|point| point[0]).collect();
    assert!(x1.windows(2).all(|pair| pair[0] < pair[1] && pair[1] < 0.0));
    assert!(walk.values.iter().all(|value| *value <= walk.values[0]));
}

#[test]
fn momentum_at_0_6_converges_where_descent_diverges() {
    let walk = valley(runs::momentum(0.5), 0.6);
    assert!(steps(&walk) < 20, "{}", walk.outcome);
    // Roots of size sqrt(mu) along x2: it oscillates, damped.
    let [x1, x2] = walk.points[60];
    assert!(x1.abs() < 1e-3 && x2.abs() < 1e-6);
}

/// v = mu v + rate g; x -= v, the survey's form, is PyTorch's while the rate is constant.
#[test]
fn the_rate_inside_or_outside_the_momentum_is_the_same_while_constant() {
    let inside = SgdConfig::new().with_momentum(0.5).with_rate(RatePlacement::Inside).build();
    let (inside, outside) = (valley(inside, 0.4), valley(runs::momentum(0.5), 0.4));
    for (a, b) in inside.points.iter().zip(&outside.points).take(60) {
        assert!((a[0] - b[0]).abs() < 1e-14 && (a[1] - b[1]).abs() < 1e-14);
    }
}

/// The rate that a step amounts to is |dx| / |g|, which AdaGrad only ever lowers.
#[test]
fn the_steps_of_ada_grad_only_shrink() {
    let walk = valley(runs::ada_grad(), 0.4);
    for axis in 0..2 {
        let rates: Vec<f64> = walk
            .points
            .windows(2)
            .map(|pair| {
                let gradient = (VALLEY.gradient)(pair[0])[axis];
                ((pair[1][axis] - pair[0][axis]) / gradient).abs()
            })
            .take(100)
            .collect();
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0] * (1.0 + 1e-9)), "axis {axis}");
        assert!(rates[50] < 0.6 * rates[0], "axis {axis}: {} of {}", rates[50], rates[0]);
    }
    // It falls early and then can hardly get on: at 20 steps x1 is barely half way.
    assert!(walk.points[20][0] < -2.0, "{:?}", walk.points[20]);
    let larger = valley(runs::ada_grad(), 2.0);
    assert!(steps(&larger) < steps(&walk), "a larger rate is what helps it");
    assert!(steps(&larger) < 20);
}

#[test]
fn rms_prop_gets_on_where_ada_grad_stalls() {
    let rms_prop = valley(runs::rms_prop(), 0.4);
    let ada_grad = valley(runs::ada_grad(), 0.4);
    let distance = |walk: &Trajectory| walk.points[20][0].abs();
    assert!(distance(&rms_prop) < distance(&ada_grad) / 10.0);
}

/// It begins with steps of about sqrt(eps) and no rate, and arrives all the same.
#[test]
fn ada_delta_needs_no_rate() {
    let walk = valley(runs::ada_delta(), 0.0);
    let first = (walk.points[1][0] - walk.points[0][0]).abs();
    assert!(first < 0.01, "{first}");
    assert!(walk.values[200] < walk.values[0] / 2.0, "{}", walk.values[200]);
    assert!(steps(&walk) > 100);
}

/// The first step of Adam is the rate along every axis, whatever the gradient.
#[test]
fn adam_makes_the_axes_alike() {
    let walk = valley(runs::adam(), 0.4);
    for axis in 0..2 {
        assert_near(walk.points[1][axis] - walk.points[0][axis], 0.4, 1e-6);
    }
    assert!(steps(&walk) < 200, "{}", walk.outcome);
}

#[test]
fn momentum_rms_prop_and_adam_leave_the_saddle_faster() {
    let plain = steps(&walk(&SADDLE, runs::descent(), 0.05));
    for (name, rule) in
        [("momentum", runs::momentum(0.9)), ("RMSProp", runs::rms_prop()), ("Adam", runs::adam())]
    {
        let faster = steps(&walk(&SADDLE, rule, 0.05));
        assert!(faster < plain, "{name}: {faster} against {plain}");
    }
}

#[test]
fn momentum_and_adam_outrun_descent_on_curved_valleys() {
    let plain = steps(&walk(&ROSENBROCK, runs::descent(), 0.001));
    let momentum = steps(&walk(&ROSENBROCK, runs::momentum(0.9), 0.001));
    let adam = steps(&walk(&ROSENBROCK, runs::adam(), 0.02));
    assert!(momentum * 5 < plain && adam * 2 < plain, "{plain}, {momentum}, {adam}");
    let plain = steps(&walk(&BEALE, runs::descent(), 0.01));
    let momentum = steps(&walk(&BEALE, runs::momentum(0.9), 0.003));
    assert!(momentum * 2 < plain, "{plain}, {momentum}");
}

/// Nothing that is drawn ends in nonsense, but for the one walk that shall.
#[test]
fn only_the_named_walk_diverges() {
    for surface in crate::surface::SURFACES {
        for run in runs::walk_all(surface).expect("valid") {
            let diverges = matches!(run.trajectory.outcome, Outcome::Diverged(_));
            assert_eq!(diverges, run.label == "Gradient descent, rate 0.6", "{}", run.label);
        }
    }
}
