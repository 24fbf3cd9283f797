"""Works out on paper how training scales, and how large a feature store can be: docs/scaling.md.

python benchmarks/scaling.py           # prints the tables of the page; nothing is measured
python benchmarks/scaling.py --count   # counts the networks, and the store's memory, by jtl itself

All inputs stand at the head of this file: published, counted, measured elsewhere, or assumed. The
model: a step computes for a time, then sums gradients over the devices, some of it meanwhile.
"""

import argparse
import math
import tracemalloc
from typing import NamedTuple


class Network(NamedTuple):
    """Counted by ``--count``: parameters, GFLOP forward of an image of 224 x 224, features."""

    parameters: int
    forward: float
    width: int
    norms: int = 0
    """Batch norms, each of which averages over all devices, forward and backward."""


NETWORKS = {
    "resnet50": Network(23_508_032, 7.944, 2048, norms=53),
    "vit_small_patch16_224": Network(21_665_664, 9.471, 384),
    "vit_large_patch16_224": Network(303_301_632, 124.561, 1024),
}


class Job(NamedTuple):
    """What is trained: its parameters, GFLOP for a step with one image, sums within the step."""

    name: str
    parameters: int
    work: float
    sums: int = 0


def jobs() -> list[Job]:
    """A step forward and backward is three times the work of a forward pass; where kernels do not
    train, twice; where the backbone's outputs are stored, that of the head alone.
    """
    resnet, small, large = NETWORKS.values()
    rank, bottleneck, classes, depth = 8, 256, 10, 24
    # Kernels of a block: to 3 w, w, 4 w and back to w, with rank x (in + out) leaves beside each.
    low_rank = depth * rank * 16 * large.width
    head = large.width * bottleneck + bottleneck * classes
    return [
        Job("ResNet-50", resnet.parameters, 3 * resnet.forward, 2 * resnet.norms),
        Job("ResNet-50, `batch_norm=frozen`", resnet.parameters, 3 * resnet.forward),
        Job("ViT-S/16", small.parameters, 3 * small.forward),
        Job("ViT-L/16", large.parameters, 3 * large.forward),
        Job("ViT-L/16, LoRA of rank 8", low_rank + head, 2 * large.forward),
        Job("ViT-L/16 stored, head alone", head, 6e-9 * head),
    ]


class Cluster(NamedTuple):
    """Machines of ``size`` devices.

    Attributes:
      rate: TFLOP/s that a device reaches.
      inside, between: GB/s that a device sends within its machine, and to others.
      delay: seconds that a message takes, assumed.
    """

    name: str
    size: int
    rate: float
    inside: float
    between: float
    delay: float


REACHED = 0.35
"""Of the published peak, assumed."""
CLUSTERS = {
    "infiniband": Cluster("H100, NVLink and InfiniBand", 8, 989 * REACHED, 450, 50, 5e-6),
    "ethernet": Cluster("H100, one 100 Gb/s Ethernet port", 8, 989 * REACHED, 450, 12.5 / 8, 2e-5),
    "tpu": Cluster("TPU v5p, one slice", 1, 459 * REACHED, 600, 600, 1e-6),
    "cpu": Cluster("two CPU cores, 10 Gb/s Ethernet", 1, 0.0, 1.25, 1.25, 5e-5),
}
MEASURED = {"ResNet-50": 10.2, "ViT-S/16": 11.6}
"""Images a second in training on two cores of a CPU, batch 16 (benchmarks/README.md)."""
BYTES = 4
"""Of a gradient: float32."""
DEVICES = (8, 64, 256, 1024)
WEAK, STRONG = 64, 4096
"""Images: of a device where the batch grows with the devices; of all where it does not."""

IMAGES = 10**9
ENCODED, DECODED = 110_000, 150
"""Bytes of an image file, and images that a core decodes in a second, both assumed."""
CORES, SHARD, NAME, INDEXED = 16, 64 * 2**20, 32, 242
"""Cores beside each GPU, assumed; bytes of a shard, of a row's name there and, counted by
``--count``, in memory."""
DISK, READS = 5.0, 1e6
"""GB/s in a row and random reads a second of a drive, assumed."""


