"""Every setting of a training once: a field of TrainConfig, a flag of train.py, a key of config.json."""

from dploss.config.applicable import applicable
from dploss.config.data_config import DATA, QUERIES
from dploss.config.option import Option, flag_name
from dploss.config.train_config import DEVICES, ENCODER, LOSS, OPTIONS, STORED, TRAINING, TrainConfig

__all__ = [
    "DATA",
    "DEVICES",
    "ENCODER",
    "LOSS",
    "OPTIONS",
    "QUERIES",
    "STORED",
    "TRAINING",
    "Option",
    "TrainConfig",
    "applicable",
    "flag_name",
]
