"""What a bundle says about itself: `manifest.json`, canonical JSON that carries its own checksum."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from model.bundle.calibration import Calibration
from model.bundle.errors import BundleError, ConfigError
from model.bundle.schema import PADDING, UNKNOWN, Schema, schema_from_table
from model.bundle.typed_table import from_table, setting

FORMAT_VERSION = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of a half. A dimension that may vary is its name, a fixed one its length."""

    name: str
    dtype: str
    shape: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Half:
    """One exported graph: its file and its tensors."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tables: dict[str, Any] = dataclasses.field(default_factory=dict)  # constant of the graph -> the .npy that holds it


@dataclass(frozen=True, kw_only=True)
class NativeHalf:
    """The candidate half's weights as plain arrays, for a runtime that knows this kind of net by itself."""

    file: str
    tables: dict[str, Any]  # sparse item feature -> the .npy that holds its embeddings
    kind: Literal["din", "dien"]
    softmax: bool  # over the attention
    activation: Literal["dice", "prelu"]  # of the head


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a reader must know before it trusts and runs the other files."""

    format_version: int
    name: str
    version: str
    net: dict[str, Any]  # {"kind": "din", ...its configuration}
    schema: dict[str, Any]
    user_half: Half
    candidate_half: Half
    candidate_tile: int = setting(
        low=0, high=65_536
    )  # candidates per run that keep activations in cache on CPU; 0: all at once
    padding: int = PADDING
    unknown: int = UNKNOWN
    export_format: Literal["onnx", "torchscript"] = "onnx"
    # These are left out of the file where they are None, as in bundles of before they existed.
    native: NativeHalf | None = None
    explain: Half | None = None  # tells the attention of a net that has one
    training: dict[str, Any] = dataclasses.field(default_factory=dict)  # window, rows, seed
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)  # by split
    calibration: dict[str, Any] = dataclasses.field(default_factory=lambda: {"kind": "none"})
    score_distribution: dict[str, Any] = dataclasses.field(default_factory=dict)
    code_version: str = ""
    created: int | None = None  # seconds since the epoch
    files: dict[str, Any] = dataclasses.field(default_factory=dict)  # path -> sha256 of every other file

    def graph_files(self) -> tuple[str, ...]:
        """Every file that a runtime reads."""
        native = (self.native.file, *self.native.tables.values()) if self.native else ()
        halves = (self.user_half, self.candidate_half, *([self.explain] if self.explain else []))
        return (*(name for half in halves for name in (half.file, *half.tables.values())), *native)

    def has_attention(self) -> bool:
        """Whether the net has attention: then its candidate half must know where behaviors are."""
        return any(spec.name == "state_mask" for spec in self.user_half.outputs)

    def parsed_schema(self) -> Schema:
        """The feature schema. Raises BundleError if it is not one."""
        try:
            return schema_from_table(self.schema, file=MANIFEST)
        except ConfigError as error:
            raise BundleError(MANIFEST, str(error)) from error

    def parsed_calibration(self) -> Calibration:
        """The curve from raw logits to calibrated ones. Raises BundleError if it is not one."""
        try:
            return from_table(Calibration, self.calibration, file=MANIFEST, key="calibration")
        except ValueError as error:  # of the table or of the curve
            raise BundleError(MANIFEST, str(error)) from error

    def to_bytes(self) -> bytes:
        """Canonical JSON, checksum included: equal manifests are equal bytes."""
        table = dataclasses.asdict(self)
        for name in ("native", "explain", "created"):
            if table[name] is None:
                del table[name]
        return _canonical({**table, "checksum": hashlib.sha256(_canonical(table)).hexdigest()})


def manifest_from_bytes(raw: bytes) -> Manifest:
    """Read a manifest. Raises BundleError for another format version, or if a single byte has changed."""
    try:
        table = json.loads(raw)
    except (ValueError, RecursionError) as error:  # the latter from a thousand brackets
        raise BundleError(MANIFEST, f"not JSON: {error}") from error
    if not isinstance(table, dict):
        raise BundleError(MANIFEST, "not a JSON object")
    if table.get("format_version") != FORMAT_VERSION:
        found = table.get("format_version")
        raise BundleError(MANIFEST, f"format version {found!r}, this release reads {FORMAT_VERSION}")
    checksum = table.pop("checksum", None)
    try:
        found = hashlib.sha256(_canonical(table)).hexdigest()
    except ValueError as error:  # NaN and numbers beyond a float, which Python's parser takes
        raise BundleError(MANIFEST, f"not JSON: {error}") from error
    if checksum != found:
        raise BundleError(MANIFEST, "its content does not match its checksum")
    try:
        manifest = from_table(Manifest, table, file=MANIFEST)
    except ConfigError as error:
        raise BundleError(MANIFEST, str(error)) from error
    if manifest.to_bytes() != raw:
        raise BundleError(MANIFEST, "not in canonical form")
    return manifest


def _canonical(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
