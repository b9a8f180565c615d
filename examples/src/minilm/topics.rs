//! Questions on six topics, from the files that `cargo xtask fetch topics` brings.

use std::collections::{BTreeMap, BTreeSet};

use firebrick::transfer::score::Features;
use firebrick_examples::pretrained::{Failure, cached};

const TOPICS: [&str; 6] = ["coding", "emotion", "literature", "movies", "science", "sports"];

/// Labelled questions, each once.
#[derive(Debug)]
pub(crate) struct Topics {
    pub(crate) names: [&'static str; 6],
    pub(crate) texts: Vec<String>,
    pub(crate) labels: Vec<u32>,
}

/// What opens each conversation of each topic, in lower case, at least three words, each once.
///
/// Lower case, since one file shouts: letters would otherwise tell the topic.
pub(crate) fn read() -> Result<Topics, Failure> {
    let mut topics = Topics { names: TOPICS, texts: Vec::new(), labels: Vec::new() };
    let mut seen = BTreeSet::new();
    for (label, name) in (0..).zip(TOPICS) {
        let path = cached("topics", &format!("topics-{name}.yml"))?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::File { path: path.clone(), reason: error.to_string() })?;
        let before = topics.texts.len();
        for question in questions(&text) {
            if question.split_whitespace().count() >= 3 && seen.insert(plain(&question)) {
                topics.texts.push(question);
                topics.labels.push(label);
            }
        }
        if topics.texts.len() == before {
            return Err(Failure::File { path, reason: "no question in it".to_owned() });
        }
    }
    Ok(topics)
}

/// Letters, digits and spaces only, so that a question mark makes no new question.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric() || *letter == ' ').collect()
}

/// The first line of each conversation: the corpus writes a list of lists in YAML, one line an entry.
fn questions(text: &str) -> Vec<String> {
    let openings = text.lines().filter_map(|line| line.strip_prefix("- - "));
    openings.map(|line| line.trim().trim_matches(['\'', '"']).trim().to_lowercase()).collect()
}

impl Topics {
    /// Questions of each topic.
    pub(crate) fn counts(&self) -> Vec<usize> {
        let count = |label: u32| self.labels.iter().filter(|other| **other == label).count();
        (0..6).map(count).collect()
    }

    /// Share of the most frequent topic.
    pub(crate) fn majority(&self) -> f64 {
        self.counts().into_iter().max().unwrap_or(0) as f64 / self.labels.len().max(1) as f64
    }
}

/// How often each token stands in each text: what a probe has without a network.
pub(crate) fn counts(tokens: &[Vec<u32>]) -> Result<Features, Failure> {
    let all: BTreeSet<u32> = tokens.iter().flatten().copied().collect();
    let places: BTreeMap<u32, usize> = all.into_iter().zip(0..).collect();
    let mut values = vec![0.0; tokens.len() * places.len()];
    for (row, text) in tokens.iter().enumerate() {
        for token in text {
            if let Some(place) = places.get(token) {
                values[row * places.len() + place] += 1.0;
            }
        }
    }
    Ok(Features::new(values, places.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_read_and_answers_are_not() {
        let text = "categories:\n- sports\nconversations:\n- - 'WHAT IS CRICKET '\n  - A game.\n- - who wrote it?\n  - |\n    - - no\n";
        assert_eq!(questions(text), ["what is cricket", "who wrote it?"]);
        assert_eq!(plain("what's h2o?"), "whats h2o");
    }

    #[test]
    fn tokens_are_counted() {
        let features = counts(&[vec![7, 3, 7], vec![3]]).expect("features");
        assert_eq!(features.values(), [1.0, 2.0, 1.0, 0.0]);
    }
}
