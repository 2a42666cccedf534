# The commands of the README and of CONTRIBUTING.md. demo and test install what is missing on Debian and Ubuntu.
.PHONY: demo test test-net torture test-clients bench lint fmt deploy-check

demo:
	@.ci/need cargo redis
	cargo run --release --locked -- demo

test:
	@.ci/need cargo redis
	REQUIRE_REDIS=1 cargo test --locked

# Nodes whose packets vanish, in a network namespace of its own: needs root, or user namespaces.
test-net:
	@.ci/need cargo redis net
	.ci/net

# Faults in a throw-away cluster under load, and a checker (RELIABILITY.md): make torture ARGS="--seed 7 --minutes 30"
torture:
	@.ci/need cargo redis
	cargo test --locked --test torture -- $(ARGS)

# Real clients and frameworks do real work through slotway. Installs them below target/clients.
test-clients:
	@.ci/need cargo redis python
	python3 tests/clients/run.py

bench:
	@.ci/need cargo redis
	cargo bench --locked --bench micro
	benches/run

lint:
	@.ci/need cargo lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

fmt:
	@.ci/need cargo lint
	cargo fmt

deploy-check:
	@.ci/need cargo python
	python3 deploy/check.py