def all_reduce(size: float, devices: int, cluster: Cluster) -> float:
    """Seconds to sum ``size`` bytes over devices: within machines, each device then carrying its
    part to the others.
    """
    inside = min(devices, cluster.size)
    machines = devices // inside
    return _ring(size, inside, cluster.inside, cluster.delay) + _ring(
        size / inside, machines, cluster.between, cluster.delay
    )


def _ring(size: float, members: int, bandwidth: float, delay: float) -> float:
    """2 (n-1)/n of the bytes pass each link; a tree needs 2 log2 n messages, a ring 2 (n-1)."""
    messages = 2 * min(members - 1, math.log2(members))
    return 2 * (members - 1) / members * size / (1e9 * bandwidth) + messages * delay


def compute(job: Job, images: float, cluster: Cluster) -> float:
    """Seconds of a step with so many images on one device, without the others."""
    if not cluster.rate:
        return images / MEASURED[job.name]
    return images * job.work / (1e3 * cluster.rate)


def efficiency(
    job: Job, devices: int, images: float, cluster: Cluster, *, overlap: bool, shared: bool = False
) -> float:
    """Time of computing over that of the step.

    Args:
      job: what is trained.
      devices: how many.
      images: on each.
      cluster: of the devices.
      overlap: whether gradients are summed while others are computed, two thirds of the step.
      shared: whether parameters lie in parts (FSDP): gathered twice and gradients sent once, each
        half of what a sum sends.
    """
    busy = compute(job, images, cluster)
    sums = all_reduce(BYTES * job.parameters, devices, cluster) * (1.5 if shared else 1)
    # Nothing can be computed while a batch norm waits for its mean.
    waiting = job.sums * all_reduce(BYTES * 1024, devices, cluster)
    hidden = min(sums, 2 / 3 * busy) if overlap else 0.0
    return busy / (busy + waiting + sums - hidden)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows of cells as Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join((lines[0], "|---" * len(head) + "|", *lines[1:]))


def _cell(job: Job, devices: int, images: float, cluster: Cluster, *, shared: bool = False) -> str:
    alone, over = (
        efficiency(job, devices, images, cluster, overlap=overlap, shared=shared)
        for overlap in (False, True)
    )
    return f"{100 * alone:.0f} to {100 * over:.0f}"


def scaling(cluster: Cluster, *, weak: bool) -> str:
    """Efficiencies in percent: without overlap, to with all that there can be."""
    rows = []
    for job in jobs():
        if not cluster.rate and job.name not in MEASURED:
            continue
        images = [WEAK if weak else STRONG / devices for devices in DEVICES]
        cells = [_cell(job, n, each, cluster) for n, each in zip(DEVICES, images, strict=True)]
        rows.append([job.name, *cells])
    return table([cluster.name, *map(str, DEVICES)], rows)


def in_parts() -> str:
    """ViT-L/16 with its state in parts."""
    (job,) = (job for job in jobs() if job.name == "ViT-L/16")
    rows = []
    for key in ("infiniband", "ethernet", "tpu"):
        cluster = CLUSTERS[key]
        rows.append([cluster.name, *(_cell(job, n, WEAK, cluster, shared=True) for n in DEVICES)])
    return table(["ViT-L/16, `shard`", *map(str, DEVICES)], rows)


def messages() -> str:
    """What is sent, and how long a step computes."""
    cluster = CLUSTERS["infiniband"]
    rows = []
    for job in jobs():
        size, busy = BYTES * job.parameters, compute(job, WEAK, cluster)
        times = (all_reduce(size, 1024, CLUSTERS[key]) for key in ("infiniband", "ethernet", "tpu"))
        cells = [f"{1e3 * time:.2f}" for time in (busy, *times)]
        rows.append([job.name, f"{size / 1e6:,.1f}", *cells])
    head = ["", "MB", "computes, ms", "InfiniBand, ms", "Ethernet, ms", "TPU v5p, ms"]
    return table(head, rows)


