"""What several commands say of a device, of data and of a network, in words of one line."""

from __future__ import annotations

from typing import Any

from backends import Backend

from ..network import MLP
from ..running.usage import UsageError


def device_words(backend: Backend) -> str:
    """Return a device, and why it was chosen."""
    reason = f" ({backend.reason})" if backend.reason else ""
    return f"{backend.name}: {backend.device_name}{reason}"


def samples_words(data: dict[str, Any]) -> str:
    """Return how many samples a config's data has, and for what."""
    if data["train_samples"] is None:
        return f"{data['name']}, not looked at"
    held_out = data["validation_samples"]
    apart = f" {held_out:,} held-out," if held_out else ""
    test = f"{data['test_samples']:,} test samples"
    if data.get("tests_on_training"):
        test = "the same samples test"
    return f"{data['name']}: {data['train_samples']:,} training,{apart} {test}"


def sample_words(index: int, samples: int, source: str) -> str:
    """Return which sample --index is, of so many; UsageError if there is none."""
    if not 0 <= index < samples:
        raise UsageError(f"--index {index}: expected 0 to {samples - 1}, the {samples:,} {source}")
    return f"sample {index} of the {samples:,} {source}"


def network_words(model: MLP) -> str:
    """Return the layers of a network."""
    spec = model.spec
    bias = "with" if spec.bias else "no"
    return f"{' → '.join(map(str, spec.sizes))}, {spec.activation}, {bias} bias"


def setting_words(name: str, value: Any) -> str:
    """Return a setting and its value: "batch size 8", "no bias"."""
    name = name.replace("_", " ")
    if value is True:
        return name
    if value in (None, False, []):
        return f"no {name}"
    if isinstance(value, list):
        return f"{name} {','.join(map(str, value))}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def numpy_words(cpu: dict[str, Any]) -> str:
    """Return NumPy's version and the libraries that make its matrix products."""
    return f"NumPy {cpu['numpy']} with {', '.join(cpu['blas']) or 'a BLAS unknown to it'}"


def count(number: int, noun: str) -> str:
    """Return a number of things: "1 run", "1,000 runs"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
