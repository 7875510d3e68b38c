# Two of these do all the set-up that a fresh machine needs: `make run` and `make test`.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
STATE_DIR := var
# Most tests wait for servers most of the time; the fast ones don't.
PYTEST_WORKERS := 4
FAST_WORKERS := 2
# A module's tests share servers: no two workers start them.
BY_MODULE := --dist loadfile --no-loadscope-reorder

# Some hundred processes are started: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv run demo-wan demo-deploy test test-fast services check fmt bench clean

venv: $(INSTALLED)

# Again only when what is to be installed has changed; the package itself is installed in place.
$(INSTALLED): setup.cfg pyproject.toml
	@python=$$(scripts/find-python) && { test -x $(BIN)/python || $$python -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev,deploy]'
	@touch $@

run: venv
	$(BIN)/hitmesh up --demo --state-dir $(STATE_DIR) $(UP_ARGS)

# Three datacenters in network namespaces, with a WAN between them that is cut; needs root.
demo-wan: venv
	@test "$$(id -u)" -eq 0 || { echo "make demo-wan needs root: it makes network namespaces; sudo make demo-wan" >&2; exit 1; }
	-@scripts/install-services ip nft consul beanstalkd  # without the last two it runs on SQLite
	@$(BIN)/python -m tests.wan.demo $(DEMO_ARGS)

# Two datacenters on hosts made of namespaces, deployed by fab; needs root.
demo-deploy: venv
	@test "$$(id -u)" -eq 0 || { echo "make demo-deploy needs root: it makes namespaces; sudo make demo-deploy" >&2; exit 1; }
	-@scripts/install-services ip nft ssh sshd sudo keepalived consul beanstalkd python3-venv
	@$(BIN)/python -m tests.hosts.demo $(DEMO_ARGS)

test: check services
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) $(BY_MODULE) $(PYTEST_ARGS)

# Those that start no process, with a part of the usual random examples.
test-fast: venv
	$(BIN)/python -m pytest -n $(FAST_WORKERS) --dist worksteal -m "not system" --hypothesis-profile fast $(PYTEST_ARGS)

# What the tests start besides hitmesh; says what is missing where it may not install.
services:
	@scripts/install-services

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Beside what people would use instead, as far as that can be installed.
bench: venv
	-@scripts/install-services wrk haproxy nginx consul beanstalkd webdis redis-server uwsgi
	-@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	bench/run

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find hitmesh nexus balancer tests -name __pycache__ -type d -prune -exec rm -rf {} +
