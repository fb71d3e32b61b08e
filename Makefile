# Every target sets up what it needs on a fresh machine: a virtual environment in .venv with the package in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN ?= runs/shapes-tiny

.PHONY: help setup train train-voc train-nuclei test test-compare test-nojit test-avx2 test-gpu bench bench-gpu predict-gpu agreement docs-numbers \
	lint tutorial \
	book book-build book-check lab clean

setup: $(STAMP)
	@echo 'installed in $(VENV). Next: make train; or `. $(BIN)/activate`, then `mrcnn-np --help`'

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

# The targets and what each is for.
help:
	@echo 'make setup         install into .venv; then `. .venv/bin/activate`, and `mrcnn-np` is a command'
	@echo 'make train         train on generated shapes, evaluate, draw: runs/shapes-tiny/'
	@echo 'make train-voc     the same on Pascal VOC; VOC_ROOT names the VOCdevkit folder'
	@echo 'make train-nuclei  nuclei under the microscope: 15 minutes on two free cores; DSB_ROOT names the data'
	@echo 'make test          the tests'
	@echo 'make test-compare  beside the frameworks that are installed'
	@echo 'make test-nojit    the kernels as plain Python, with coverage'
	@echo 'make test-avx2     the kernels as without AVX-512'
	@echo 'make test-gpu      the kernels on an NVIDIA GPU'
	@echo 'make lint          ruff and mypy'
	@echo 'make tutorial      run the lessons'
	@echo 'make lab           the book in JupyterLab; book: as a site; book-build, book-check: execute, check'
	@echo 'make bench         speed beside PyTorch; bench-gpu: on a GPU; predict-gpu: predicted without one'
	@echo 'make agreement     numbers beside the frameworks'
	@echo 'make docs-numbers  rewrite the numbers in the pages'
	@echo 'make clean         remove .venv and caches'

# The main job: generate the shapes data set, train the tiny preset on it, evaluate on held-out images, draw.
# Called again it goes on where it was interrupted; ARGS=--overwrite starts afresh.
train: $(STAMP)
	$(BIN)/mrcnn-np train --data shapes --preset tiny --out $(RUN) $(if $(ARGS),$(ARGS),--resume)

# The same on Pascal VOC; VOC_ROOT names the VOCdevkit folder.
train-voc: $(STAMP)
	$(BIN)/mrcnn-np train --data voc --preset small --eval-splits train,val --out runs/voc $(if $(ARGS),$(ARGS),--resume)

# Nuclei under the microscope: 15 to 19 minutes on two free cores, 26 on one. DSB_ROOT names the folder or zip of the Data
# Science Bowl 2018, stage 1, which `mrcnn-np data get dsb2018` downloads. docs/recipes.md
train-nuclei: $(STAMP)
	$(BIN)/mrcnn-np train --data dsb --preset small --config recipes/nuclei.json --val-fraction 0.16 --out runs/nuclei \
		$(if $(ARGS),$(ARGS),--resume)

test: $(STAMP)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup --ignore tests/compare $(ARGS)

# Beside the frameworks: what is not installed is skipped, and the reason said.
test-compare: $(STAMP)
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/compare -n 2 --dist loadgroup $(ARGS)

# The kernels as plain Python: every line is seen by coverage, and every address they use is held to the arrays there
# are. What writes LLVM instructions, and what waits for the compiler, runs in the second command.
test-nojit: $(STAMP)
	NUMBA_DISABLE_JIT=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/kernels --ignore tests/kernels/test_simd_python.py \
		-n 2 --cov --cov-report= $(ARGS)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/kernels/test_simd_python.py tests/kernels/test_once.py \
		--cov --cov-append --cov-report=term-missing:skip-covered --cov-fail-under=99

# The kernels as on a processor without AVX-512.
test-avx2: $(STAMP)
	MRCNN_NP_VECTOR=8 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/kernels -n 2 $(ARGS)

# Speed, errors and memory beside PyTorch and torchvision, if these are installed: runs/bench/.
bench: $(STAMP)
	$(BIN)/mrcnn-np bench $(ARGS)

# On a machine with an NVIDIA GPU, whose Python has numba-cuda, CuPy, PyTorch and torchvision; together under six minutes.
# Every kernel and the model beside the CPU's, the same bits twice, and where it is installed compute-sanitizer.
GPU_PYTHON ?= python3

test-gpu:
	MRCNN_NP_GPU=1 $(GPU_PYTHON) -m pytest -x -q -rs tests/gpu tests/cuda $(ARGS)

# Beside PyTorch on the same GPU: runs/bench-gpu/gpu.json and the table of docs/gpu.md.
bench-gpu:
	$(GPU_PYTHON) -m mrcnn_np.bench.gpu.measure $(ARGS)

# What is predicted without a GPU, from counted work: docs/gpu-predicted.json and the same table. Needs the extra cuda.
predict-gpu:
	$(GPU_PYTHON) -m mrcnn_np.bench.gpu.predict
	$(GPU_PYTHON) -m mrcnn_np.bench.gpu.page

# Beside the frameworks, where these are installed: runs/agreement/.
agreement: $(STAMP)
	$(BIN)/mrcnn-np compare --ops --out runs/agreement/operations
	$(BIN)/mrcnn-np compare --with torchvision --dtype float64 --size 256 --out runs/agreement/torchvision-float64
	$(BIN)/mrcnn-np compare --with torchvision --out runs/agreement/torchvision-float32
	$(BIN)/mrcnn-np compare --with torchvision --train-steps 20 --size 128 --out runs/agreement/training-float32
	$(BIN)/mrcnn-np compare --with keras --size 256 --out runs/agreement/keras

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The numbers in the documentation: the network of `make train` (trained if it is not there) under other conventions, and
# what train, bench and agreement left in runs/.
docs-numbers: $(STAMP)
	$(BIN)/mrcnn-np train --data shapes --preset tiny --out $(RUN) --resume
	$(BIN)/mrcnn-np conventions --run $(RUN) --rewrite docs/conventions.md --quiet
	$(BIN)/python docs/figures.py

tutorial: $(STAMP)
	for script in tutorial/[0-9]*.py; do $(BIN)/python $$script || exit 1; done

BOOK_STAMP := $(VENV)/.book

# The .pth file lets notebooks import the plain loops and the gradient check of tests/oracles, whatever opens them.
$(BOOK_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[book]'
	$(BIN)/python -c "import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path('purelib'), 'mrcnn_np_oracles.pth').write_text('$(CURDIR)/tests/oracles')"
	touch $@

# The chapters as a site that needs no network; warnings are errors.
book: $(BOOK_STAMP)
	$(BIN)/python book/press.py site

# Execute chapters and write their notebooks: ARGS="08" one of them.
book-build: $(BOOK_STAMP)
	$(BIN)/python book/press.py build $(ARGS)

# Notebooks beside their texts, exercises, the figures of the bar. FULL=1 executes chapters whose sources did not change, too.
book-check: $(BOOK_STAMP)
	$(BIN)/python book/press.py check $(if $(FULL),--full) $(ARGS)

# Jupyter refuses root, who is all there is in many containers, unless it is told.
lab: $(BOOK_STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[book,book-lab]'
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root )book

clean:
	rm -rf $(VENV) .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
