"""Writes transfer_minilm.json: tokens and sentence embeddings of all-MiniLM-L6-v2 as transformers computes them.

    cargo xtask fetch minilm
    python3 transfer_minilm.py ~/.cache/firebrick > transfer_minilm.json

Made with torch 2.15.0, transformers 5.24.0, tokenizers as transformers brings it. The configuration is that of the model's own
config.json; pooling is the mean over the tokens that are not padding, divided by its Euclidean norm.
"""

import json
import sys

import safetensors.torch
import tokenizers
import torch
import transformers

SENTENCES = [
    "A kiln is lined with firebrick.",
    "The oven's walls are made of heat-resistant bricks.",
    "Stock prices fell sharply on Monday.",
    "naïve café, 北京 & emoji 🙂!",
    "x",
    "Why does the loss become NaN after a few hundred steps, and what can be done about it before the next run is started?",
]

# For the tokenizer alone: what its normalization and its splitting have to get right.
STRINGS = [
    "", " ", "Hello, World!", "don't-stop...now?", "tab\tnew\nline\r\nend", "no\u00a0break \u3000 wide", "zero\u200bwidth soft\u00adhyphen",
    "nul\x00 \ufffd bell\x07", "Ångström Élève ñandú ÇA", "e\u0301 combining", "İstanbul straße ΟΔΟΣ", "北京大学 abc日本語かな한국어",
    "“quotes” — dash … ¿qué? «oui»", "$5.00 + 10% = #1 @home ^_^ `code` ~x|y", "snake_case CamelCase kebab-case", "1234567890 3.14e-10 0x1F",
    "a" * 100, "b" * 101, "नमस्ते दुनिया", "สวัสดี", "مرحبا", "🙂👍🏽 ok", "x²+y³ ½ № ™", "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "ﬁne ligature Ａｂｃ", "\u0378 unassigned \ue000 private",
]

folder = sys.argv[1]
tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/minilm-l6-v2-tokenizer.json")
tokenizer.no_truncation()
tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
config = transformers.BertConfig(
    vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
    max_position_embeddings=512, type_vocab_size=2, layer_norm_eps=1e-12, hidden_act="gelu", attn_implementation="eager")
model = transformers.BertModel(config).eval()
missing = model.load_state_dict(safetensors.torch.load_file(f"{folder}/minilm-l6-v2.safetensors"), strict=False)
assert not missing.missing_keys, missing
encoded = tokenizer.encode_batch(SENTENCES)
ids = torch.tensor([one.ids for one in encoded])
mask = torch.tensor([one.attention_mask for one in encoded])
with torch.no_grad():
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
weight = mask.unsqueeze(-1).float()
pooled = (hidden * weight).sum(1) / weight.sum(1)
pooled = torch.nn.functional.normalize(pooled)
cases = [
    {"text": text, "ids": one.ids[: sum(one.attention_mask)], "embedding": [float(f"{value:.8g}") for value in row]}
    for text, one, row in zip(SENTENCES, encoded, pooled.tolist())
]
tokens = [{"text": text, "ids": tokenizer.encode(text).ids} for text in STRINGS]
versions = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
json.dump({"made_with": versions, "cases": cases, "tokens": tokens}, sys.stdout, separators=(",", ":"))
print()
