//! Facts about the machine that a reader of the figures needs, and the copy bandwidth measured on it.

use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;

/// What the figures were measured on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// Threads that the operating system grants this process.
    pub(crate) cores: usize,
    /// The processor's name, or the architecture where the system does not tell.
    pub(crate) cpu: String,
    /// Operating system.
    pub(crate) os: &'static str,
    /// Bytes read plus bytes written a second by a copy on all cores, best of several.
    pub(crate) copy_bytes_per_second: f64,
}

impl Machine {
    /// Asks the system and measures the copy: 64 MiB in quick mode, else 256 MiB.
    pub(crate) fn measure(quick: bool) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let bytes = if quick { 64 << 20 } else { 256 << 20 };
        Self {
            cores,
            cpu: cpu_name(),
            os: std::env::consts::OS,
            copy_bytes_per_second: copy_bandwidth(cores, bytes, 7),
        }
    }
}

fn cpu_name() -> String {
    let named = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// A copy on all of rayon's threads, to hold a pass over memory against.
#[derive(Debug)]
pub(crate) struct ParallelCopy {
    source: Vec<f32>,
    target: Vec<f32>,
    times: usize,
}

impl ParallelCopy {
    /// At most this many elements are copied at once: 256 MiB.
    const MOST: usize = 1 << 26;

    /// A copy that reads and writes `bytes` together.
    pub(crate) fn of(bytes: f64) -> Self {
        let elements = (bytes / 8.0) as usize;
        let times = elements.div_ceil(Self::MOST).max(1);
        let n = (elements / times).max(1);
        Self { source: vec![1.0; n], target: vec![0.0; n], times }
    }

    /// One timed copy.
    pub(crate) fn run(&mut self) -> Duration {
        let part = self.source.len().div_ceil(rayon::current_num_threads());
        let start = Instant::now();
        for _ in 0..self.times {
            let parts = self.target.par_chunks_mut(part).zip(self.source.par_chunks(part));
            parts.for_each(|(to, from)| to.copy_from_slice(from));
        }
        std::hint::black_box(&self.target);
        start.elapsed()
    }
}

/// Copies `bytes` on `threads` threads `rounds` times after a first untimed copy that touches the pages.
fn copy_bandwidth(threads: usize, bytes: usize, rounds: usize) -> f64 {
    let threads = threads.max(1);
    let elements = (bytes / size_of::<f32>()).max(1);
    let source = vec![1.0_f32; elements];
    let mut target = vec![0.0_f32; elements];
    let part = elements.div_ceil(threads);
    let mut copy = || {
        let start = Instant::now();
        thread::scope(|scope| {
            for (from, to) in source.chunks(part).zip(target.chunks_mut(part)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        start.elapsed().as_secs_f64()
    };
    copy();
    let best = (0..rounds).map(|_| copy()).fold(f64::INFINITY, f64::min);
    let moved = 2 * elements * size_of::<f32>();
    std::hint::black_box(&target);
    moved as f64 / best.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_a_plausible_figure() {
        let measured = copy_bandwidth(2, 8 << 20, 3);
        assert!((1e7..1e14).contains(&measured), "{measured} bytes/s");
    }

    #[test]
    fn a_copy_moves_as_many_bytes_as_it_is_asked_for() {
        let mut copy = ParallelCopy::of(8e6);
        assert!(copy.run() > Duration::ZERO);
        assert_eq!((copy.target.len(), copy.times), (1_000_000, 1));
        assert_eq!(copy.target, copy.source);
    }

    #[test]
    fn the_cpu_has_a_name() {
        assert!(!cpu_name().is_empty());
    }
}
