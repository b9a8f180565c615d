//! Real pre-trained networks as burn modules, loaded through the audited plan of `firebrick::transfer::load`.
//!
//! Their weights are not part of this repository: `cargo xtask fetch` brings them into a cache.

mod bert;
mod cache;
mod efficientnet;
mod failure;
mod few;
mod program;
mod reference;
mod tokens;

pub use bert::{Bert, Encoded, bert_names};
pub use cache::{Absent, cached};
pub use efficientnet::{EfficientNetLite0, efficientnet_names, reference_input};
pub use failure::{Failure, say};
pub use few::{Few, FewLabels, few_labels};
pub use program::{compare, load, program};
pub use reference::{ALLOWED, equal_to_reference, largest_difference, numbers, recorded};
pub use tokens::{token_ids, tokenizer};
