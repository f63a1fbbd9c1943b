"""Whether higher or lower is better of a metric, as far as its name says."""

import re
from collections.abc import Mapping

from metrics.registry import direction

_LOWER = """
loss losses nll mse rmse mae mape smape error errors err perplexity ppl bpb bpc bpd bce ce wer cer ter per der eer ece
brier fid kid cmmd mmd mind fd fvd lpips dists distance dist wasserstein emd chamfer divergence kl jsd dissimilarity
cost regret
"""
_HIGHER = """
accuracy acc recall precision sensitivity specificity f1 fscore f1score score auc auroc auprc ap map ndcg mrr hit hits
iou miou dice mcc kappa r2 em psnr ssim snr sdr pesq stoi mos bleu rouge rougel meteor chrf cider spice bertscore
correlation corr pearson spearman similarity likelihood elbo reward rewards return returns coverage density
"""
_DIRECTIONS = {word: False for word in _LOWER.split()} | {word: True for word in _HIGHER.split()}
# neg_mean_squared_error is an error negated, neg_loss may be the loss of negative samples: the name alone cannot say.
_NEGATIONS = {"neg", "negative", "minus"}


def known_direction(metric_name: str) -> bool | None:
    """Whether higher is better, of a built-in or registered metric, or by the last part of a name.

    Parts end at one of `/ _ . -`, a blank, or before a capital that follows a small letter. An "@10" or a number at the
    end of the last one does not count: recall@10, rouge2.

    Returns:
        None where nothing is known.

    Example:
        >>> known_direction("val/loss"), known_direction("ndcg@10"), known_direction("val_loss_total")
        (False, True, None)
    """
    known = direction(metric_name)
    if known is not None:
        return known
    *before, last = [part for part in re.split(r"[/_.\-\s]+", metric_name) if part] or [""]
    if _NEGATIONS & {part.lower() for part in before}:
        return None
    last = last.split("@")[0]
    for word in (last, re.split(r"(?<=[a-z0-9])(?=[A-Z])", last)[-1]):
        for spelling in (word.lower(), word.lower().rstrip("0123456789")):
            if spelling in _DIRECTIONS:
                return _DIRECTIONS[spelling]
    return None


def direction_of(metric_name: str, given: bool | Mapping[str, bool] | None = None) -> bool:
    """Whether higher is better.

    Args:
        metric_name: the metric.
        given: what the caller says, of this metric or of several by name; where it says nothing, `known_direction`
            does.

    Raises:
        ValueError: nothing is known, and none is given.
    """
    said = given.get(metric_name) if isinstance(given, Mapping) else given
    if said is None:
        said = known_direction(metric_name)
    if said is None:
        raise ValueError(
            f"whether higher or lower is better is not known of {metric_name!r}: pass higher_is_better=True or False"
        )
    return bool(said)
