from __future__ import annotations

from onitu.model.errors import ConfigurationError


def test_an_error_in_the_configuration_tells_everything_that_is_wrong_in_it_line_by_line() -> None:
    error = ConfigurationError(["no folder", "no service"])
    assert str(error) == "no folder\nno service"
    assert error.problems == ["no folder", "no service"]
