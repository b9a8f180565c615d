//! Optimizers by name: configuration from JSON, and the catalog.
//!
//! One line of [`CARDS`] makes an optimizer known to [`create`], to the battery of tests that every optimizer must pass,
//! to the catalog page and to the replay of recorded cases.

use crate::elementwise::Elementwise;
use crate::error::OptimError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

mod cards;

pub use crate::keywords::create_from_hyper;
pub use cards::CARDS;

/// What the catalog says of one optimizer.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RuleCard {
    /// Name for [`create`]: lower case, as PyTorch's class or the paper's name without separators.
    pub name: &'static str,
    /// Name as it is written.
    pub title: &'static str,
    /// The update in one line.
    pub formula: &'static str,
    /// Authors and year, or the arXiv number.
    pub reference: &'static str,
    /// Usual learning rate.
    pub lr: f64,
    /// Bytes of state for a parameter of 4 bytes.
    pub state_bytes: &'static str,
    /// When to take it.
    pub when: &'static str,
    defaults: fn() -> Value,
    build: fn(&Value) -> Result<Elementwise, OptimError>,
}

impl RuleCard {
    /// The default configuration.
    #[must_use]
    pub fn defaults(&self) -> Value {
        (self.defaults)()
    }

    /// The optimizer of a configuration; fields that are absent keep their defaults.
    ///
    /// # Errors
    /// As [`create`].
    pub fn create(&self, config: &Value) -> Result<Elementwise, OptimError> {
        (self.build)(config)
    }
}

/// The card of an optimizer; the name counts without case, `-`, `_` and spaces.
#[must_use]
pub fn card(name: &str) -> Option<&'static RuleCard> {
    let wanted = plain(name);
    CARDS.iter().find(|card| plain(card.name) == wanted)
}

/// A name without case, `-`, `_` and spaces.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// The optimizer called `name` under a configuration in JSON, an object with the fields of its `XConfig`.
///
/// # Errors
/// When the name is not known, a field is not one of the configuration's or of another type, or a value is refused.
///
/// ```
/// use firebrick_optim::registry;
/// use serde_json::json;
///
/// let optimizer = registry::create("adamw", &json!({"weight_decay": 0.05}))?;
/// assert_eq!(optimizer.decay().strength(), 0.05);
/// assert!(registry::create("adamw", &json!({"wd": 0.05})).is_err());
/// # Ok::<(), firebrick_optim::OptimError>(())
/// ```
pub fn create(name: &str, config: &Value) -> Result<Elementwise, OptimError> {
    card(name).ok_or_else(|| unknown(name))?.create(config)
}

pub(crate) fn unknown(name: &str) -> OptimError {
    let known = CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", ");
    OptimError::UnknownName { name: name.into(), known }
}

/// The default configuration with the given fields in place of its own.
fn overlay<C: Serialize + DeserializeOwned>(
    name: &str,
    defaults: &C,
    given: &Value,
) -> Result<C, OptimError> {
    let bad = |reason: String| OptimError::Json { name: name.into(), reason };
    let mut whole = match serde_json::to_value(defaults).map_err(|error| bad(error.to_string()))? {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let given = match given {
        Value::Object(fields) => fields.clone(),
        Value::Null => Map::new(),
        other => return Err(bad(format!("an object is wanted, not {other}"))),
    };
    let read =
        |fields: &Map<String, Value>| serde_json::from_value::<C>(Value::Object(fields.clone()));
    let mut config = read(&whole).map_err(|error| bad(error.to_string()))?;
    for (field, value) in given {
        if !whole.contains_key(&field) {
            let known = whole.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(bad(format!("there is no field `{field}`; there are {known}")));
        }
        // One at a time, so that a bad one is named.
        whole.insert(field.clone(), value.clone());
        config =
            read(&whole).map_err(|error| bad(format!("`{field}` cannot be {value}: {error}")))?;
    }
    Ok(config)
}

/// The catalog page, in Markdown.
#[must_use]
pub fn catalog() -> String {
    let mut page = String::from("# Optimizers\n");
    for card in CARDS {
        page += &format!(
            "\n## {}\n\n`{}` - {}\n\n- Update: `{}`\n- Reference: {}\n- Usual rate: {}\n- State: {} bytes a parameter\n- Defaults: `{}`\n",
            card.title,
            card.name,
            card.when,
            card.formula,
            card.reference,
            card.lr,
            card.state_bytes,
            card.defaults()
        );
    }
    page
}

#[cfg(all(test, feature = "flex"))]
mod tests;
