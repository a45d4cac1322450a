# Everything a contributor types. `just` itself comes with `setup`: .venv/bin/just

set shell := ["bash", "-euo", "pipefail", "-c"]

export PATH := justfile_directory() / ".venv/bin" + ":" + env("PATH")

# What there is
default:
    @just --list --unsorted

# A virtual environment in .venv with dte and all that its checks need
setup:
    test -x .venv/bin/python || python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --editable '.[dev]'

# All that needs no run: style, types, layers
check: lint types layers

lint:
    ruff check .
    ruff format --check .

types:
    mypy

layers:
    lint-imports

# Mend what can be mended without thought
fix:
    ruff check --fix .
    ruff format .

# The tests, but for the slow ones; arguments go to pytest. Four at a time on two cores: most of them wait for processes
test *ARGS:
    pytest --numprocesses 4 --dist worksteal -m "not slow and not matrix" -rs {{ARGS}}

# Those that take minutes
test-slow *ARGS:
    pytest --numprocesses 3 -m "slow and not matrix" -rs {{ARGS}}

# Each supported nx and turbo against the plain tool; all of one version share their clones, and so a process
matrix *ARGS:
    pytest --numprocesses 3 --dist loadgroup -m matrix -rs {{ARGS}}

# Simulated runs, one for each seed
sim LIVES="300" SEED="0":
    dte sim --lives {{LIVES}} --seed {{SEED}}

# Measure: noop, start, real, transfer, nx, nx-cached, turbo, market, scale
bench NAME="noop" *ARGS:
    python -m tests.benchmarks.{{replace(NAME, "-", "_")}} {{ARGS}}

# The specification's vectors, against dte itself or any other implementation
conform *ADAPTER="python conformance/adapters/mesh/adapter.py":
    python conformance/generate/all.py --check
    python conformance/runner/run.py -- {{ADAPTER}}

# That the documentation speaks of what is there: links, commands, options, files
docs:
    pytest -q -rs tests/test_docs.py
