//! The certificate of a split.

use serde::{Deserialize, Serialize};

/// How data differ from those that were split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum DataChange {
    /// Another number of rows.
    #[error("there were {recorded} rows, now there are {now}")]
    Count {
        /// Rows that were split.
        recorded: u64,
        /// Rows now.
        now: u64,
    },
    /// As many rows with other content.
    #[error("the content of some rows is another")]
    Content,
    /// The same rows in another order.
    #[error("the rows are the same but stand in another order")]
    Order,
}
