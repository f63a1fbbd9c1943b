"""HunyuanDiT from small configurations: the real classes with random weights, so that nothing is downloaded."""

import string

import torch
from diffusers import AutoencoderKL, DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
from transformers import BertConfig, BertModel, BertTokenizer, T5Config, T5EncoderModel, T5Tokenizer

# The lengths to which HunyuanDiTPipeline truncates and pads the tokens of its two encoders.
CLIP_TOKENS, T5_TOKENS = 77, 256
_WIDTH, _HEADS = 64, 4
_SIGNS = string.ascii_lowercase + string.digits + string.punctuation


def tiny_pipeline(image_size: int, seed: int) -> HunyuanDiTPipeline:
    """Build HunyuanDiT with some 850,000 parameters and two tokenizers of single characters.

    The same seed gives the same weights. torch's random state is restored.

    Args:
        image_size: pixels along a side, a multiple of 16.
        seed: of the weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HunyuanDiTPipeline(
            vae=_autoencoder(),
            text_encoder=_clip_side(),
            tokenizer=_bert_tokenizer(),
            transformer=_transformer(image_size),
            scheduler=_schedule(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
            text_encoder_2=_t5_side(),
            tokenizer_2=_t5_tokenizer(),
        )


def _transformer(image_size: int) -> HunyuanDiT2DModel:
    # With four blocks the last has the long skip connection; with fewer there is none.
    return HunyuanDiT2DModel(
        num_attention_heads=_HEADS,
        attention_head_dim=_WIDTH // _HEADS,
        in_channels=4,
        patch_size=2,
        sample_size=image_size // 8,
        hidden_size=_WIDTH,
        num_layers=4,
        cross_attention_dim=_WIDTH,
        cross_attention_dim_t5=_WIDTH,
        pooled_projection_dim=_WIDTH,
        text_len=CLIP_TOKENS,
        text_len_t5=T5_TOKENS,
    )


def _autoencoder() -> AutoencoderKL:
    # Four levels reduce the image to an eighth of its size, which the pipeline assumes.
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        norm_num_groups=8,
        latent_channels=4,
        scaling_factor=4.0,
    )
    with torch.no_grad():
        # A trained autoencoder's latents have little variance; with random weights noise of variance 1 would hide them.
        autoencoder.quant_conv.weight[4:] = 0
        autoencoder.quant_conv.bias[4:] = -10
    return autoencoder.eval()


def _clip_side() -> BertModel:
    configuration = BertConfig(
        vocab_size=len(_bert_vocabulary()),
        hidden_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=_HEADS,
        intermediate_size=2 * _WIDTH,
        max_position_embeddings=CLIP_TOKENS,
    )
    return BertModel(configuration).eval()


def _t5_side() -> T5EncoderModel:
    # mT5 is T5 with gated GELUs, and the pipeline requires this class.
    configuration = T5Config(
        vocab_size=len(_t5_vocabulary()),
        d_model=_WIDTH,
        d_kv=_WIDTH // _HEADS,
        d_ff=2 * _WIDTH,
        num_layers=2,
        num_heads=_HEADS,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(configuration).eval()


def _bert_vocabulary() -> dict[str, int]:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_SIGNS, *(f"##{sign}" for sign in _SIGNS)]
    return {token: number for number, token in enumerate(tokens)}


def _t5_vocabulary() -> list[tuple[str, float]]:
    """Tokens and their log-probabilities, for a unigram model."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return special + [(sign, -4.0) for sign in ("▁", *_SIGNS, *string.ascii_uppercase)]


def _bert_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab=_bert_vocabulary(), model_max_length=CLIP_TOKENS)


def _t5_tokenizer() -> T5Tokenizer:
    return T5Tokenizer(vocab=_t5_vocabulary(), extra_ids=0, model_max_length=T5_TOKENS)


def _schedule() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.018,
        prediction_type="v_prediction",
        steps_offset=1,
        clip_sample=False,
    )
