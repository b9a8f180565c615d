//! BERT's tokenizer for English without case, from the vocabulary in a `tokenizer.json`.
//!
//! Clean, take accents off, lower the case, split at spaces and punctuation, then the longest pieces first (M. Schuster and
//! K. Nakajima, "Japanese and Korean voice search", 2012). Recorded against the `tokenizers` library, which does the same and
//! much more; as a dependency it would switch on features of crates below burn, and burn would be compiled once more.
//!
//! Special tokens that stand in a text as words, such as `[MASK]`, are text here.

use std::collections::HashMap;
use std::path::Path;

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

use super::failure::Failure;

/// Longer words, in characters, are unknown.
const LONGEST_WORD: usize = 100;

/// The tokenizer.
#[derive(Debug, Clone)]
pub struct WordPiece {
    vocabulary: HashMap<String, u32>,
    first: u32,
    last: u32,
    unknown: u32,
}

impl WordPiece {
    /// Reads the vocabulary of a `tokenizer.json` whose model is a WordPiece without case.
    ///
    /// # Errors
    ///
    /// [`Failure::File`] for a file that cannot be read, is another kind of tokenizer, or lacks a special token.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let unusable =
            |reason: &str| Failure::File { path: path.to_path_buf(), reason: reason.to_owned() };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error.to_string()))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| unusable(&error.to_string()))?;
        let is = |pointer: &str, value: &str| {
            json.pointer(pointer).and_then(|found| found.as_str()) == Some(value)
        };
        let lower = json.pointer("/normalizer/lowercase").and_then(serde_json::Value::as_bool)
            == Some(true);
        if !is("/model/type", "WordPiece") || !is("/normalizer/type", "BertNormalizer") || !lower {
            return Err(unusable("it is no WordPiece tokenizer without case"));
        }
        let words = json.pointer("/model/vocab").and_then(|found| found.as_object());
        let words = words.ok_or_else(|| unusable("it has no vocabulary"))?;
        let entry = |(word, id): (&String, &serde_json::Value)| {
            Some((word.clone(), u32::try_from(id.as_u64()?).ok()?))
        };
        let vocabulary: HashMap<String, u32> = words.iter().filter_map(entry).collect();
        let special = |word: &str| {
            vocabulary
                .get(word)
                .copied()
                .ok_or_else(|| unusable(&format!("its vocabulary has no {word}")))
        };
        let (first, last, unknown) = (special("[CLS]")?, special("[SEP]")?, special("[UNK]")?);
        Ok(Self { vocabulary, first, last, unknown })
    }

    /// The token ids of a text, with the first and last special token.
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = vec![self.first];
        for word in words(&normal(text)) {
            self.pieces(&word, &mut ids);
        }
        ids.push(self.last);
        ids
    }

    /// The longest pieces of a word, from its beginning on; one unknown token where they do not cover it.
    fn pieces(&self, word: &str, ids: &mut Vec<u32>) {
        let letters: Vec<char> = word.chars().collect();
        let mut found = Vec::new();
        let mut start = 0;
        while start < letters.len() && letters.len() <= LONGEST_WORD {
            let piece = (start + 1..=letters.len()).rev().find_map(|end| {
                let begin = if start == 0 { "" } else { "##" };
                let piece: String =
                    begin.chars().chain(letters[start..end].iter().copied()).collect();
                self.vocabulary.get(&piece).map(|id| (*id, end))
            });
            let Some((id, end)) = piece else { break };
            found.push(id);
            start = end;
        }
        if start == letters.len() { ids.extend(found) } else { ids.push(self.unknown) }
    }
}

/// Cleaned, with spaces around Chinese characters, without accents, in lower case.
fn normal(text: &str) -> String {
    let mut clean = String::new();
    for letter in text.chars() {
        match letter {
            '\t' | '\n' | '\r' => clean.push(' '),
            '\0' | '\u{fffd}' => {}
            letter if letter.is_other() => {}
            letter if letter.is_whitespace() => clean.push(' '),
            letter if is_chinese(letter) => clean.extend([' ', letter, ' ']),
            letter => clean.push(letter),
        }
    }
    clean.nfd().filter(|letter| !letter.is_mark_nonspacing()).flat_map(char::to_lowercase).collect()
}

/// The words of a normalized text: what stands between spaces, each punctuation mark for itself.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for part in text.split_whitespace() {
        let mut word = String::new();
        for letter in part.chars() {
            if letter.is_ascii_punctuation() || letter.is_punctuation() {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                words.push(letter.to_string());
            } else {
                word.push(letter);
            }
        }
        words.extend((!word.is_empty()).then_some(word));
    }
    words
}

/// The blocks of CJK ideographs.
fn is_chinese(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::cached;

    #[test]
    fn words_are_cleaned_lowered_and_split() {
        assert_eq!(normal("Élève\u{200b} 北京\tX"), "eleve  北  京  x");
        assert_eq!(words("don't stop..."), ["don", "'", "t", "stop", ".", ".", "."]);
    }

    #[test]
    fn pieces_are_the_longest_first() {
        let words = ["[CLS]", "[SEP]", "[UNK]", "un", "##able", "##a", "unable"];
        let vocabulary = words.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id)).collect();
        let tokenizer = WordPiece { vocabulary, first: 0, last: 1, unknown: 2 };
        assert_eq!(tokenizer.encode("unable una unb"), [0, 6, 3, 5, 2, 1]);
    }

    #[test]
    fn the_real_vocabulary_gives_the_recorded_tokens() {
        let path = match cached("minilm", "minilm-l6-v2-tokenizer.json") {
            Ok(path) => path,
            Err(absent) => return eprintln!("skipped: {absent}"),
        };
        let tokenizer = WordPiece::read(&path).expect("the fetched file");
        let text = include_str!("../../../tests/references/transfer_minilm.json");
        let recorded: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let cases = ["cases", "tokens"]
            .into_iter()
            .flat_map(|key| recorded[key].as_array().expect("cases"));
        let mut count = 0;
        for case in cases {
            let want: Vec<u32> = case["ids"]
                .as_array()
                .expect("ids")
                .iter()
                .map(|id| id.as_u64().expect("an id") as u32)
                .collect();
            let text = case["text"].as_str().expect("a text");
            assert_eq!(tokenizer.encode(text), want, "{text:?}");
            count += 1;
        }
        assert_eq!(count, 32);
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        for text in ["", "{}", r#"{"model":{"type":"BPE"}}"#] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(WordPiece::read(&path), Err(Failure::File { .. })), "{text}");
        }
    }
}
