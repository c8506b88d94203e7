# make demo   install, train on drawn cards, monitor the result
# make test   install, run the tests;  make quick  all but the slow ones
# make lint   style and types;  make bench  speed;  make overfit  can it learn eight photographs?
# make fuzz   20,000 damaged annotation files: each loads or is refused in a readable line

PYTHON ?= python3
VENV   ?= .venv
# The real photographs, for `make overfit` and the tests that want them.
CARDS_DIR ?= ../shared/play_cards
export CARDS_DIR
RUN    := demo-$(shell date +%Y%m%d-%H%M%S)
BIN    := $(VENV)/bin

.PHONY: demo test quick lint bench overfit fuzz

$(VENV)/ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/ready-for-tests: $(VENV)/ready tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	touch $@

# Small pictures: in minutes, without a network. DEMO_IMAGES=60 only shows that it runs.
DEMO_IMAGES ?= 600
DEMO_CROPS  ?= 40steps
demo: $(VENV)/ready
	$(BIN)/python main.py -t True -m efficientnet-lite0 --image-size 160 --scale-jitter 1.25 \
		--demo-images $(DEMO_IMAGES) --epochs 5 --val-every 5 --batch-size 8 --warmup-steps 30 \
		--crop-pretraining $(DEMO_CROPS) --precision fp32 --workers 1 --name $(RUN)
	$(BIN)/python main.py -l runs/$(RUN)/best.pth
	@echo "Open runs/$(RUN)/monitor-best/report.html in a browser"

test: $(VENV)/ready-for-tests
	$(BIN)/python -m pytest

quick: $(VENV)/ready-for-tests
	$(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/ready-for-tests
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

$(VENV)/ready-for-bench: $(VENV)/ready-for-tests benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt
	touch $@

bench: $(VENV)/ready-for-bench
	$(BIN)/python -m benchmarks.speed

fuzz: $(VENV)/ready-for-tests
	$(BIN)/python -m tests.fuzz --mutations 20000 --seed 0

overfit: $(VENV)/ready
	$(BIN)/python main.py -t True -p $(CARDS_DIR) -m efficientnet-b0 --backbone-weights none --overfit 8 \
		--epochs 36 --batch-size 4 --image-size 256 --scale-jitter 1.05 \
		--crop-pretraining 100steps --name overfit
