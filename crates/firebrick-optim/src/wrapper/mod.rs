//! What can be put around any optimizer, burn's own among them; each is called by hand between the steps of a loop.

mod accumulate;
mod average;
mod buffers;
mod centralize;
mod lookahead;
mod pairs;
mod sam;

pub use accumulate::Accumulator;
pub use average::{Ema, EmaConfig, Swa};
pub use buffers::Buffers;
pub use centralize::centralize;
pub use lookahead::{Lookahead, LookaheadConfig};
pub use sam::{Sam, SamConfig, SamForm, SamSnapshot};
