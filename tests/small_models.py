"""Models small enough to be made in a test."""

import numpy as np
import torch

from dploss.data import BUILTIN, read_texts
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.encoder import DPEncoder
from dploss.models.pca import PCA
from dploss.models.sphering import Sphering

TEXTS = read_texts(BUILTIN, np.arange(200))


def tiny_model(folder, width):
    """A real SentenceTransformer of two layers, with the words of TEXTS, that gives `width` numbers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    splitter = pre_tokenizers.BertPreTokenizer()
    words = {word for text in TEXTS for word, _ in splitter.pre_tokenize_str(text.lower())}
    vocabulary = {word: number for number, word in enumerate([*special.values(), *sorted(words)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), splitter
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **special).save_pretrained(folder)
    sizes = {"hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder)), Pooling(width, "mean")], device="cpu")


def trained_like(rows, hidden_dims=(32,), metric="euclidean", power=0.75):
    """An encoder with nothing at its starting value."""
    encoder = DPEncoder(rows.shape[1], hidden_dims, 16, metric, dropout=0.5)
    encoder.standardize(PCA.fit(rows, 16))
    if hidden_dims:
        encoder.length_power.fill_(power)
        encoder.log_gain.set_matrix(0.1 * torch.randn(1, rows.shape[1]) / rows.shape[1] ** 0.5)
    return encoder


def two_sides(rows, queries, metric="ip", hidden_dims=(16,), latent_dim=16):
    """An AsymmetricEncoder in its closed form, of which the rows' norms are restored."""
    encoder = AsymmetricEncoder(rows.shape[1], hidden_dims, latent_dim, metric)
    encoder.initialize_from_sphering(Sphering.fit(rows, queries, metric, latent_dim))
    encoder.length_power.fill_(1.0)
    return encoder


def rows_and_queries(n=600, n_queries=200, dim=32, seed=0):
    """Rows of many norms about a mean, and queries about another one that vary along other axes, float32."""
    random = np.random.default_rng(seed)
    turns = [np.linalg.qr(np.random.default_rng(1 + i).standard_normal((dim, dim)))[0] for i in range(2)]
    spread = 1 / np.sqrt(1 + np.arange(dim))
    rows, queries = (
        (random.standard_normal((size, dim)) * spread) @ turn + 0.3 * turn[3]
        for size, turn in zip((n, n_queries), turns, strict=True)
    )
    return (rows * np.exp(0.2 * random.standard_normal((n, 1)))).astype(np.float32), queries.astype(np.float32)
