//! The seed of a run and the named streams that are drawn from it.

use crate::Philox;
use serde::{Deserialize, Serialize};

/// The seed of every random choice of a run.
///
/// One seed gives as many independent streams as a run needs, each by its purpose's name, so that
/// drawing more in one place never changes what another place draws.
///
/// ```
/// use firebrick_core::Seed;
///
/// let seed = Seed(42);
/// assert_eq!(seed.stream("init").next_u32(), seed.stream("init").next_u32());
/// assert_ne!(seed.stream("init").next_u32(), seed.stream("dropout").next_u32());
/// assert_ne!(seed.child(0), seed.child(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator of the stream called `purpose`; the name enters by its 64-bit FNV-1a hash.
    #[must_use]
    pub fn stream(self, purpose: &str) -> Philox {
        Philox::new(self.0, fnv1a(purpose.as_bytes()))
    }

    /// The seed of the `index`-th part of the run: a fold, a candidate, a repetition.
    #[must_use]
    pub fn child(self, index: u64) -> Self {
        let mut stream = Philox::new(self.0, fnv1a(b"child"));
        stream.seek(u128::from(index) << 2);
        Self(stream.next_u64())
    }
}

impl From<u64> for Seed {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Fowler, Noll, Vo: the 1a variant with 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_matches_its_published_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn children_differ_and_repeat() {
        let children: std::collections::BTreeSet<_> = (0..1000).map(|i| Seed(1).child(i)).collect();
        assert_eq!(children.len(), 1000);
        assert_eq!(Seed(1).child(17), Seed(1).child(17));
        assert_ne!(Seed(1).child(17), Seed(2).child(17));
    }
}
