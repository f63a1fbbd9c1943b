"""The model card of an encoder that is shared: what it is, how to load it, and what it preserves."""

from dataclasses import dataclass

from dploss.errors import one_line
from dploss.experiments.history import PCA_RENORMALISED, TrainHistory
from dploss.experiments.record import ExperimentRecord
from dploss.models.asymmetric import AsymmetricEncoder
from dploss.models.autoencoder import ConvAutoencoder
from dploss.models.encoder import DPEncoder
from dploss.text import MISSING, number, shown

_FLOAT_BYTES = 4
_DISTANCES = {
    "euclidean": "Euclidean distance",
    "cosine": "cosine distance before and Euclidean distance after",
}
_BY_PRODUCT = {"euclidean": "Euclidean distance", "cosine": "cosine similarity", "ip": "inner product"}
_TRAINED_WITH = ("loss_function", "tau", "metric", "hidden_dims", "batch_size", "lr", "seed", "init")


@dataclass(frozen=True)
class ModelCard:
    """The content of README.md.

    Attributes:
        encoder: on any device.
        record: of its experiment, without what is private.
        history: of its training, up to this encoder.
        epoch: epochs it was trained for.
        chosen: whether it was chosen among checkpoints by their recall.
    """

    encoder: DPEncoder | ConvAutoencoder
    record: ExperimentRecord
    history: TrainHistory
    epoch: int
    chosen: bool

    def text(self) -> str:
        """The card as Markdown, with the YAML header that the Hugging Face Hub reads."""
        return "\n".join(
            [
                *self._header(),
                "",
                f"# {self._title()}",
                "",
                *self._about(),
                "",
                "## Load it",
                "",
                *self._usage(),
                "",
                "## What it preserves",
                "",
                *self._recalls(),
                "",
                "## Training",
                "",
                *self._training(),
                "",
            ]
        )

    def _header(self) -> list[str]:
        tags = ["dploss", "embeddings", "dimensionality-reduction", "nearest-neighbors"]
        tags += ["matryoshka"] if len(self.encoder.dims) > 1 else []
        tags += ["quantization"] if self.encoder.code is not None else []
        header = ["library_name: dploss", "tags:", *(f"- {tag}" for tag in tags)]
        return ["---", *header, "# license: to be filled in, as mit", "---"]

    def _title(self) -> str:
        code = self.encoder.code
        size = f"{self.encoder.latent_dim} dimensions" if code is None else f"{code.bytes_per_vector} bytes"
        return f"Encoder of {self._input()}: {self.encoder.input_dim} dimensions → {size}"

    def _input(self) -> str:
        return "embedding vectors" if isinstance(self.encoder, DPEncoder) else "images"

    def _about(self) -> list[str]:
        encoder, code = self.encoder, self.encoder.code
        before, after = (_FLOAT_BYTES * dim for dim in (encoder.input_dim, encoder.latent_dim))
        lines = [
            f"It shortens {self._input()} of {encoder.input_dim} dimensions ({before:,} bytes as float32) to latents "
            f"of {encoder.latent_dim} ({after:,} bytes) whose nearest neighbours are the same as far as possible, by "
            f"{self._compared()}. It was trained with dploss."
        ]
        if len(encoder.dims) > 1:
            sizes = ", ".join(map(str, encoder.dims))
            lines += ["", f"It is a Matryoshka encoder: `encode(vectors, dim=...)` gives any of {sizes} dimensions."]
        if code is not None:
            lines += ["", f"Its code, `{code.name}`, stores a vector in {code.bytes_per_vector} bytes, all counted."]
        made = "The model that the vectors were made with" if isinstance(encoder, DPEncoder) else "What images"
        return [*lines, "", f"{made}: *to be filled in*. Licence: *to be filled in*."]

    def _compared(self) -> str:
        """What nearest neighbours are nearest by."""
        metric = self.record.config.metric
        if isinstance(self.encoder, AsymmetricEncoder):
            return f"{_BY_PRODUCT[metric]} before and the inner product of queries and rows after"
        return _DISTANCES[metric]

    def _usage(self) -> list[str]:
        encoder, code = self.encoder, self.encoder.code
        lines = [
            "```python",
            "from dploss import load_encoder",
            "",
            'encoder = load_encoder("path/to/this/folder")',
            f"latents = encoder.encode(vectors)  # (N, {encoder.input_dim}) -> (N, {encoder.latent_dim})",
        ]
        if code is not None:
            lines.append(f"codes = encoder.encode_to_codes(vectors)  # (N, {code.bytes_per_vector}) uint8")
        if isinstance(encoder, AsymmetricEncoder):
            lines.append("asked = encoder.encode_queries(queries)  # their largest inner product is the nearest row")
        return [
            *lines,
            "```",
            "",
            "From the Hub the folder comes by `hf download OWNER/NAME --local-dir FOLDER`. The weights are in "
            "safetensors: nothing in the folder is executed.",
        ]

    def _recalls(self) -> list[str]:
        history = self.history
        if self.epoch not in history.recall_epochs:
            return ["Recall was not measured of these weights."]
        place = history.recall_epochs.index(self.epoch)
        named = {self._form(): history.recall_history[place]} | self._baselines()
        own = history.recall(history.recall_history[place])
        lines = [
            f"recall@{own.k}: the share of the {own.k} nearest rows that are still the nearest, on {own.rows:,} "
            "held-out rows, which the encoder was not trained on. It falls as rows are added.",
            "",
            f"| | recall@{own.k} |",
            "|---|---|",
            *(f"| {name} | {number(value, '.4f')} |" for name, value in named.items()),
        ]
        for dim, values in history.recall_by_dim.items():
            pca = number(history.baselines(dim).get(PCA_RENORMALISED), ".4f")
            lines.append(f"| first {dim} dimensions | {number(values[place], '.4f')} ({PCA_RENORMALISED}: {pca}) |")
        if self.chosen:
            lines += ["", "Of the checkpoints of its training it is the best by these rows: a slight optimistic bias."]
        return lines

    def _form(self) -> str:
        """What the recall is of."""
        code = self.encoder.code
        return "this encoder" if code is None else f"this encoder, stored in {code.bytes_per_vector} bytes"

    def _baselines(self) -> dict[str, float]:
        """Baselines by a name that says what they are; of a stored form also that of its dimensions as they are."""
        baselines = self.history.baselines()
        if self.encoder.code is None:
            return baselines
        stored = {f"{name}, stored in as many bytes": value for name, value in baselines.items()}
        whole = self.history.pca_renormalised_recall
        return stored if whole is None else {**stored, f"{PCA_RENORMALISED}, not stored but as float32": whole}

    def _training(self) -> list[str]:
        record = self.record
        rows = f"{record.split.train_rows:,}" if record.split else MISSING
        facts = {
            "trained on": f"{rows} rows of `{_cell(record.data.path)}`",
            "epochs": str(self.epoch),
            **{name: shown(record.config.as_dict()[name]) for name in _TRAINED_WITH},
            "versions": ", ".join(f"{name} {version}" for name, version in (record.origin.versions or {}).items()),
        }
        return ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in facts.items() if value)]


def _cell(text: str) -> str:
    """Text for a table of Markdown."""
    return one_line(text).replace("|", "\\|")
