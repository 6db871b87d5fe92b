# Everything starts from a Python (3.11 or newer) and make: the environments are made as they are needed.

PYTHON ?= python3
VENV := .venv
VENV_BENCH := .venv-bench
VENV_DOCS := .venv-docs
VENV_OLDEST := .venv-oldest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test coverage oldest conformance lint docs docs-check wheel wheel-check bench throughput vae-speed solvers toys density bsds posteriors gallery worked-examples fitted larger minibatch posteriors-check calibration catalogue resumption fuzz mutation universality vae-depth vae-expressiveness \
	vae-images posterior-depth clean distclean

help:  ## list these goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## fit the demonstration and write its report to demo/
	$(VENV)/bin/pushforward demo --out demo

test: ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.installed-dev  ## run the tests; other arguments for pytest: make test ARGS="-x tests/test_flow.py"
	$(VENV)/bin/pytest $(ARGS)

coverage: ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
coverage: $(VENV)/.installed-dev  ## run the tests, and say which lines and branches they reach; the page is build/coverage/index.html
	$(VENV)/bin/pytest --cov --cov-report=term:skip-covered --cov-report=html:build/coverage $(ARGS)

oldest: ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
oldest: $(VENV_OLDEST)/.installed  ## run the tests with the oldest versions of all dependencies
	$(VENV_OLDEST)/bin/pytest $(ARGS)

conformance: ARGS ?= -n 2 --dist worksteal
conformance: $(VENV)/.installed-dev  ## run the exhaustive products of cases and the slowest tests, which take hours: make conformance ARGS="-k planar"
	$(VENV)/bin/pytest -m conformance $(ARGS)

lint: $(VENV)/.installed-dev  ## check style, format and types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

wheel: | $(VENV)/bin/pip  ## build the wheel in dist, for pip install dist/*.whl
	$(VENV)/bin/pip wheel --quiet --no-deps --wheel-dir dist .

wheel-check: $(VENV)/.installed-dev  ## build the wheel, install it in a clean environment and fit with it, which takes minutes
	$(VENV)/bin/pytest -m wheel tests/test_wheel.py $(ARGS)

docs: $(VENV_DOCS)/.installed  ## build the documentation site in build/site; it fails on every warning
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --quiet
	@echo "open build/site/index.html"

docs-check: $(VENV)/.installed-dev  ## run the slow examples of README and documents too, which takes minutes
	$(VENV)/bin/pytest -m "conformance or not conformance" tests/test_docs.py $(ARGS)

worked-examples: $(VENV)/.installed-dev  ## run the worked examples and write their pages: make worked-examples ARGS="eight_schools"
	$(VENV)/bin/python docs/pages.py $(ARGS)

bench: $(VENV_BENCH)/.installed  ## time against peers, in an environment of its own: make bench ARGS="--only training"
	$(VENV_BENCH)/bin/python benchmarks/speed.py $(ARGS)

throughput: $(VENV_BENCH)/.installed  ## train on samples beside peers: make throughput ARGS="--dims 6"
	$(VENV_BENCH)/bin/python benchmarks/throughput.py $(ARGS)

vae-speed: $(VENV_BENCH)/.installed  ## steps of VAEs beside PyTorch
	$(VENV_BENCH)/bin/python benchmarks/vae_speed.py $(ARGS)

solvers: $(VENV)/.installed  ## numerical inverses beside Optimistix and Lineax
	$(VENV)/bin/python benchmarks/solvers.py

toys: $(VENV)/.installed  ## train every family on targets with known answers: make toys ARGS="--families nsf"
	$(VENV)/bin/python benchmarks/toys.py $(ARGS)

density: $(VENV_BENCH)/.installed  ## densities of toys and tables, and peers: make density ARGS="--only toys"
	$(VENV_BENCH)/bin/python benchmarks/density.py $(ARGS)

bsds: $(VENV_BENCH)/.installed  ## half an hour of training on patches of images: make bsds ARGS="--data FOLDER"
	$(VENV_BENCH)/bin/python benchmarks/bsds.py $(ARGS)

calibration: $(VENV)/.installed  ## how often the verdict is right: make calibration ARGS="--only funnel"
	$(VENV)/bin/python -m benchmarks.calibration $(ARGS)

posteriors: $(VENV)/.installed  ## fit published posteriors and compare with reference draws: make posteriors ARGS="--only arK"
	$(VENV)/bin/python -m benchmarks.posteriors.run $(ARGS)

fitted: $(VENV)/.installed-dev  ## write the page "What can be fitted" from the tables of the tests
	$(VENV)/bin/python tests/fitted_page.py

gallery: $(VENV)/.installed-dev  ## fit the models of example galleries, with NUTS beside them: make gallery ARGS="--only horseshoe --again"
	$(VENV)/bin/python -m benchmarks.gallery.run $(ARGS)

larger: $(VENV)/.installed  ## fit posteriors of 10 to 1,600 parameters, with NUTS beside them: make larger ARGS="--only lgcp"
	$(VENV)/bin/python -m benchmarks.larger.run $(ARGS)

