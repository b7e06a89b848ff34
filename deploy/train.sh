#!/bin/sh
# `train-bundle` in the trainer's image: trains on TRAINING_FILE in the folder RUN, exports to BUNDLES through the parity gate.
# The first bundle becomes `stable`, every later one `canary`: docs/operations.md says how it goes on.
# LOG, where it is set, is a folder for the log as Parquet files, with the behaviors that `ctr-service load-history` takes.
set -eu
version=$(date -u +%Y%m%d-%H%M%S)
pointer=stable
if [ -e "$BUNDLES/stable" ]; then pointer=canary; fi
if [ -n "${LOG:-}" ]; then ctr-model prepare "$TRAINING_FILE" --out "$LOG"; fi
ctr-model train "$TRAINING_FILE" --out "$RUN"
ctr-model export "$RUN" --out "$BUNDLES" --version "$version" --no-stable
python -c 'import sys, pathlib, model.bundle.pointers as pointers
pointers.write_pointer(pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3])' "$BUNDLES" "$pointer" "$version"
echo "$pointer is $version"
