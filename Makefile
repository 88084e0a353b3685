# Everything a newcomer needs: `make dev` tries the gateway, `make test` tests it. Both set up what is missing.
# Debian's python3 has neither venv nor a pip that may install: `pip install --target` works all the same.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --frozen

FUZZ_SECONDS ?= 300

.PHONY: dev test fuzz lint cover schema bench soak resilience help ensure-uv
help: ; @grep -E '^# [a-z]+:' Makefile | sed 's/^# /  make /'

.uv/bin/uv: ; python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .uv 'uv>=0.9'
ensure-uv: $(if $(filter .uv/bin/uv,$(UV)),.uv/bin/uv)

# dev: a local issuer, a sample upstream and the gateway in front of it, on this machine
dev: ensure-uv ; @$(RUN) gateway dev $(ARGS)
# test: all tests (those that need Chromium are skipped where there is none, and say so)
test: ensure-uv ; $(RUN) --group e2e pytest $(ARGS)
# fuzz: bytes nobody would write by hand, for FUZZ_SECONDS; what it fails on is printed, to be repeated
fuzz: ensure-uv ; FUZZ_SECONDS=$(FUZZ_SECONDS) $(RUN) pytest -q -s tests/wire/test_fuzz.py $(ARGS)
# lint: style, types, layers, Dockerfile
lint: ensure-uv
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) --group lint hadolint Dockerfile
# cover: every branch of core/ is taken by core's own tests
cover: ensure-uv ; $(RUN) pytest -q tests/core --cov=gateway.core --cov-branch --cov-fail-under=100 --cov-report=term:skip-covered
# schema: rewrite config/schema.json from the models
schema: ensure-uv ; $(RUN) python -m gateway.config > config/schema.json
# bench: what a request costs, beside nginx, HAProxy and Envoy (needs nginx, haproxy, wrk and postgresql; ten minutes)
bench: ensure-uv ; @$(RUN) --group bench python -m tests.bench $(ARGS)
# resilience: endpoints that die, reloads, restarts, kills, a crowd: whether anybody notices (eight minutes)
resilience: ensure-uv ; @$(RUN) python -m tests.bench.resilience $(ARGS)
# soak: ten minutes of every load, bad clients and dying upstreams: memory and open files must not grow (needs wrk)
soak: ensure-uv ; @$(RUN) python -m tests.bench.soak $(ARGS)
