//! Names of tensors: rules that rewrite them, how alike two are, and how many are printed in one line.

use std::collections::BTreeMap;

/// A rule that rewrites the leading segments of a name.
///
/// Segments are what stands between dots and match whole, so that `layers.1` never matches `layers.10`; `*` matches
/// any one segment, and the replacement's `*` take the matched segments in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rename {
    from: Vec<String>,
    to: Vec<String>,
}

impl Rename {
    /// The rule from `from` to `to`; an error in words where it cannot be one.
    pub(super) fn new(from: &str, to: &str) -> Result<Self, String> {
        let rule = Self { from: segments(from), to: segments(to) };
        let stars = |side: &[String]| side.iter().filter(|segment| *segment == "*").count();
        if from.split('.').chain(to.split('.').filter(|_| !to.is_empty())).any(str::is_empty)
            && !from.is_empty()
        {
            return Err("names without empty segments".to_owned());
        }
        if stars(&rule.from) != stars(&rule.to) {
            return Err("as many `*` on both sides".to_owned());
        }
        Ok(rule)
    }

    /// The rewritten name, where the rule matches.
    pub(super) fn apply(&self, name: &str) -> Option<String> {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() < self.from.len() {
            return None;
        }
        let mut matched = Vec::new();
        for (pattern, part) in self.from.iter().zip(&parts) {
            if pattern == "*" {
                matched.push(*part);
            } else if pattern != part {
                return None;
            }
        }
        let mut stars = matched.into_iter();
        let head = self.to.iter().map(|segment| match segment.as_str() {
            "*" => stars.next().unwrap_or("*"),
            fixed => fixed,
        });
        let renamed: Vec<&str> = head.chain(parts[self.from.len()..].iter().copied()).collect();
        (!renamed.is_empty()).then(|| renamed.join("."))
    }
}

impl std::fmt::Display for Rename {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` -> `{}`", self.from.join("."), self.to.join("."))
    }
}

fn segments(text: &str) -> Vec<String> {
    text.split('.').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// Whether `name` is `prefix` or stands under it; an empty prefix has everything under it.
pub(super) fn is_under(name: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Likeness of two names from 0 to 1: one minus the Levenshtein distance over the longer length.
pub(super) fn likeness(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longest = a.len().max(b.len());
    if longest == 0 {
        return 1.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    1.0 - row[b.len()] as f64 / longest as f64
}

/// The `count` names most like `wanted`, as text.
pub(super) fn nearest<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
    count: usize,
) -> String {
    let mut scored: Vec<(f64, &str)> = names.map(|name| (likeness(wanted, name), name)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let best: Vec<String> =
        scored.iter().take(count).map(|(_, name)| format!("`{name}`")).collect();
    if best.is_empty() { "none".to_owned() } else { best.join(", ") }
}

/// Names with their list indices collapsed: `layers.0.weight` and `layers.1.weight` become `layers.{0..1}.weight (2)`.
pub(super) fn collapse<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Vec<Vec<u64>>> = BTreeMap::new();
    for name in names {
        let mut indices = Vec::new();
        let form: Vec<&str> = name
            .split('.')
            .map(|segment| match segment.parse::<u64>() {
                Ok(index) => {
                    indices.push(index);
                    "#"
                }
                Err(_) => segment,
            })
            .collect();
        let form = form.join(".");
        if !groups.contains_key(&form) {
            order.push(form.clone());
        }
        groups.entry(form).or_default().push(indices);
    }
    order
        .into_iter()
        .map(|form| {
            let members = &groups[&form];
            let mut place = 0;
            let shown: Vec<String> = form
                .split('.')
                .map(|segment| {
                    if segment != "#" {
                        return segment.to_owned();
                    }
                    let column: Vec<u64> = members.iter().map(|indices| indices[place]).collect();
                    place += 1;
                    let (low, high) = (column.iter().min().copied(), column.iter().max().copied());
                    match (low, high) {
                        (Some(low), Some(high)) if low < high => format!("{{{low}..{high}}}"),
                        (Some(low), _) => low.to_string(),
                        _ => "#".to_owned(),
                    }
                })
                .collect();
            let shown = shown.join(".");
            if members.len() > 1 { format!("{shown} ({})", members.len()) } else { shown }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(from: &str, to: &str, name: &str) -> Option<String> {
        Rename::new(from, to).expect("a rule").apply(name)
    }

    #[test]
    fn segments_match_whole() {
        assert_eq!(
            renamed("layers.1", "blocks.1", "layers.1.weight").as_deref(),
            Some("blocks.1.weight")
        );
        assert_eq!(renamed("layers.1", "blocks.1", "layers.10.weight"), None);
        assert_eq!(renamed("backbone", "", "backbone.conv.weight").as_deref(), Some("conv.weight"));
        assert_eq!(renamed("", "encoder", "conv.weight").as_deref(), Some("encoder.conv.weight"));
        assert_eq!(renamed("a.b.c", "x", "a.b"), None);
        assert_eq!(renamed("weight", "", "weight"), None, "nothing would be left");
    }

    #[test]
    fn stars_carry_over_in_order() {
        let name = "encoder.layer.3.attention.self.query.weight";
        let got = renamed("encoder.layer.*.attention.self.*", "layers.*.attention.*", name);
        assert_eq!(got.as_deref(), Some("layers.3.attention.query.weight"));
        assert!(Rename::new("a.*", "b").is_err());
        assert!(Rename::new("a..b", "c").is_err());
        assert!(Rename::new("a", "c.").is_err());
    }

    #[test]
    fn under_means_at_a_dot() {
        assert!(is_under("fc.weight", "fc") && is_under("fc", "fc") && is_under("fc", ""));
        assert!(!is_under("fc2.weight", "fc"));
    }

    #[test]
    fn likeness_is_levenshtein() {
        assert!((likeness("kitten", "sitting") - (1.0 - 3.0 / 7.0)).abs() < 1e-12);
        assert!((likeness("", "") - 1.0).abs() < 1e-12);
        let names = ["conv1.weight", "fc.weight", "fc.bias"];
        assert_eq!(nearest("fc.wieght", names.into_iter(), 1), "`fc.weight`");
        assert_eq!(nearest("x", [].into_iter(), 2), "none");
    }

    #[test]
    fn indices_collapse() {
        let names =
            ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.11.weight", "head"];
        let got = collapse(names.into_iter());
        assert_eq!(got, ["layers.{0..11}.weight (3)", "layers.0.bias", "head"]);
    }
}
