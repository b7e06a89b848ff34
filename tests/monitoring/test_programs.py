"""A program that is missing: an excuse on a developer's machine, and none in the gate."""

import pytest

from tests.programs import REQUIRED, program


def test_a_missing_program_skips():
    """So that the tests can be run anywhere."""
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        program("no-such-program", {})


def test_a_missing_program_fails_the_gate():
    """So that the gate cannot leave out what it promises."""
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        program("no-such-program", {REQUIRED: "1"})
