# Every target sets up what it needs under the checkout; the second run is fast.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
# two processes, of which one that has finished takes over half of what the other has not come to: however long its files
# take, both end at about the same time; names of cases must be the same in both
# more threads of linear algebra than processes there are wait for each other: on matrices as small as those of tests, that is
# most of the time
# compiled modules are kept, whatever the environment says: tests start hundreds of processes, each of which would compile the
# package again, for half a second
SETTINGS := PYTHONDONTWRITEBYTECODE= PYTHONHASHSEED=0 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PARALLEL := -n 2 --dist worksteal
minutes ?= 5
# what needs the newest releases, or takes long and depends on no release; single tests of that kind have the mark "once"
NEWEST := test_docs.py test_clusters.py test_ray.py test_server.py test_chaos.py test_damage.py test_durable.py \
	test_programs.py test_hypergrad.py test_distributed.py test_dashboard.py test_promotion.py test_pbt.py test_deleting.py \
	test_interrupted.py test_storages.py
# what people import
PARTS := welltuned welltuned.sklearn welltuned.boosting welltuned.networks welltuned.trackers welltuned.keras_tuner welltuned.distributed \
	welltuned.hypergrad welltuned.stats welltuned.plots welltuned.report welltuned.server.app welltuned.samplers welltuned.schedulers \
	welltuned.storage welltuned.executors $(addprefix welltuned.testing.,executor sampler scheduler sink storage)
# such as --no-compile: of 28,000 modules few are ever loaded, and these are compiled then
pip ?=
PIP := -m pip install --quiet --disable-pip-version-check $(pip)

.PHONY: demo test test-oldest lint format bench chaos docs reference clean

demo: $(VENV)/.demo
	$(BIN)/welltuned demo

test: $(VENV)/.test
	$(SETTINGS) $(BIN)/python -m pytest $(PARALLEL)

test-oldest: $(OLDEST)/.test
	$(SETTINGS) $(OLDEST)/bin/python -m pytest $(PARALLEL) $(NEWEST:%=--ignore=tests/%) -m 'not once' -W default

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/speedup.py
	$(BIN)/python benchmarks/reports.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/bias.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/parallel.py

chaos: $(VENV)/.test
	$(BIN)/python -m chaos --minutes $(minutes)

docs: $(VENV)/.test
	$(SETTINGS) $(BIN)/python -m pytest tests/test_docs.py

reference: $(VENV)/.test
	$(BIN)/python -m pdoc --docformat numpy --no-show-source --output-directory build/reference $(PARTS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) -e '.[demo]'
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) -e '.[test,services]'
	touch $@

$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(BIN)/python $(PIP) -e '.[test,services,lint]'
	touch $@

$(OLDEST)/.test: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP) -e '.[test]' -c tests/oldest.txt
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
