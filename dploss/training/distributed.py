"""Several processes that train one encoder, started by torchrun: what each of them does of a step.

Every process encodes its shard of a batch. The latents are gathered, so that the loss compares all rows of the batch,
and each process backpropagates through its own shard; DistributedDataParallel averages the gradients. With one process
or several, batch_size is the whole batch, and the result the same up to rounding.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dploss.errors import SettingError
from dploss.models.layers import SharedDropout
from dploss.training.torchrun import local_rank, n_processes


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training; one alone by default.

    Attributes:
        rank: of this process, 0..size - 1.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def wrap(self, encoder: nn.Module) -> nn.Module:
        """The encoder as a step calls it: its gradients become the mean over the processes."""
        if self.size == 1:
            return encoder
        for module in encoder.modules():
            if isinstance(module, SharedDropout):
                module.rank, module.size = self.rank, self.size
        return DistributedDataParallel(encoder, broadcast_buffers=False)

    def broadcast(self, encoder: nn.Module, device: torch.device) -> None:
        """Give all processes the first one's weights and random state: on another machine the last bits may differ."""
        if self.size == 1:
            return
        for tensor in encoder.state_dict().values():
            dist.broadcast(tensor, 0)
        random = torch.cuda if device.type == "cuda" else torch
        state = random.get_rng_state().to(device)
        dist.broadcast(state, 0)
        random.set_rng_state(state.cpu())

    def first(self, text: str) -> str:
        """The first process's text, for all processes."""
        if self.size == 1:
            return text
        shared = [text]
        dist.broadcast_object_list(shared)
        return shared[0]

    def shard(self, batch: np.ndarray) -> np.ndarray:
        """This process's part of a batch, whose size is a multiple of the number of processes."""
        size = len(batch) // self.size
        return batch[self.rank * size : (self.rank + 1) * size]

    def gather(self, own: Tensor) -> Tensor:
        """(b, n) rows of each process -> (size * b, n) of all, in order; gradients flow only into its own."""
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


def join_process_group(device: torch.device) -> ProcessGroup:
    """Join the processes that torchrun started; a group of one if it did not.

    Raises:
        SettingError: a device that processes cannot share.
    """
    if n_processes() == 1:
        return ProcessGroup()
    if device.type == "mps":
        raise SettingError("{device} mps: several processes train on cpu or cuda")
    if device.type == "cuda":
        torch.cuda.set_device(local_rank())
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size())


def leave_process_group() -> None:
    """Leave the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
