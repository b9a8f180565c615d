//! A real pre-trained text network: all-MiniLM-L6-v2 loaded through a plan, checked against the reference
//! implementation, then the source of a task with few labels.
//!
//! `cargo xtask fetch`, then `cargo run --bin minilm`.

mod topics;

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Device;
use clap::Parser;
use firebrick::core::Seed;
use firebrick::transfer::probe::features_of;
use firebrick::transfer::score::Features;
use firebrick_examples::pretrained::{
    ALLOWED, Bert, Encoded, Failure, FewLabels, bert_names, cached, compare, equal_to_reference,
    largest_difference, load, numbers, program, recorded, say, token_ids, tokenizer,
};
use tokenizers::Tokenizer;

/// Tokens and embeddings that `transfer_minilm.py` recorded.
const RECORDED: &str = include_str!("../../../tests/references/transfer_minilm.json");
const FILE: &str = "transfer_minilm.json";
/// Texts that go through the network at once.
const BATCH: usize = 32;

/// Loads MiniLM, compares it with the reference, and uses its embeddings to tell topics with few labels.
#[derive(Debug, Parser)]
#[command(name = "minilm", version)]
struct Cli {
    /// Seed of the drawn rows
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Labelled texts of each topic
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=15))]
    labels: u16,
}

fn main() -> ExitCode {
    program(run)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let path = cached("minilm", "minilm-l6-v2.safetensors")?;
    let words = cached("minilm", "minilm-l6-v2-tokenizer.json")?;
    let topics = topics::read()?;
    let tokenizer = tokenizer(&words)?;
    let device = Device::flex();
    let mut model = Bert::new(&device);
    load(&mut model, &bert_names(), &path, say)?;
    let (texts, off) = difference(&model, &tokenizer, &device)?;
    say(&format!(
        "reference: {texts} texts, the same tokens, largest difference of an embedding {off:.1e} (allowed {ALLOWED:e})\n"
    ))?;
    equal_to_reference(off)?;

    let few = FewLabels { per_class: usize::from(cli.labels), draws: 9, seed: Seed(cli.seed) };
    let names: Vec<String> = topics
        .names
        .iter()
        .zip(topics.counts())
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    say(&format!(
        "few labels: {} labelled questions of each topic, the others to judge, {} draws",
        cli.labels, few.draws
    ))?;
    say(&format!("  questions: {}", names.join(", ")))?;
    let started = Instant::now();
    let tokens = topics.texts.iter().map(|text| token_ids(&tokenizer, text));
    let tokens: Vec<Vec<u32>> = tokens.collect::<Result<_, _>>()?;
    let mut parts = Vec::new();
    for batch in tokens.chunks(BATCH) {
        parts.extend_from_slice(features_of(model.embed(&Encoded::new(batch, &device)))?.values());
    }
    let embeddings = Features::new(parts, 384)?;
    let once = started.elapsed().as_secs_f64();
    let counts = topics::counts(&tokens)?;
    let rivals = [("MiniLM's embeddings", &embeddings), ("counts of tokens", &counts)];
    compare(&rivals, &topics.labels, few)?;
    say(&format!("  always the most frequent topic {:.1} %", 100.0 * topics.majority()))?;
    say(&format!("embeddings of {} questions once: {once:.1} s", topics.texts.len()))
}

/// Number of recorded texts, and the largest absolute difference to their recorded embeddings.
fn difference(
    model: &Bert,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<(usize, f64), Failure> {
    let unusable = |reason: String| Failure::File { path: FILE.into(), reason };
    let recorded = recorded(FILE, RECORDED)?;
    let (mut tokens, mut expected) = (Vec::new(), Vec::new());
    for case in recorded["cases"].as_array().into_iter().flatten() {
        let text = case["text"].as_str().ok_or_else(|| unusable("a case has no text".into()))?;
        let ids = token_ids(tokenizer, text)?;
        if !numbers(&case["ids"]).into_iter().eq(ids.iter().map(|id| f64::from(*id))) {
            return Err(unusable(format!("other tokens for \"{text}\"")));
        }
        expected.extend(numbers(&case["embedding"]));
        tokens.push(ids);
    }
    let output: Vec<f64> =
        model.embed(&Encoded::new(&tokens, device)).into_data().iter::<f64>().collect();
    Ok((tokens.len(), largest_difference(&output, &expected)))
}
