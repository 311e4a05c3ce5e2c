# `make train` and `make test` set everything up by themselves: only Python >= 3.11 (and, for the native engine, a C++20
# compiler) must be there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# One worker more than processors: a worker of the browser's and of other processes' tests waits a fifth of its time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.PHONY: setup train test test-long test-all check docs bench engine-test clean

setup: $(STAMP)

# The engine's sources belong to the stamp: a change in them builds the extension anew.
ENGINE := CMakeLists.txt $(shell find engine -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name CMakeLists.txt)
$(STAMP): pyproject.toml constraints.txt $(ENGINE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m convscope.native
	touch $@

train: setup
	$(BIN)/convscope train

# What is quick, in minutes; what is slow by nature (every member of every family of architectures, soaks, every
# experiment) is test-long. Work stealing keeps both processors busy to the end.
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long"

test-long: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m long

test-all: test test-long

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, into build/site; every warning is an error. About 12 s.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup
	$(BIN)/convscope bench

# The engine's own tests, plain and under the address and thread sanitizers.
engine-test:
	for sanitize in none address thread; do \
	  cmake -S . -B build/engine-$$sanitize -DCONVSCOPE_TESTS=ON -DCONVSCOPE_SANITIZE=$$sanitize -DCMAKE_BUILD_TYPE=Release && \
	  cmake --build build/engine-$$sanitize --parallel $(WORKERS) && \
	  ctest --test-dir build/engine-$$sanitize --output-on-failure || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
