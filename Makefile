# make demo · example · test · test-long · bench · flink · lint · notebooks · setup · clean-demo
# Everything is set up by the target that needs it; see scripts/setup.sh.

SHELL := /bin/bash
.PHONY: help setup demo example test test-long bench flink lint notebooks readme clean-demo

help:
	@echo "make demo        build, start a server, replay real events, show vectors and training data (ONCE=1, PORT=7878)"
	@echo "make example     one of examples/, on a server with fresh data (NAME=ctr_by_product, HISTORICAL=1, PORT=7878)"
	@echo "make test        everything: Rust, Python, notebooks, a real Kafka and a real registry"
	@echo "make test-long   what takes hours"
	@echo "make bench       measure (release build)"
	@echo "make flink       the definitions of examples/ on Apache Flink SQL, row by row beside ours; writes docs/flink.md"
	@echo "make lint        formatting, lints, types"
	@echo "make notebooks   open the tutorial in Jupyter"
	@echo "make readme      put the demo's output into README.md"
	@echo "make clean-demo  remove the demo's data"

setup:
	@bash scripts/setup.sh demo

demo:
	@bash scripts/demo.sh

example:
	@bash scripts/example.sh

test:
	@bash scripts/setup.sh test
	@bash scripts/test.sh -m "not long"

test-long:
	@bash scripts/setup.sh test
	@MILLPOND_CASES=$${MILLPOND_CASES:-100000} bash scripts/test.sh -m "long"

bench:
	@bash scripts/setup.sh bench
	@bash scripts/bench.sh

flink:
	@bash scripts/setup.sh test
	@bash scripts/flink.sh

lint:
	@bash scripts/setup.sh test
	@bash scripts/lint.sh

notebooks:
	@bash scripts/notebooks.sh

readme:
	@bash scripts/setup.sh demo
	@. scripts/env.sh && cd "$$ROOT" && "$$(venv_of demo)/bin/python" -m scripts.readme

clean-demo:
	rm -rf .millpond/demo
