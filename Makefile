# One command each; `make check` is what continuous integration runs.
.PHONY: lint format types test test-all coverage docs docs-quick benchmarks check

lint:
	ruff check .
	ruff format --check .
	lint-imports --no-cache

format:
	ruff check --fix .
	ruff format .

types:
	mypy

test:
	pytest -n 2 -m "not slow" --ignore=tests/test_benchmarks.py

test-all:
	pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: # of the tests that test one part, which it slows down
	pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-fail-under=90

docs: # two examples of the gallery at a time, with one thread each
	OMP_NUM_THREADS=1 sphinx-build -W --keep-going -b html docs docs/_build/html

docs-quick:
	sphinx-build -W --keep-going -b html -D plot_gallery=0 docs docs/_build/html

benchmarks: # some of those that need no data; `--help` of each says more
	python examples/benchmarks/training.py --quick
	python examples/benchmarks/prediction.py --quick
	python examples/benchmarks/padding.py --quick
	python examples/benchmarks/memory.py --quick
	python examples/benchmarks/cache.py --texts 5000 --pairs 1

check: # mypy and most of Sphinx use one core each
	$(MAKE) --jobs 2 lint types docs
	$(MAKE) test-all
