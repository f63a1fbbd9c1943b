"""What decides a training's result: its data, encoder, loss and steps, each a field of TrainConfig."""

from dataclasses import dataclass

from dploss.config_field import setting

DEVICES = ("auto", "cpu", "cuda", "mps")
DATA, ENCODER, LOSS, TRAINING = "data", "encoder", "loss", "training"


@dataclass(frozen=True)
class TrainingSettings:
    """The fields alone; TrainConfig adds those of evaluation and output, and checks all of them."""

    data: str = setting(
        "builtin",
        DATA,
        "vectors: .npy, .npz, .parquet (file, quoted glob or folder of shards), .jsonl, .hdf5, .safetensors, .fvecs, "
        ".bvecs, .fbin, .f16bin, .u8bin or .i8bin; "
        "'builtin' is 10,000 WordNet entries, 768 numbers each",
        kind=str,
        on_resume=True,
    )
    column: str | None = setting(
        None,
        DATA,
        "column, key or array that holds the vectors; found by itself where there is one",
        kind=str,
    )
    limit: int | None = setting(None, DATA, "use only the first LIMIT rows", kind=int, at_least=3)
    metric: str = setting(
        "euclidean",
        DATA,
        "distance whose neighbours to keep; cosine brings every row to length 1",
        kind=str,
        choices=("euclidean", "cosine"),
    )
    images: str | None = setting(
        None,
        DATA,
        "train a convolutional autoencoder on a folder of images instead (captions in its captions.csv, in a .txt "
        "beside each image, or the subfolder's name); 'builtin' is crops of two photographs",
        kind=str,
        on_resume=True,
    )
    image_size: int = setting(
        64,
        DATA,
        "pixels along a side, a multiple of 8; images are cut to a square",
        kind=int,
        at_least=16,
        at_most=1024,
        multiple=8,
    )
    val_fraction: float = setting(
        0.1,
        DATA,
        "share of the rows held out for recall, never trained on; 0 holds out none",
        kind=float,
        at_least=0,
        below=1,
    )

    latent_dim: int = setting(512, ENCODER, "numbers in a short vector", kind=int, at_least=1, with_images=128)
    matryoshka: bool = setting(
        False,
        ENCODER,
        "make the first numbers of every latent good short vectors too, at latent-dim's half, quarter ... down to 32",
        kind=bool,
    )
    matryoshka_dims: tuple[int, ...] = setting(
        (), ENCODER, "the same at these sizes: 32,64,128,256; the largest is then latent-dim", kind=tuple, at_least=1
    )
    hidden_dims: tuple[int, ...] = setting(
        (768,),
        ENCODER,
        "widths of the MLP branch's hidden layers; with no number after it the encoder is linear",
        kind=tuple,
        at_least=1,
        at_most=2**16,
    )
    dropout: float = setting(
        0.2,
        ENCODER,
        "share of the branch's hidden numbers that are dropped in training",
        kind=float,
        at_least=0,
        below=1,
    )
    init: str = setting(
        "pca",
        ENCODER,
        "start: at PCA of the training rows, or at random weights",
        kind=str,
        choices=("pca", "random"),
    )

    loss_function: str = setting(
        "DPLossV3",
        LOSS,
        "V1: hard ranks; V2: soft ranks; Norm: ranks scaled to 0..1; V3: neighbour probabilities",
        kind=str,
        choices=("DPLossV1", "DPLossV1Norm", "DPLossV2", "DPLossV2Norm", "DPLossV3"),
        with_images="DPLossV2",
    )
    tau: float = setting(
        1.0,
        LOSS,
        "temperature of the soft ranks or neighbour probabilities in standard deviations of the batch's distances: "
        "0.1 to 0.5 is sharp, 2 to 5 smooth",
        kind=float,
        at_least=1e-6,
        at_most=1e6,
    )
    k: int = setting(5, LOSS, "neighbours of recall@k, and the divisor of V1's rank loss", kind=int, at_least=1)
    lambda_rank: float = setting(1.0, LOSS, "weight of the rank loss", kind=float, at_least=0, at_most=1e6)
    lambda_pairdist: float = setting(
        0.3,
        LOSS,
        "weight of the pair distance loss, in units of the rows' root mean square distance from their mean",
        kind=float,
        at_least=0,
        at_most=1e6,
    )

    lambda_recon: float = setting(
        1.0,
        LOSS,
        "with --images: weight of the squared error of the decoded image",
        kind=float,
        at_least=0,
        at_most=1e6,
    )

    epochs: int = setting(100, TRAINING, "passes over the training rows", kind=int, at_least=1, on_resume=True)
    batch_size: int = setting(
        512, TRAINING, "rows whose distances are compared at once", kind=int, at_least=3, with_images=64
    )
    lr: float = setting(
        0.001, TRAINING, "peak learning rate of Adam: warmed up, then a cosine down to 0", kind=float, above=0
    )
    seed: int = setting(
        0, TRAINING, "of the split, the start and the order of the rows", kind=int, at_least=0, below=2**32
    )
    device: str = setting(
        "auto",
        TRAINING,
        "where to train",
        kind=str,
        choices=DEVICES,
        env="DEVICE",
        on_resume=True,
    )
