# MCR, the multicast relay for Linux. `make help` lists what there is.

CARGO ?= cargo
# Network tests make their own namespaces and need root; everything else does not care.
export RUST_BACKTRACE ?= 1

.PHONY: help demo test check build install bench schemathesis otlp fuzz loom miri sbom reproducible differential reliability soak guest clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## show the main job in three network namespaces (root; seconds after the build)
	@scripts/install-packages.sh demo
	$(CARGO) build --release --locked --bin mcr --bin mcr-netd
	@scripts/demo.sh target/release

test: ## run every test (root; installs what they need)
	@scripts/install-packages.sh test
	@scripts/test.sh

check: ## formatting, lints, documentation links, licences and sources of dependencies
	@scripts/install-packages.sh check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet
	@scripts/deny.sh

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
	@scripts/tool.sh schemathesis
	$(CARGO) build --locked --bin mcr --bin mcr-netd
	SCHEMATHESIS_PHASES=examples,coverage,fuzzing SCHEMATHESIS_EXAMPLES=600 SCHEMATHESIS_CASES=5000 \
		$(CARGO) test --locked -p mcr-cli --test network schemathesis -- --nocapture --test-threads 1

otlp: ## the feature otlp: lints, and its export against a collector of the test's own (root; minutes to build)
	@scripts/install-packages.sh test
	$(CARGO) build --locked --bin mcr-netd
	$(CARGO) clippy -p mcr-cli -p mcr-daemon --all-targets --features mcr-cli/otlp,mcr-daemon/otlp --locked -- -D warnings
	$(CARGO) test --locked -p mcr-daemon --features otlp --lib otlp
	$(CARGO) test --locked -p mcr-cli --features otlp --test network otlp:: -- --nocapture

fuzz: ## fuzz everything that reads bytes or text of others (FUZZ_SECONDS together, default 600)
	@scripts/install-packages.sh check
	@scripts/fuzz.sh $${FUZZ_SECONDS:-600} all

loom: ## every order of events between a worker and those who direct it
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked --release --target-dir target/loom -p mcr-datapath --lib orders

miri: ## the code that reads and writes frames under Miri, which sees undefined behaviour (nightly; a minute)
	PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --locked --target-dir target/miri -p mcr-wire --lib

sbom: ## the bill of materials of the two programs, CycloneDX, in target/mcr.cdx.json
	@scripts/install-packages.sh sbom
	@mkdir -p target
	@scripts/sbom.py >target/mcr.cdx.json
	@echo "target/mcr.cdx.json: $$(grep -c '"purl"' target/mcr.cdx.json) packages"

reproducible: ## build the release twice, in two folders, and compare (minutes)
	@scripts/install-packages.sh demo
	@scripts/reproducible.sh

guest: ## the installed service under systemd on Debian's kernels 6.1 and 6.12, in an emulated machine (root; a quarter of an hour; KERNELS)
	@scripts/install-packages.sh guest
	$(CARGO) build --release --locked --bin mcr --bin mcr-netd
	@scripts/guest.sh $(KERNELS)

differential: ## a million random frames and relays through the in-kernel programs and mcr-wire (root; MCR_FRAMES, MCR_SEED)
	@scripts/install-packages.sh test
	MCR_FRAMES=$${MCR_FRAMES:-1000000} $(CARGO) test --locked -p mcr-kernel-path --test differential -- --nocapture

reliability: ## kills, upgrades, reloads, floods, loops and missing resources at full size (root; minutes)
	@scripts/install-packages.sh test
	$(CARGO) build --locked --bin mcr --bin mcr-netd
	MCR_FULL=1 $(CARGO) test --locked -p mcr-cli --test network -- --nocapture --test-threads 1 \
		managed:: killed:: reload:: overload:: loops:: resources:: interfaces:: kinds:: state:: remote::slow

soak: ## mixed load with faults all the while (root; SOAK_SECONDS, default 1800)
	@scripts/install-packages.sh test
	$(CARGO) build --locked --bin mcr --bin mcr-netd
	SOAK_SECONDS=$${SOAK_SECONDS:-1800} $(CARGO) test --locked -p mcr-cli --test network soak:: -- --ignored --nocapture

clean: ## remove what was built
	$(CARGO) clean
