"""The path that models saved before the move name; see dploss.integrations.sentence_transformer."""

from dploss.integrations.sentence_transformer import ShortEmbedding as ShortEmbedding