minibatch: $(VENV)/.installed  ## logistic regression on many rows, with NumPyro's SVI and PyMC's ADVI: make minibatch ARGS="--full"
	$(VENV)/bin/python -m benchmarks.minibatch $(ARGS)

posteriors-check: $(VENV)/.installed  ## check the models of these posteriors against the reference draws
	$(VENV)/bin/python -m benchmarks.posteriors.check_models $(ARGS)

fuzz: SECONDS ?= 120
fuzz: $(VENV)/.installed  ## load damaged, edited and forged files: make fuzz SECONDS=600 ARGS="--seed 5"
	$(VENV)/bin/python benchmarks/fuzz_files.py --seconds $(SECONDS) $(ARGS)

mutation: $(VENV)/.installed-dev  ## do the tests notice small changes of the source: make mutation ARGS="training --num 50"
	@$(VENV)/bin/pip install --quiet 'cosmic-ray>=8.7'
	$(VENV)/bin/python benchmarks/mutation.py $(ARGS)

resumption: $(VENV)/.installed  ## kill all fits at random moments and resume them: make resumption ARGS="--only train"
	$(VENV)/bin/python benchmarks/resumption.py $(ARGS)

universality: $(VENV)/.installed  ## pictures and accuracy of exact maps: make universality ARGS="--only accuracy"
	$(VENV)/bin/python experiments/universality.py $(ARGS)

# The digits come with scikit-learn.
vae-depth: $(VENV)/.installed-dev  ## VAEs with posteriors of 0 to 32 layers: make vae-depth ARGS="--table"
	$(VENV)/bin/python experiments/vae_depth.py $(ARGS)

vae-expressiveness: $(VENV)/.installed-dev  ## VAEs with all posteriors and priors: make vae-expressiveness ARGS="--table"
	$(VENV)/bin/python experiments/vae_expressiveness.py $(ARGS)

posterior-depth: $(VENV)/.installed  ## posteriors by flows of 1 to 32 layers: make posterior-depth ARGS="--table"
	$(VENV)/bin/python experiments/posterior_depth.py $(ARGS)

vae-images: $(VENV)/.installed  ## the rows of a published table, in small: make vae-images ARGS="--data FOLDER"
	$(VENV)/bin/python experiments/vae_images.py $(ARGS)

catalogue: $(VENV)/.installed  ## measure every bijection: make catalogue ARGS="--only accuracy cost"
	$(VENV)/bin/python benchmarks/catalogue.py $(ARGS)

clean:  ## remove what was built, cached and drawn, but not the environments
	rm -rf demo build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environments too
	rm -rf $(VENV) $(VENV_BENCH) $(VENV_DOCS) $(VENV_OLDEST)

# pip is what venv installs last, so it stands for an environment that is complete. An old pip will do if there is no
# newer one to be had.
$(VENV)/bin/pip $(VENV_BENCH)/bin/pip $(VENV_DOCS)/bin/pip $(VENV_OLDEST)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "pushforward needs Python 3.11 or newer, which '$(PYTHON)' is not; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(@:/bin/pip=)
	@$(@:pip=python) -m pip install --quiet --upgrade --retries 1 pip || echo "pip stays as it is"

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/pip
	@echo "installing into $(VENV); the first time takes some minutes"
	@$(VENV)/bin/pip install --quiet -e .
	@touch $@

# The developer's installation holds the user's.
$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/pip
	@echo "installing into $(VENV); the first time takes some minutes"
	@$(VENV)/bin/pip install --quiet -e '.[dev]'
	@touch $(VENV)/.installed $@

$(VENV_DOCS)/.installed: pyproject.toml | $(VENV_DOCS)/bin/pip
	@echo "installing into $(VENV_DOCS); the first time takes some minutes"
	@$(VENV_DOCS)/bin/pip install --quiet -e '.[docs]'
	@touch $@

$(VENV_BENCH)/.installed: pyproject.toml benchmarks/requirements.txt | $(VENV_BENCH)/bin/pip
	@echo "installing into $(VENV_BENCH); the first time takes some minutes"
	@$(VENV_BENCH)/bin/pip install --quiet -e . -r benchmarks/requirements.txt
	@touch $@

# The lower bounds of pyproject.toml, or the first versions after them that have wheels for this Python.
$(VENV_OLDEST)/.installed: pyproject.toml | $(VENV_OLDEST)/bin/pip
	@echo "installing into $(VENV_OLDEST); the first time takes some minutes"
	@$(VENV_OLDEST)/bin/pip install --quiet uv
	@$(VENV_OLDEST)/bin/uv pip compile --quiet --resolution lowest-direct --only-binary :all: --extra dev pyproject.toml \
		--python $(VENV_OLDEST)/bin/python --output-file $(VENV_OLDEST)/versions.txt
	@$(VENV_OLDEST)/bin/pip install --quiet -r $(VENV_OLDEST)/versions.txt
	@$(VENV_OLDEST)/bin/pip install --quiet --no-deps -e .
	@touch $@
