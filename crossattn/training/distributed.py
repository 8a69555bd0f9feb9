"""Distributed training: each process predicts for its shard of every batch.

``torchrun`` starts the processes, ``torch.distributed`` exchanges predictions (gloo or nccl) before
the loss is taken, so that every process sees the loss of the whole batch; gradients flow through
its own rows, and their sum is the gradient of one process.

Built in chapter: Scale.
"""

import atexit
import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from crossattn.errors import InvalidInputError


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one model together; by default this one alone.

    Examples
    --------
    >>> batch = torch.arange(5)
    >>> [DistributedContext(rank, size=2).shard(batch).tolist() for rank in range(2)]
    [[0, 1, 2], [3, 4]]
    """

    rank: int = 0  #: this process's number; 0 writes the run folder and shows progress
    size: int = 1  #: how many there are

    @classmethod
    def current(cls) -> Self:
        """Return the context of this process: alone, unless torchrun or the caller made a group.

        joblib workers inherit torchrun's variables but are not ranks: each of them is alone.
        """
        if not dist.is_available():
            return cls()
        launched = dist.is_torchelastic_launched() and multiprocessing.parent_process() is None
        if launched and not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
            dist.init_process_group()
            atexit.register(_leave)
        if not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and shows progress."""
        return self.rank == 0

    def check_device(self, device: torch.device) -> None:
        """Refuse devices that these processes cannot share."""
        if self.size == 1 or device.type == "cpu":
            return
        if device.type != "cuda":
            raise InvalidInputError(
                f"device must be 'cpu' or 'cuda' with {self.size} processes, got {device.type!r}"
            )
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        if here > torch.cuda.device_count():
            raise InvalidInputError(
                f"device 'cuda' needs {here} GPUs, got {torch.cuda.device_count()}"
            )

    def shard(self, rows: Tensor) -> Tensor:
        """Return this process's part of a batch: consecutive entries, as even as can be."""
        return rows.tensor_split(self.size)[self.rank]

    def all_gather(self, own: Tensor, n_rows: int) -> Tensor:
        """Return the predictions (B, ...) of the batch; ``own`` (B', ...) are the shard's."""
        if self.size == 1:
            return own
        mine = self.shard(torch.arange(n_rows))
        first = int(mine[0]) if len(mine) else n_rows
        gathered = own.new_zeros(n_rows, *own.shape[1:])
        gathered[first : first + len(own)] = own.detach()
        dist.all_reduce(gathered)
        return torch.cat([gathered[:first], own, gathered[first + len(own) :]])

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over the processes, in one exchange."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        total = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(total)
        parts = total.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def broadcast(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.size == 1:
            return
        for tensor in [*model.parameters(), *model.buffers()]:
            dist.broadcast(tensor, src=0)

    def barrier(self, device: torch.device) -> None:
        """Return when all processes have come here: what the first wrote can be read."""
        if self.size > 1:
            # not dist.barrier: it picks a device by itself, and may pick a GPU that two share
            here = torch.ones(1, device=device)
            dist.all_reduce(here)
            here.item()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
