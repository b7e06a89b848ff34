"""A bundle on disk: written once, renamed into place, verified byte by byte on every read.

bundles/<name>/<version>/manifest.json user.onnx candidate.onnx golden.npz vocab/... tables/...
bundles/<name>/stable            a pointer: a file whose text is a version (pointers.py)
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.bundle.arrays import Content, parse_npy, parse_npz
from model.bundle.catalogue import Catalogue
from model.bundle.dense import Fitted, fitted_from_array
from model.bundle.encode import Encoder, Tensors
from model.bundle.errors import BundleError
from model.bundle.manifest import MANIFEST, Manifest, manifest_from_bytes
from model.bundle.pointers import STABLE, read_pointer
from model.bundle.raw import Lists
from model.bundle.schema import SIDES, Feature, Schema
from model.bundle.signature import SIGNATURE, ManifestCheck, Sign, read_signature
from model.bundle.vocabulary import Hashed, IdIndex, Vocabulary

GOLDEN = "golden.npz"
PRIOR = "vocab/prior_ctr.npy"
CATALOGUE = "vocab/catalogue.npz"
SCALINGS = "vocab/scalings.npz"
_STEP = 1 << 20  # bytes read and hashed at a time: a larger read keeps every other thread waiting
_MOST_MANIFEST = 16 << 20  # bytes
_SAFE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle. `files` are the bytes that were checked, so nothing is read from disk a second time."""

    path: Path
    manifest: Manifest
    schema: Schema
    encoder: Encoder
    prior_ctr: NDArray[np.float32]  # by item index; [UNKNOWN] is the overall click rate
    golden: Tensors  # inputs of both halves by name, and `pctr`, the eager net's answer
    files: Mapping[str, Content]


