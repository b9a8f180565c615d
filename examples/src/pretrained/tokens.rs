//! The tokens of a text, by the `tokenizers` crate and the `tokenizer.json` that came with the network.

use std::path::Path;

use tokenizers::Tokenizer;

use super::failure::Failure;

/// Reads a `tokenizer.json`; texts are not filled up to a common length, whatever the file asks for.
///
/// # Errors
///
/// [`Failure::File`] for a file that cannot be read or describes no tokenizer.
pub fn tokenizer(path: &Path) -> Result<Tokenizer, Failure> {
    let unusable = |reason: String| Failure::File { path: path.to_path_buf(), reason };
    let bytes = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let mut tokenizer =
        Tokenizer::from_bytes(bytes).map_err(|error| unusable(error.to_string()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The token ids of a text, special tokens among them, cut where the tokenizer's file says so.
///
/// # Errors
///
/// [`Failure::Tokens`] for a text that the tokenizer cannot cover.
pub fn token_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, Failure> {
    let encoding = tokenizer
        .encode_fast(text, true)
        .map_err(|error| Failure::Tokens { text: text.to_owned(), reason: error.to_string() })?;
    Ok(encoding.get_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::cached;

    #[test]
    fn the_real_vocabulary_gives_the_recorded_tokens() {
        let path = match cached("minilm", "minilm-l6-v2-tokenizer.json") {
            Ok(path) => path,
            Err(absent) => return eprintln!("skipped: {absent}"),
        };
        let tokenizer = tokenizer(&path).expect("the fetched file");
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
            assert_eq!(token_ids(&tokenizer, text).expect("tokens"), want, "{text:?}");
            count += 1;
        }
        assert_eq!(count, 32);
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        for text in ["", "{}", r#"{"model":{"type":"another"}}"#] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(tokenizer(&path), Err(Failure::File { .. })), "{text}");
        }
        let absent = folder.path().join("absent.json");
        assert!(matches!(tokenizer(&absent), Err(Failure::File { .. })));
    }

    #[test]
    fn a_text_without_known_tokens_is_an_error_and_padding_is_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        let text = r#"{
            "version": "1.0", "truncation": null, "added_tokens": [], "normalizer": null,
            "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "@@",
                      "max_input_chars_per_word": 100, "vocab": {"un": 0, "@@able": 1, "unable": 2}}
        }"#;
        std::fs::write(&path, text).expect("written");
        let tokenizer = tokenizer(&path).expect("a tokenizer");
        assert_eq!(token_ids(&tokenizer, "unable un").expect("tokens"), [2, 0]);
        let unknown = token_ids(&tokenizer, "able");
        assert!(matches!(unknown, Err(Failure::Tokens { .. })), "{unknown:?}");
    }
}
