# Two commands do everything on a machine that has only Python 3.11 or newer, pip and make:
#   make demo   set up, fetch real data and pretrained weights, fit, write a report
#   make test   set up, fetch the weights that the tests read, run the tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check bench peers docs clean constraints

demo: .venv/ready
	$(BIN)/headstart demo image

test: .venv/ready weights
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope

check: .venv/ready weights
	scripts/check

bench: .venv/ready peers
	$(BIN)/python -m benchmarks.fit
	$(BIN)/python -m benchmarks.auto
	$(BIN)/python -m benchmarks.regret
	$(BIN)/python -m benchmarks.ranking
	$(BIN)/python -m benchmarks.few_labels headstart "headstart, probe"
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.cache
	$(BIN)/python -m benchmarks.peak
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.export
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.office_caltech
	$(BIN)/python -m benchmarks.domains
	$(BIN)/python -m benchmarks.heart
	$(BIN)/python -m benchmarks.cluster
	$(BIN)/python -m benchmarks.label_few
	$(BIN)/python -m benchmarks.pretrain texts pictures
	$(BIN)/python -m benchmarks.boxes
	$(BIN)/python -m benchmarks.speech
	$(BIN)/python -m benchmarks.forecasting
	$(BIN)/python -m benchmarks.chat

peers: .peers/peers/ready .peers/peers-newest/ready .peers/peers-autogluon/ready .peers/peers-forecasting/ready .peers/peers-chat/ready

docs: .venv/ready
	$(BIN)/python -m scripts.docs --write

.PHONY: weights
weights: .venv/ready
	$(BIN)/headstart models pull minilm efficientnet-lite0 whisper-tiny.en fracast-0 --quiet

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

.peers/%/ready: benchmarks/%.txt
	test -x .peers/$*/bin/python || $(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clean:
	rm -rf .venv .peers build dist .pytest_cache .mypy_cache .ruff_cache

constraints: .venv/ready
	(head -1 constraints.txt; $(BIN)/pip freeze --exclude-editable | grep -viE "^(torch|headstart)[=@ ]") > constraints.new
	mv constraints.new constraints.txt
