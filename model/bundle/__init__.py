"""The seam between `model` (offline) and `service` (online): everything both sides must agree on.

    schema   which features there are            records  one behavior as bytes
    encode   raw values -> index tensors         manifest what a bundle says about itself
    folder   the files, written once, verified on every read

Imports numpy and the standard library only, so that a serving install needs nothing else.
"""
