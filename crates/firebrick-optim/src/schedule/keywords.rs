//! Reads the keywords of a schedule from JSON; a keyword that nobody asked for is an error.

use super::ScheduleError;
use serde_json::{Map, Value};

/// The keywords that are left, and those that were asked for.
pub(super) struct Keywords {
    schedule: &'static str,
    left: Map<String, Value>,
    accepted: Vec<String>,
}

impl Keywords {
    pub(super) fn new(schedule: &'static str, hyper: &Value) -> Result<Self, ScheduleError> {
        let left = match hyper {
            Value::Object(map) => map.clone(),
            Value::Null => Map::new(),
            other => {
                return Err(ScheduleError::BadValue {
                    schedule: schedule.into(),
                    keyword: "hyper".into(),
                    expected: "an object of keywords".into(),
                    value: other.to_string(),
                });
            }
        };
        Ok(Self { schedule, left, accepted: Vec::new() })
    }

    fn bad(&self, keyword: &str, expected: &str, value: &Value) -> ScheduleError {
        ScheduleError::BadValue {
            schedule: self.schedule.into(),
            keyword: keyword.into(),
            expected: expected.into(),
            value: value.to_string(),
        }
    }

    /// The value of `keyword`; null is Python's None and counts as not given.
    pub(super) fn take(&mut self, keyword: &str) -> Option<Value> {
        self.accepted.push(keyword.into());
        self.left.remove(keyword).filter(|value| !value.is_null())
    }

    fn required<T>(&self, keyword: &str, value: Option<T>) -> Result<T, ScheduleError> {
        value.ok_or_else(|| ScheduleError::MissingKeyword {
            schedule: self.schedule.into(),
            keyword: keyword.into(),
        })
    }

    /// A finite number, or a list of one (PyTorch takes one value a group).
    pub(super) fn real(
        &mut self,
        keyword: &str,
        default: Option<f64>,
    ) -> Result<f64, ScheduleError> {
        let Some(value) = self.take(keyword) else { return self.required(keyword, default) };
        let single = match &value {
            Value::Array(list) if list.len() == 1 => &list[0],
            other => other,
        };
        let number = single.as_f64().filter(|number| number.is_finite());
        number.ok_or_else(|| self.bad(keyword, "a finite number", &value))
    }

    /// A whole number `>= 0`.
    pub(super) fn whole(
        &mut self,
        keyword: &str,
        default: Option<u64>,
    ) -> Result<u64, ScheduleError> {
        let Some(value) = self.take(keyword) else { return self.required(keyword, default) };
        whole(&value).ok_or_else(|| self.bad(keyword, "a whole number, 0 or more", &value))
    }

    pub(super) fn whole_if_given(&mut self, keyword: &str) -> Result<Option<u64>, ScheduleError> {
        let Some(value) = self.take(keyword) else { return Ok(None) };
        match whole(&value) {
            Some(number) => Ok(Some(number)),
            None => Err(self.bad(keyword, "a whole number, 0 or more", &value)),
        }
    }

    pub(super) fn wholes(&mut self, keyword: &str) -> Result<Vec<u64>, ScheduleError> {
        let value = self.take(keyword);
        let value = self.required(keyword, value)?;
        let numbers = value.as_array().and_then(|list| list.iter().map(whole).collect());
        numbers.ok_or_else(|| self.bad(keyword, "a list of whole numbers, 0 or more", &value))
    }

    pub(super) fn flag(&mut self, keyword: &str, default: bool) -> Result<bool, ScheduleError> {
        let Some(value) = self.take(keyword) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.bad(keyword, "true or false", &value))
    }

    /// One of the given words with what it stands for; the first is the default.
    pub(super) fn word<T: Copy>(
        &mut self,
        keyword: &str,
        words: &[(&str, T)],
    ) -> Result<T, ScheduleError> {
        let Some(value) = self.take(keyword) else { return Ok(words[0].1) };
        let found = words.iter().find(|word| value.as_str() == Some(word.0));
        found.map(|word| word.1).ok_or_else(|| {
            let names: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.0)).collect();
            self.bad(keyword, &names.join(" or "), &value)
        })
    }

    pub(super) fn list(&mut self, keyword: &str) -> Result<Vec<Value>, ScheduleError> {
        let value = self.take(keyword);
        match self.required(keyword, value)? {
            Value::Array(list) if !list.is_empty() => Ok(list),
            other => Err(self.bad(keyword, "a list that is not empty", &other)),
        }
    }

    /// Accepts a keyword of PyTorch's that may only have its default.
    pub(super) fn only(&mut self, keyword: &str, default: &Value) -> Result<(), ScheduleError> {
        match self.take(keyword) {
            Some(value) if value != *default => {
                Err(self.bad(keyword, &format!("left at {default}"), &value))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what was not asked for.
    pub(super) fn finish(self) -> Result<(), ScheduleError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(keyword) => Err(ScheduleError::UnknownKeyword {
                schedule: self.schedule.into(),
                keyword: keyword.clone(),
                accepted: self.accepted,
            }),
        }
    }
}

/// Python writes some whole numbers as `30.0`.
fn whole(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_are_checked_and_named() {
        let hyper = json!({"a": "x", "n": 1.5, "w": 30.0, "l": [1, -1], "f": 1, "one": [0.5]});
        let mut words = Keywords::new("demo", &hyper).expect("an object");
        assert_eq!(
            words.real("a", None).expect_err("text").to_string(),
            "`a` of `demo` must be a finite number, got \"x\""
        );
        assert_eq!(words.whole("w", None), Ok(30));
        assert!(words.whole("n", None).is_err());
        assert!(words.wholes("l").is_err());
        assert!(words.flag("f", true).is_err());
        assert_eq!(words.real("one", None), Ok(0.5));
        assert_eq!(
            words.real("gone", None).expect_err("missing").to_string(),
            "`demo` needs `gone`"
        );
        assert_eq!(words.real("gone", Some(2.0)), Ok(2.0));
        assert!(Keywords::new("demo", &json!([1])).is_err());
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        let mut words =
            Keywords::new("demo", &json!({"gamma": 0.5, "gama": 1})).expect("an object");
        assert_eq!(words.real("gamma", None), Ok(0.5));
        assert_eq!(
            words.finish().expect_err("gama").to_string(),
            "`demo` has no `gama`; it takes gamma"
        );
    }
}
