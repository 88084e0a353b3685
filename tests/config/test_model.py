from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from gateway.config import model
from tests.config.files import loaded, written


def test_a_configuration_does_not_change():
    config = loaded(written())
    for part in (config, config.issuer, config.limits, config.logs):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)


def test_nothing_of_the_file_format_is_left():
    config = loaded(written())
    assert all(is_dataclass(getattr(config, name)) for name in ("issuer", "limits", "logs", "identity"))
    assert model.Limits(*(1,) * 8).connections_per_ip == 1
