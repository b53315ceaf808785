# MCR, the multicast relay for Linux. `make help` lists what there is.

CARGO ?= cargo
# Network tests make their own namespaces and need root; everything else does not care.
export RUST_BACKTRACE ?= 1

.PHONY: help demo test check build install bench schemathesis otlp fuzz differential clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## show the main job in three network namespaces (root; seconds after the build)
	@scripts/install-packages.sh demo
	$(CARGO) build --release --locked --bin mcr --bin mcr-netd
	@scripts/demo.sh target/release

test: ## run every test (root; installs what they need)
	@scripts/install-packages.sh test
	@scripts/test.sh

check: ## formatting, lints, documentation links
	@scripts/install-packages.sh check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

build: ## release binaries in target/release
	$(CARGO) build --release --locked --bin mcr --bin mcr-netd

install: build ## install under PREFIX (default /usr/local), with systemd units and the user mcr
	@scripts/install.sh $(or $(PREFIX),/usr/local)

bench: ## measure beside nftables, smcroute, socat and others (root; half an hour; BENCH_OPTIONS=--quick: 3 minutes)
	@scripts/install-packages.sh bench
	$(CARGO) build --release --locked --bin mcr --bin mcr-netd --bin mcr-bench
	target/release/mcr-bench $(or $(BENCH_OPTIONS),--docs docs/bench)

schemathesis: ## ten thousand made-up requests against the API, over its socket and over TLS (root; minutes)
	@scripts/install-packages.sh test
	@scripts/schemathesis.sh
	$(CARGO) build --locked --bin mcr --bin mcr-netd
	SCHEMATHESIS_PHASES=examples,coverage,fuzzing SCHEMATHESIS_EXAMPLES=600 SCHEMATHESIS_CASES=5000 \
		$(CARGO) test --locked -p mcr-cli --test network schemathesis -- --nocapture --test-threads 1

otlp: ## the feature otlp: lints, and its export against a collector of the test's own (root; minutes to build)
	@scripts/install-packages.sh test
	$(CARGO) build --locked --bin mcr-netd
	$(CARGO) clippy -p mcr-cli -p mcr-daemon --all-targets --features mcr-cli/otlp,mcr-daemon/otlp --locked -- -D warnings
	$(CARGO) test --locked -p mcr-daemon --features otlp --lib otlp
	$(CARGO) test --locked -p mcr-cli --features otlp --test network otlp:: -- --nocapture

fuzz: ## fuzz the frame parser and the recognisers of flows (FUZZ_SECONDS, default 60)
	@scripts/fuzz.sh $${FUZZ_SECONDS:-60}

differential: ## a million random frames and relays through the in-kernel programs and mcr-wire (root; MCR_FRAMES, MCR_SEED)
	@scripts/install-packages.sh test
	MCR_FRAMES=$${MCR_FRAMES:-1000000} $(CARGO) test --locked -p mcr-kernel-path --test differential -- --nocapture

clean: ## remove what was built
	$(CARGO) clean