def store() -> str:
    """A feature store of a billion images."""
    rows = []
    for name, network in NETWORKS.items():
        row = BYTES * network.width + NAME
        rate = 1e3 * CLUSTERS["infiniband"].rate / network.forward
        decoded = CORES * DECODED
        pages = math.ceil(BYTES * network.width / 4096 + 1 / 2)
        cells = [
            f"{row:,}",
            f"{IMAGES * row / 1e12:.1f}",
            f"{math.ceil(IMAGES * row / SHARD):,}",
            f"{IMAGES / rate / 3600:.1f}",
            f"{IMAGES / min(rate, decoded) / 3600:.0f}",
            f"{IMAGES * row / 1e9 / DISK / 3600:.2f}",
            f"{IMAGES * pages / READS / 3600:.2f}",
        ]
        rows.append([name, *cells])
    head = ["", "bytes a row", "TB", "shards", "GPU hours", "with decoding"]
    return table([*head, "drive hours in a row", "at random"], rows)


def limits() -> str:
    """What a billion images ask of each process, as jtl is."""
    widths = [network.width for network in NETWORKS.values()]
    least, most = (IMAGES * (BYTES * width + NAME) for width in (min(widths), max(widths)))
    rows = [
        ["files read for their hashes, at each start", f"{IMAGES * ENCODED / 1e12:,.0f} TB"],
        ["rows read for checksums, at each start", f"{least / 1e12:.1f} to {most / 1e12:.1f} TB"],
        ["shards open at once", f"{math.ceil(least / SHARD):,} to {math.ceil(most / SHARD):,}"],
        ["names of rows read, at each start", f"{IMAGES * NAME / 1e9:,.0f} GB"],
        ["names of rows in memory", f"{IMAGES * INDEXED / 1e9:,.0f} GB"],
        ["order of an epoch, while it is drawn", f"{IMAGES * (8 + 4) / 1e9:,.0f} GB"],
        ["images for which names take 64 GB", f"{64e9 / INDEXED / 1e6:,.0f} million"],
    ]
    return table(["", "each process"], rows)


def tables() -> dict[str, str]:
    """Every table of the page, by its title there."""
    grown = {f"{key}, batch grows": scaling(each, weak=True) for key, each in CLUSTERS.items()}
    fixed = {
        f"{key}, batch stays": scaling(CLUSTERS[key], weak=False) for key in ("infiniband", "tpu")
    }
    sent = {"messages": messages()}
    return sent | grown | fixed | {"in parts": in_parts(), "store": store(), "limits": limits()}


def counted(name: str) -> Network:
    """A network by jtl's own blocks, which are not run."""
    import jax
    import numpy as np

    from jtl.defaults import defaults
    from jtl.models.chain import chain
    from jtl.runs import build

    config = defaults()
    config.model.backbone = f"random:{name}"
    found = build.backbone(config)
    model = chain(found.blocks(axis_name=None))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), np.uint8)
    run = jax.jit(lambda *given: model.apply(*given, train=False, rng=None)[0])
    work = run.lower(params, stats, image).cost_analysis()["flops"]
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Network(size, round(work / 1e9, 3), found.width, len(jax.tree.leaves(stats)) // 2)


def indexed(rows: int = 100_000) -> float:
    """Bytes in memory for each row that a store finds."""
    import numpy as np

    from jtl.frozen.store import Store

    data = np.zeros((rows, 1), np.float32)
    tracemalloc.start()
    kept = Store(None, {})
    kept.add([f"{number:064x}" for number in range(rows)], data)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / rows


def main() -> None:
    """Prints the tables, or what the inputs that can be counted are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", action="store_true")
    if parser.parse_args().count:
        for name in NETWORKS:
            print(name, *counted(name))
        print(f"a row in memory: {indexed():.0f} bytes")
        return
    for title, content in tables().items():
        print(f"{title}\n\n{content}\n")


if __name__ == "__main__":
    main()
