"""For all tests: examples may take as long as a busy machine needs; speed belongs in the benchmark."""

from hypothesis import HealthCheck, settings

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
