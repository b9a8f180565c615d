//! The first runs of the fuzzer, as a test; `fuzz/` goes on for as long as it is told.

#[path = "../../fuzz/src/target.rs"]
mod target;

use firebrick_core::Philox;

#[test]
fn random_bytes_make_nothing_panic() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for run in 0..2_000 {
        let mut stream = Philox::new(1, run);
        let data: Vec<u8> = (0..stream.below(4000)).map(|_| stream.next_u32() as u8).collect();
        target::target(&data, folder.path());
    }
    // And the shortest inputs, every first two bytes.
    for first in 0..=u8::MAX {
        for second in (0..=u8::MAX).step_by(17) {
            target::target(&[first, second], folder.path());
        }
    }
}
