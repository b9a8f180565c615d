//! Hunts for panics: random bytes become problems, files and JSON, for as many seconds as the argument says.
//!
//! Needs no nightly compiler. `target` takes bytes, so that it also serves a coverage-guided fuzzer. On a panic
//! the bytes are printed and the exit code is 1. `cargo test random_bytes` runs the first of them.

mod target;

use firebrick_core::Philox;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use target::target;

fn main() -> std::process::ExitCode {
    let number = |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, seed): (u64, u64) = (number(1, 60), number(2, 0));
    let folder = std::env::temp_dir().join(format!("firebrick-split-fuzz-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("cannot make {}: {error}", folder.display());
        return 2.into();
    }
    let start = Instant::now();
    let (mut runs, mut failures) = (0u64, 0);
    while start.elapsed() < Duration::from_secs(seconds) && failures < 5 {
        let mut stream = Philox::new(seed, runs);
        let len = stream.below(4000) as usize;
        let data: Vec<u8> = (0..len).map(|_| stream.next_u32() as u8).collect();
        if catch_unwind(AssertUnwindSafe(|| target(&data, &folder))).is_err() {
            failures += 1;
            println!("panic in run {runs} of seed {seed}, {len} bytes: {data:?}");
        }
        runs += 1;
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!("{runs} runs in {:.0} s, {failures} panics", start.elapsed().as_secs_f64());
    u8::from(failures > 0).into()
}
