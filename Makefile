# make demo   sets everything up and runs the main job on a real model
# make test   sets everything up and runs the tests
# make check  format, lint, floors, types, unit tests
# make bench  the figures of docs/limits.md and the README, beside other tools
# make family builds the files of benchmarks/family.toml in .cache/family (3 GB, about 20 minutes)
# make fuzz   lets atheris look for bytes that a parser, the reader of packs or a codec takes badly
# make torture fails every call of every operation, cuts the power, the connection, flips bits (an hour or two)
# make docs   writes docs/commands.md and docs/errors.md anew
# make wheels builds a wheel that can be installed elsewhere, and the source distribution, into dist
# make lock   writes requirements/*.txt anew
# make clean  removes what these made

VENV := .venv
PY := $(VENV)/bin/python
KERNEL := setup.py $(shell find native -name '*.[ch]' -o -name '*.py')
SOURCES := pyproject.toml README.md $(KERNEL) $(shell find src -name '*.py')
PIP := $(PY) -m pip --disable-pip-version-check --no-input

.PHONY: demo test check bench fuzz torture family docs wheels lock programs clean
.DELETE_ON_ERROR:

# DEMO takes options of `hart demo`: make demo DEMO="--from PATH --keep DIR"
demo: $(VENV)/installed
	$(VENV)/bin/hart demo $(DEMO)

test: programs
	$(MAKE) --no-print-directory $(VENV)/dev
	$(PY) -m pytest -n 2 $(TESTS)

# What the tests run; a C compiler among it, which has to be there before the kernel is built.
programs: $(PY)
	tools/need_programs.sh $(PY)

check: $(VENV)/dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	$(PY) -m pytest -n 2 tests/unit

# BENCH takes options of benchmarks/run.py: make bench BENCH="--only family --runs 3"
bench: $(VENV)/dev
	$(PY) benchmarks/run.py --family $(FAMILY) $(BENCH)

# FUZZ names targets of fuzz/targets.py (all of them otherwise), FUZZ_SECONDS are those of each; FUZZ_RUNS
# are inputs of each instead, the same every time: make fuzz FUZZ="gguf pack" FUZZ_SECONDS=600
FUZZ :=
FUZZ_SECONDS := 60
FUZZ_RUNS :=

fuzz: $(VENV)/fuzz
	$(PY) fuzz/run.py $(FUZZ) $(if $(FUZZ_RUNS),--runs $(FUZZ_RUNS),--seconds $(FUZZ_SECONDS))

# TORTURE says what and how much: make torture TORTURE="faults --steps add --every 10"; see docs/faults.md
TORTURE :=

torture: programs
	$(MAKE) --no-print-directory $(VENV)/dev
	$(PY) -m tests.torture $(TORTURE)

# FAMILY is the folder, FAMILY_ONLY names members (all of them otherwise), FAMILY_VENV the
# environment, FAMILY_PIP takes options of pip: where there is a torch without a GPU, for example.
FAMILY := .cache/family
FAMILY_VENV := .cache/family-venv
FAMILY_ONLY :=
FAMILY_PIP :=
FAMILY_REQUIREMENTS := benchmarks/requirements-family.txt

family: $(FAMILY_VENV)/installed
	nice -n 10 $(FAMILY_VENV)/bin/python benchmarks/make_family.py $(FAMILY) --only "$(FAMILY_ONLY)"

$(FAMILY_VENV)/installed: $(FAMILY_REQUIREMENTS)
	tools/make_venv.sh $(FAMILY_VENV)
	$(FAMILY_VENV)/bin/python -m pip --disable-pip-version-check --no-input install -q \
		$(FAMILY_PIP) $$(grep '^torch==' $<)
	$(FAMILY_VENV)/bin/python -m pip --disable-pip-version-check --no-input install -q \
		$(FAMILY_PIP) -r $<
	touch $@

docs: $(VENV)/dev
	$(PY) -m hartonomous.cli.reference > docs/commands.md.part
	mv docs/commands.md.part docs/commands.md
	$(PY) -m hartonomous.cli.error_page > docs/errors.md.part
	mv docs/errors.md.part docs/errors.md

wheels:
	tools/make_wheels.sh dist

COMPILE := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url

lock:
	tools/make_venv.sh .cache/lock
	.cache/lock/bin/python -m pip install -q uv
	.cache/lock/bin/uv pip compile -q --upgrade $(COMPILE) pyproject.toml -o requirements/base.txt
	.cache/lock/bin/uv pip compile -q --upgrade $(COMPILE) pyproject.toml --group dev \
		-o requirements/dev.txt
	.cache/lock/bin/uv pip compile -q --upgrade $(COMPILE) --group fuzz -o requirements/fuzz.txt

clean:
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f src/hartonomous/codecs/_kernel*.so

$(PY):
	tools/make_venv.sh $(VENV)

# What is installed is this working copy after `make test`, a built copy of it otherwise.
$(VENV)/installed: $(PY) $(SOURCES)
	test -e $(VENV)/dev || $(PIP) install -q '.[documents,images,search,encode]'
	touch $@

# Everything comes from the lock file with its hash; the project itself is then linked in place.
$(VENV)/dev: $(PY) requirements/dev.txt pyproject.toml $(KERNEL)
	$(PIP) install -q --require-hashes -r requirements/dev.txt
	$(PIP) install -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/fuzz: $(VENV)/dev requirements/fuzz.txt
	$(PIP) install -q --require-hashes -r requirements/fuzz.txt
	touch $@