def write_bundle(root: Path, manifest: Manifest, files: Mapping[str, Content], *, sign: Sign | None = None) -> Path:
    """Write `root/<version>/`, signed if asked, in one step and return it.

    Raises BundleError if that version is already there.
    """
    target = root / manifest.version
    if target.exists():
        raise BundleError(str(target), "already there; a bundle is never changed")
    complete = replace(manifest, files={path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files)})
    stated = complete.to_bytes()
    signature = {SIGNATURE: sign(stated)} if sign else {}
    root.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=root, prefix=".writing-"))
    try:
        for path, raw in {**files, MANIFEST: stated, **signature}.items():
            (building / path).parent.mkdir(parents=True, exist_ok=True)
            (building / path).write_bytes(raw)
        building.chmod(0o755)  # mkdtemp makes it private; the service may run as another user
        building.rename(target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return target


def read_bundle(path: Path, *, check: ManifestCheck | None = None) -> Bundle:
    """Read and verify the bundle that `path` is or points to. Raises BundleError naming the file at fault.

    `check` sees the manifest and its signature before anything of the bundle is parsed.
    """
    folder = resolve(path)
    stated = bytes(_read(folder, MANIFEST, most=_MOST_MANIFEST)[0])
    if check is not None:
        check(stated, read_signature(folder))
    manifest = manifest_from_bytes(stated)
    files = {name: _verified(folder, name, str(sha256)) for name, sha256 in manifest.files.items()}
    for name in (*manifest.graph_files(), GOLDEN, PRIOR, CATALOGUE, SCALINGS):
        if name not in files:
            raise BundleError(name, "not listed in the manifest")
    schema = manifest.parsed_schema()
    prior = read_npy(files, PRIOR)
    _check_column(prior, PRIOR, kinds="f")
    return Bundle(
        path=folder,
        manifest=manifest,
        schema=schema,
        encoder=read_encoder(schema, files),
        prior_ctr=prior.astype(np.float32, copy=False),
        golden=read_npz(files, GOLDEN),
        files=files,
    )


def encoder_files(encoder: Encoder) -> dict[str, bytes]:
    """The files under vocab/ from which `read_bundle` builds the same encoder again."""
    scalings = {name: fitted.to_array() for name, fitted in encoder.scalings.items()}
    listed = {name: index for name, index in encoder.vocabularies.items() if isinstance(index, Vocabulary)}
    files = {_vocabulary_path(name): to_npy(vocabulary.keys) for name, vocabulary in listed.items()}
    return {**files, CATALOGUE: to_npz(_catalogue_arrays(encoder.catalogue)), SCALINGS: to_npz(scalings)}


def _catalogue_arrays(catalogue: Catalogue) -> dict[str, NDArray[np.generic]]:
    """`ids`, `column.<feature>` for every other feature, and for lists `lengths.<feature>` beside their values."""
    out: dict[str, NDArray[np.generic]] = {"ids": catalogue.ids}
    for name, column in catalogue.columns.items():
        out[f"column.{name}"] = np.asarray(column.values) if isinstance(column, Lists) else column
        out |= {f"lengths.{name}": column.lengths} if isinstance(column, Lists) else {}
    return out


def resolve(path: Path) -> Path:
    """The version folder that `path` is, or that its `stable` pointer names, or that `path` names as a pointer."""
    if (path / MANIFEST).is_file():
        return path
    pointer = path / STABLE if path.is_dir() else path
    if not pointer.is_file():
        raise BundleError(str(path / MANIFEST), "not found, and there is no `stable` pointer either")
    version = read_pointer(pointer.parent, pointer.name)
    assert version is not None  # it is a file
    return pointer.parent / version


def to_npy(array: NDArray[np.generic]) -> bytes:
    """One array as bytes, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def to_npz(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Named arrays as bytes, without pickle. Equal arrays give equal bytes: numpy stamps no time into the archive."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()


def read_encoder(schema: Schema, files: Mapping[str, Content]) -> Encoder:
    """The encoder that `encoder_files` wrote. Raises BundleError naming the file at fault."""
    features = [f for side in SIDES for f in schema.features(side)]
    vocabularies = {f.name: _read_index(files, f) for f in features if f.kind != "dense"}
    stored = read_npz(files, SCALINGS)
    scalings = {f.name: _read_fitted(stored, f) for f in features if f.kind == "dense"}
    return Encoder(schema, vocabularies, scalings=scalings, catalogue=_read_catalogue(files))


def _read_catalogue(files: Mapping[str, Content]) -> Catalogue:
    stored = read_npz(files, CATALOGUE)
    if "ids" not in stored:
        raise BundleError(CATALOGUE, "has no item ids")
    for name, column in stored.items():
        _check_column(column, f"{CATALOGUE}: {name}", kinds="iufU" if name.startswith("column.") else "iu")
    columns: dict[str, NDArray[np.generic] | Lists] = {}
    for key, column in stored.items():
        part, _, name = key.partition(".")
        if part == "column":
            lengths = stored.get(f"lengths.{name}")
            columns[name] = column if lengths is None else Lists(values=column, lengths=lengths.astype(np.int64))  # type: ignore[arg-type]  # ids or texts
    return Catalogue(ids=stored["ids"].astype(np.int64, copy=False), columns=columns)


def _read_index(files: Mapping[str, Content], feature: Feature) -> IdIndex:
    if feature.hash_buckets:
        return Hashed(feature.hash_buckets)
    keys = read_npy(files, _vocabulary_path(feature.name))
    _check_column(keys, _vocabulary_path(feature.name), kinds="iuU")
    return Vocabulary(keys.astype(np.str_) if keys.dtype.kind == "U" else keys.astype(np.int64))


def _check_column(array: NDArray[np.generic], name: str, *, kinds: str) -> None:
    """Raise BundleError unless it is one, of these kinds of values."""
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise BundleError(name, f"{array.shape} of {array.dtype} is no column of {kinds}")


def _read_fitted(stored: Tensors, feature: Feature) -> Fitted:
    if feature.name not in stored:
        raise BundleError(SCALINGS, f"has no {feature.name}")
    _check_column(stored[feature.name], f"{SCALINGS}: {feature.name}", kinds="fiu")
    try:
        return fitted_from_array(feature, stored[feature.name])
    except (ValueError, TypeError) as error:
        raise BundleError(SCALINGS, f"{feature.name} is not what {feature.transform} needs: {error}") from error


def _vocabulary_path(name: str) -> str:
    return f"vocab/{name}.npy"


def _read(folder: Path, name: str, *, most: int | None = None) -> tuple[Content, str]:
    """A file and its checksum, step by step: requests are being answered while a bundle is read."""
    digest = hashlib.sha256()
    try:
        with (folder / name).open("rb", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            if most is not None and length > most:
                raise BundleError(name, f"has {length} bytes, allowed: {most}")
            content = np.empty(length, dtype=np.uint8).data
            at = 0
            while count := file.readinto(content[at : at + _STEP]):
                digest.update(content[at : at + count])
                at += count
    except OSError as error:
        raise BundleError(name, f"cannot be read: {error.strerror}") from error
    if at < len(content):
        raise BundleError(name, "became shorter while it was read")
    return (bytes(content) if at <= _STEP else content.toreadonly()), digest.hexdigest()


def _verified(folder: Path, name: str, sha256: str) -> Content:
    if not _SAFE_PATH.fullmatch(name) or ".." in name:
        raise BundleError(MANIFEST, f"names a file outside the bundle: {name[:80]!r}")
    content, found = _read(folder, name)
    if found != sha256:
        raise BundleError(name, "its content does not match the checksum in the manifest")
    return content


def read_npy(files: Mapping[str, Content], name: str) -> NDArray[np.generic]:
    """The array that `to_npy` wrote, read-only and not copied. Raises BundleError naming the file."""
    if name not in files:
        raise BundleError(name, "not listed in the manifest")
    try:
        return parse_npy(files[name])
    except ValueError as error:
        raise BundleError(name, f"not a numpy file: {error}") from error


def read_npz(files: Mapping[str, Content], name: str) -> Tensors:
    """The arrays that `to_npz` wrote. Raises BundleError naming the file if it is missing or something else."""
    if name not in files:
        raise BundleError(name, "not listed in the manifest")
    try:
        return parse_npz(files[name])
    except ValueError as error:
        raise BundleError(name, f"not a numpy archive: {error}") from error
