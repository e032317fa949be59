"""One implementation's forward in a process of its own, with a heap of its own.

In one process implementations share a heap, and what one has freed decides how many page faults another has: the same
forward of torchscale took between 0.83 and 1.12 s in the company of others.
"""

from __future__ import annotations

import multiprocessing
import resource
from multiprocessing.connection import Connection

import torch

import backbones
from backbones.linear import packed
from harness import cpu_runtime
from harness.device import device
from tests.benchmarks import peers, timing
from tests.benchmarks.peers import Peer


class Forward:
    """Callable: a forward of random images, waited for. Close it."""

    def __init__(self, name: str, *, size: str, batch: int, keeps_memory: bool) -> None:
        """Start building.

        Args:
            name: an implementation of `peers`.
            keeps_memory: compute with the settings of the `harness` command's own process.
        """
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, name, size, batch, keeps_memory, torch.get_num_threads())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # so that a child that died is an EOFError here
        self.page_faults: list[int] = []

    def cast(self, dtype: torch.dtype) -> None:
        """Cast model and images, and forget the page faults."""
        self._ask(dtype)
        self.page_faults.clear()

    def __call__(self) -> None:
        self.page_faults.append(self._ask("forward"))

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()

    def _ask(self, what: torch.dtype | str) -> int:
        self._pipe.send(what)
        return self._pipe.recv()


@torch.inference_mode()
def _serve(pipe: Connection, name: str, size: str, batch: int, keeps_memory: bool, threads: int) -> None:
    if keeps_memory:
        cpu_runtime.prepare()
    torch.set_num_threads(threads)
    where = device()
    config = backbones.resolve(peers.SIZES[size], final_norm=False)
    peer = getattr(peers, name)(config)
    peers.vary(peer.model)
    peer.model.to(where).eval()
    image = peers.random_images(config, batch, device=where)
    asked = pipe.recv()
    while asked is not None:  # a precision
        peer.model.to(asked)
        image = image.to(asked)
        pipe.send(0)
        asked = _forwards(pipe, peer, image)


def _forwards(pipe: Connection, peer: Peer, image: torch.Tensor) -> torch.dtype | None:
    """Answer forwards with their page faults until something else is asked, which is returned."""
    with packed(peer.model):
        while (asked := pipe.recv()) == "forward":
            before = _page_faults()
            peer(image)
            timing.now()  # a GPU has finished
            pipe.send(_page_faults() - before)
    return asked


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
