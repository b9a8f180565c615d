//! Truncated Newton on the loss of a linear softmax classifier.

use crate::score::linalg::product;
use faer::{Mat, MatRef};

/// Mean cross-entropy of `softmax(X W)` plus `l2 / 2` times the squared weights but for the last row, the bias.
pub(crate) struct Problem<'a> {
    /// `[n, d + 1]`, the last column ones.
    pub(crate) inputs: MatRef<'a, f64>,
    pub(crate) classes: &'a [u32],
    pub(crate) width: usize,
    pub(crate) l2: f64,
}

/// Where the iteration ended.
pub(crate) struct Minimum {
    /// `[d + 1, classes]`.
    pub(crate) weights: Mat<f64>,
    pub(crate) loss: f64,
    /// Largest entry of the gradient.
    pub(crate) slope: f64,
    pub(crate) iterations: usize,
}

impl Problem<'_> {
    /// The loss, and the probabilities.
    fn loss(&self, weights: &Mat<f64>) -> (f64, Mat<f64>) {
        let mut p = product(self.inputs, weights.as_ref());
        let (n, width) = p.shape();
        let mut loss = 0.0;
        for row in 0..n {
            let largest = (0..width).map(|c| p[(row, c)]).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..width).map(|c| (p[(row, c)] - largest).exp()).sum();
            loss += largest + sum.ln() - p[(row, self.classes[row] as usize)];
            (0..width).for_each(|c| p[(row, c)] = (p[(row, c)] - largest).exp() / sum);
        }
        let d = weights.nrows() - 1;
        let squares = weights.get(..d, ..).squared_norm_l2();
        (loss / n as f64 + 0.5 * self.l2 * squares, p)
    }

    fn back(&self, errors: &Mat<f64>, weights: &Mat<f64>) -> Mat<f64> {
        let mut out = product(self.inputs.transpose(), errors.as_ref());
        let (n, d) = (self.inputs.nrows() as f64, weights.nrows() - 1);
        for class in 0..self.width {
            for k in 0..=d {
                let shrink = if k < d { self.l2 * weights[(k, class)] } else { 0.0 };
                out[(k, class)] = out[(k, class)] / n + shrink;
            }
        }
        out
    }

    fn gradient(&self, p: &Mat<f64>, weights: &Mat<f64>) -> Mat<f64> {
        let mut errors = p.clone();
        self.classes.iter().enumerate().for_each(|(row, &c)| errors[(row, c as usize)] -= 1.0);
        self.back(&errors, weights)
    }

    /// Hessian times `direction`.
    fn curve(&self, p: &Mat<f64>, direction: &Mat<f64>) -> Mat<f64> {
        let mut moved = product(self.inputs, direction.as_ref());
        for row in 0..moved.nrows() {
            let mean: f64 = (0..self.width).map(|c| p[(row, c)] * moved[(row, c)]).sum();
            (0..self.width).for_each(|c| moved[(row, c)] = p[(row, c)] * (moved[(row, c)] - mean));
        }
        self.back(&moved, direction)
    }

    pub(crate) fn minimise(&self, start: Mat<f64>, tolerance: f64, most: usize) -> Minimum {
        let mut weights = start;
        let (mut loss, mut p) = self.loss(&weights);
        let mut gradient = self.gradient(&p, &weights);
        let mut iterations = 0;
        while gradient.norm_max() > tolerance && iterations < most {
            iterations += 1;
            let direction = self.direction(&p, &gradient);
            let slope = dot(&direction, &gradient);
            let mut length = 1.0;
            let stuck = loop {
                let next = &weights + faer::Scale(length) * &direction;
                let (next_loss, next_p) = self.loss(&next);
                // At the end the decrease is below the rounding of the loss: take the step.
                let noise = 4.0 * f64::EPSILON * loss.abs();
                if next_loss <= loss + 1e-4 * length * slope + noise {
                    (weights, loss, p) = (next, next_loss, next_p);
                    break false;
                }
                length *= 0.5;
                if length < 1e-12 {
                    break true;
                }
            };
            if stuck {
                break;
            }
            gradient = self.gradient(&p, &weights);
        }
        Minimum { weights, loss, slope: gradient.norm_max(), iterations }
    }

    /// Conjugate gradients on the Newton equation, to an accuracy that grows with the iteration's.
    fn direction(&self, p: &Mat<f64>, gradient: &Mat<f64>) -> Mat<f64> {
        let mut found = Mat::<f64>::zeros(gradient.nrows(), gradient.ncols());
        let mut rest: Mat<f64> = -gradient;
        let mut along = rest.clone();
        let mut square = dot(&rest, &rest);
        let norm = square.sqrt();
        let goal = norm * norm.sqrt().min(0.1);
        for _ in 0..gradient.nrows() * gradient.ncols() {
            let curved = self.curve(p, &along);
            let bend = dot(&along, &curved);
            // The bias has no penalty, and adding one number to all classes changes nothing: flat, but never bent
            // downwards.
            if bend <= 1e-16 * square {
                break;
            }
            let step = square / bend;
            found += faer::Scale(step) * &along;
            rest -= faer::Scale(step) * &curved;
            let next = dot(&rest, &rest);
            if next.sqrt() <= goal {
                break;
            }
            along = &rest + faer::Scale(next / square) * &along;
            square = next;
        }
        if dot(&found, gradient) < 0.0 { found } else { -gradient }
    }
}

fn dot(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (0..a.ncols()).map(|j| (0..a.nrows()).map(|i| a[(i, j)] * b[(i, j)]).sum::<f64>()).sum()
}
