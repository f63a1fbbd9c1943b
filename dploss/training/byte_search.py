"""The fewest bytes that keep enough neighbours: --target-recall with --bytes."""

from collections.abc import Callable
from dataclasses import replace

from dploss.codes.build import CODES
from dploss.config import TrainConfig
from dploss.data.experiment_data import open_data
from dploss.errors import SettingError
from dploss.evaluation.held_out import HeldOut
from dploss.experiments.recalls import Recall
from dploss.text import counted, text_table
from dploss.training.progress import Progress
from dploss.training.query_side import choose_query_side
from dploss.training.start import initialize_trainer, make_trainer
from dploss.training.storage import storage_of

# The first number of bytes that is tried is near 8.
_FIRST = 3


class ByteSearch:
    """Fits the closed form of one number of bytes after the other; a training of the one that is found can only add.

    Args:
        config: the settings but bytes.
        target: recall to reach, above 0 to below 1.
        rerank: k * rerank candidates are re-ranked by the originals; 1: a single pass.

    Attributes:
        curve: held-out recall by bytes, so far.

    Raises:
        InputError: settings or rows that do not allow a search.
    """

    def __init__(self, config: TrainConfig, target: float, rerank: int) -> None:
        if not 0 < target < 1:
            raise SettingError("{target_recall} must be above 0 and below 1, got {value}", value=target)
        if rerank < 1:
            raise SettingError("{rerank} must be at least 1, got {value}", value=rerank)
        if config.code == "auto":
            raise SettingError("{code} auto chooses for one number of {bytes}: name a code, or give the number")
        # Refuses what does not go with bytes.
        self.config, self.target, self.rerank = replace(config, bytes=2), target, rerank
        if not config.val_fraction:
            raise SettingError("{target_recall} is the recall of held-out rows: leave {val_fraction} 0 out")
        self.curve: dict[int, Recall] = {}
        self.progress = Progress(config.quiet)
        self.data = open_data(config)
        self.config = choose_query_side(self.config, self.data)
        self.input_dim, self.n_train = self.data.vectors.rows.shape[1], len(self.data.train_index)
        self.held_out = HeldOut.of(config, self.data)
        if len(self.held_out.index) <= config.k * rerank:
            template = "{val_fraction} holds out {n}, too few to look for {fetched}"
            raise SettingError(template, n=counted(len(self.held_out.index), "row"), fetched=config.k * rerank)

    def run(self, should_stop: Callable[[], bool]) -> TrainConfig | None:
        """Search.

        Args:
            should_stop: asked before every fit.

        Returns:
            The settings with the fewest bytes that reach the target; None if a stop was asked for.

        Raises:
            InputError: no number of bytes reaches it.
        """
        sizes = self._sizes()
        below, reaching, last = -1, None, len(sizes) - 1
        while reaching is None or reaching - below > 1:
            tried = min(2 * max(below, _FIRST), last) if reaching is None else (below + reaching) // 2
            if should_stop():
                return None
            if self._recall(sizes[tried]) >= self.target:
                reaching = tried
            elif tried == last:
                template = "{target_recall} {target:g}: not even {n} a vector: {recall}"
                most, recall = counted(sizes[last], "byte"), str(self.curve[sizes[last]])
                raise SettingError(template, target=self.target, n=most, recall=recall)
            else:
                below = tried
        return replace(self.config, bytes=sizes[reaching])

    def _sizes(self) -> range:
        """The numbers of bytes that the code can have, with as many latents as there may be."""
        fitted = replace(self.config, bytes=self.input_dim).fitted_to(self.n_train, self.input_dim)
        return CODES[self.config.code].byte_range(fitted.latent_dim)

    def _recall(self, n_bytes: int) -> float:
        config = replace(self.config, bytes=n_bytes).fitted_to(self.n_train, self.input_dim)
        trainer = make_trainer(config, self.data)
        initialize_trainer(trainer)
        code = storage_of(config, trainer)
        recall = self.curve[n_bytes] = self.held_out.recall(trainer.encoder, code, self.rerank)
        self.progress.log(f"{counted(n_bytes, 'byte')}: held-out {recall}")
        return recall.value

    def lines(self) -> list[str]:
        """The curve of bytes against recall, as far as it was walked."""
        if not self.curve:
            return []
        first = next(iter(self.curve.values()))
        how = f", re-ranked x {self.rerank}" if self.rerank > 1 else ""
        rows = [
            [str(n_bytes), f"{recall.value:.4f}", "reaches the target" if recall.value >= self.target else ""]
            for n_bytes, recall in sorted(self.curve.items())
        ]
        header = ["bytes a vector", f"recall@{first.k}", ""]
        return [
            f"held-out recall on {first.rows:,} rows{how}, target {self.target:g}",
            *text_table(header, rows, left=0),
        ]
