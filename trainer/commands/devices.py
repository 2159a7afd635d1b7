"""`devices`: what there is to train on, and what is missing for a GPU."""

from __future__ import annotations

from backends import BackendUnavailable, describe_cpu, describe_gpus

from .. import display


def run() -> int:
    """List the CPU, every GPU, and what is missing for one."""
    cpu = describe_cpu()
    rows = [
        (
            "cpu",
            [
                f"{cpu['name']}, {cpu['cores']} cores for this process",
                f"NumPy {cpu['numpy']} with {', '.join(cpu['blas']) or 'a BLAS unknown to it'}",
            ],
        )
    ]
    try:
        for gpu in describe_gpus():
            rows.append(
                (
                    f"gpu:{gpu['index']}",
                    [
                        f"{gpu['name']}, compute capability {gpu['compute_capability']}",
                        f"{gpu['memory_free'] / 2**30:.1f} of {gpu['memory_total'] / 2**30:.1f}"
                        " GiB free",
                        f"CuPy {gpu['cupy']}, CUDA {gpu['cuda']}, driver for {gpu['driver']}",
                    ],
                )
            )
    except BackendUnavailable as error:
        rows.append(("gpu", [f"none: {error}"]))
    display.devices(rows)
    return 0
