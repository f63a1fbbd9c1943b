"""Several processes that train one encoder, started by torchrun: what each of them does of a step.

Every process encodes its share of a batch. The latents are gathered, so that the loss compares all rows of the batch,
and each process goes back through its own share; DistributedDataParallel adds the gradients up. One process or
several, --batch-size is the whole batch, and the result the same up to rounding.
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dploss.errors import InputError
from dploss.models.encoder import SharedDropout


@dataclass(frozen=True)
class Team:
    """The processes of a training; one alone by default.

    Attributes:
        rank: of this process, 0..size - 1.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes, measures and speaks."""
        return self.rank == 0

    def wrap(self, encoder: nn.Module) -> nn.Module:
        """The encoder as a step calls it: its gradients become the mean over the processes."""
        if self.size == 1:
            return encoder
        for module in encoder.modules():
            if isinstance(module, SharedDropout):
                module.rank, module.size = self.rank, self.size
        return DistributedDataParallel(encoder, broadcast_buffers=False)

    def agree(self, encoder: nn.Module, device: torch.device) -> None:
        """Give every process the first one's weights and random state: of another machine the last bits may differ."""
        if self.size == 1:
            return
        for tensor in encoder.state_dict().values():
            dist.broadcast(tensor, 0)
        random = torch.cuda if device.type == "cuda" else torch
        state = random.get_rng_state().to(device)
        dist.broadcast(state, 0)
        random.set_rng_state(state.cpu())

    def share(self, batch: np.ndarray) -> np.ndarray:
        """This process's rows of a batch, whose size is a multiple of the processes."""
        mine = len(batch) // self.size
        return batch[self.rank * mine : (self.rank + 1) * mine]

    def gather(self, own: Tensor) -> Tensor:
        """(b, n) rows of each process -> (size * b, n) of all, in order; only through its own do gradients go back."""
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.detach().contiguous())
        parts[self.rank] = own
        return torch.cat(parts)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set in any process, so that all stop at the same step."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag), device=device)
        dist.all_reduce(flags)
        return bool(flags.item())


def team_size() -> int:
    """How many processes torchrun started; 1 where it did not, though a cluster may set WORLD_SIZE for others."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def leads() -> bool:
    """Whether this process is the first of those that torchrun started, or alone."""
    return team_size() == 1 or int(os.environ["RANK"]) == 0


def join_team(device: torch.device) -> Team:
    """Join the processes that torchrun started; alone if it did not.

    Raises:
        InputError: a device that processes cannot share.
    """
    if team_size() == 1:
        return Team()
    if device.type == "mps":
        raise InputError("--device mps: several processes train on cpu or cuda")
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Team(dist.get_rank(), dist.get_world_size())


def leave_team() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
