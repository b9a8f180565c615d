//! A real pre-trained text network: all-MiniLM-L6-v2 loaded through a plan, checked against the reference
//! implementation, then the source of a task with few labels.
//!
//! `cargo xtask fetch`, then `cargo run --bin minilm`.

mod topics;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Device;
use clap::Parser;
use firebrick::core::Seed;
use firebrick::transfer::load::Checkpoint;
use firebrick::transfer::probe::features_of;
use firebrick::transfer::score::Features;
use firebrick_examples::pretrained::{
    ALLOWED, Bert, Encoded, Failure, FewLabels, bert_names, cached, equal_to_reference, few_labels,
    largest_difference, say, token_ids, tokenizer,
};
use tokenizers::Tokenizer;

/// Tokens and embeddings that `transfer_minilm.py` recorded.
const RECORDED: &str = include_str!("../../../tests/references/transfer_minilm.json");
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
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed stream must not turn the error into a panic.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let path = cached("minilm", "minilm-l6-v2.safetensors")?;
    let words = cached("minilm", "minilm-l6-v2-tokenizer.json")?;
    let topics = topics::read()?;
    let tokenizer = tokenizer(&words)?;
    let device = Device::flex();
    let mut model = Bert::new(&device);
    let file = Checkpoint::open(&path)?;
    let plan = bert_names().plan(&file, &model)?;
    say(&plan.to_string())?;
    let report = plan.apply(&mut model)?;
    say(&format!(
        "loaded {} tensors, {} elements, each equal to the plan's digest",
        report.loaded, report.elements
    ))?;
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
        "few labels: {} labelled questions of each topic, the others to judge, 9 draws",
        cli.labels
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
    for (name, features) in
        [("MiniLM's embeddings", &embeddings), ("counts of tokens", &topics::counts(&tokens)?)]
    {
        let result = few_labels(features, &topics.labels, few)?;
        let (mean, half) = (100.0 * result.mean(), 100.0 * result.half_width());
        say(&format!("  {name:<22} accuracy {mean:.1} % +- {half:.1}"))?;
    }
    say(&format!("  always the most frequent topic {:.1} %", 100.0 * topics.majority()))?;
    say(&format!("embeddings of {} questions once: {once:.1} s", topics.texts.len()))
}

/// Number of recorded texts, and the largest absolute difference to their recorded embeddings.
fn difference(
    model: &Bert,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<(usize, f64), Failure> {
    let unusable = |reason: &str| Failure::File {
        path: "transfer_minilm.json".into(),
        reason: reason.to_owned(),
    };
    let recorded: serde_json::Value =
        serde_json::from_str(RECORDED).map_err(|error| unusable(&error.to_string()))?;
    let (mut tokens, mut expected) = (Vec::new(), Vec::new());
    for case in recorded["cases"].as_array().into_iter().flatten() {
        let text = case["text"].as_str().ok_or_else(|| unusable("a case has no text"))?;
        let ids = token_ids(tokenizer, text)?;
        let want = case["ids"].as_array().into_iter().flatten().filter_map(|id| id.as_u64());
        if !want.eq(ids.iter().map(|id| u64::from(*id))) {
            return Err(unusable(&format!("other tokens for \"{text}\"")));
        }
        expected.extend(
            case["embedding"].as_array().into_iter().flatten().filter_map(|value| value.as_f64()),
        );
        tokens.push(ids);
    }
    let output: Vec<f64> =
        model.embed(&Encoded::new(&tokens, device)).into_data().iter::<f64>().collect();
    if output.len() != expected.len() {
        return Err(unusable("the embeddings have another size"));
    }
    let off = largest_difference(&output, &expected);
    Ok((tokens.len(), off))
}
