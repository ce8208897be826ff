# The two commands that matter, `make demo` and `make test`, do all set-up on a fresh clone.
# ARGS goes to pytest: make test ARGS="-k clicks". PYTHON names the interpreter for a new .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test lint docs smoke clean distclean

ifdef PYTHON
export PYTHON
endif

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: ## Open napari with the sample, the dock and the default model (or replay without a display)
	@scripts/demo.sh

test: ## Make or reuse .venv and run the whole test suite
	@scripts/test.sh $(ARGS)

lint: ## Lint, format, types and import contracts
	@scripts/lint.sh

docs: ## Build the documentation into site/, warnings as errors
	@scripts/docs.sh

smoke: ## Try the lowest napari allowed, and the built wheel and sdist in empty environments
	@scripts/floor-smoke.sh
	@scripts/install-smoke.sh

clean: ## Remove what the tools wrote, but not the environments
	rm -rf build dist site demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

distclean: clean ## Remove the environments too
	rm -rf .venv .venv-floor .venv-floor-linked
