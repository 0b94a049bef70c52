# The menu. `make` builds, `make demo` shows, `make test` proves.

PREFIX ?= /opt/cni
BINDIR ?= $(PREFIX)/bin
# One name for folder, package and program.
PROGRAMS := $(notdir $(patsubst %/,%,$(dir $(wildcard plugins/*/Cargo.toml ipam/*/Cargo.toml)))) cnitool

# A target that is named, even if it is the host's own, keeps the static flag away from build
# scripts and procedural macros, which cannot be static.
TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
BUILD := RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist --target $(TARGET)
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E env "PATH=$$PATH:/usr/sbin:/sbin")
# Where LINKED=1 has its tests find `girder` by every name.
LINK = $(if $(LINKED),mkdir -p target/linked && cd target/linked && ln -sf ../../bin/girder girder && \
	for program in $(PROGRAMS); do ln -sf girder $$program; done)

.PHONY: build girder demo test test-vm test-runtimes torture lint bench bench-runtimes image install clean

build:
	$(BUILD) $(PROGRAMS:%=--bin %)
	@mkdir -p bin
	@for program in $(PROGRAMS); do \
		cp target/$(TARGET)/dist/$$program bin/.$$program && mv -f bin/.$$program bin/$$program; \
	done

# All of them in one executable.
girder:
	$(BUILD) --bin girder
	@mkdir -p bin && cp target/$(TARGET)/dist/girder bin/.girder && mv -f bin/.girder bin/girder

# Two pods on one bridge, in a throw-away host.
demo: build
	@cargo build --locked --quiet --package tests --bin demo
	@$(SUDO) target/debug/demo

# CNI_BIN_DIR=/usr/lib/cni runs the same suite against the Go plugins, LINKED=1 against `girder`.
test: build girder
	@$(SUDO) tests/prepare
	cargo test --locked --workspace --exclude tests
	cargo test --locked --package tests --no-run
	@rm -f target/left-to-the-vm && touch target/left-to-the-vm
	@$(LINK)
	$(SUDO) RUST_TEST_THREADS=$${RUST_TEST_THREADS:-8} $(if $(TORTURE),TORTURE=1) \
		$(if $(LINKED),CNI_BIN_DIR=$(CURDIR)/target/linked) \
		cargo test --locked --package tests --test suite
	@tests/vm left

# What the kernel here could not run, on Debian's, and a few tests on an older and a newer one.
# ALL=1 runs everything on Debian's, which takes more than an hour.
test-vm: build
	@suite=$$(cargo test --locked --package tests --no-run --message-format=json \
		| sed -n 's,.*"executable":"\([^"]*/suite-[^"]*\)".*,\1,p') && \
	$(SUDO) tests/vm $(if $(ALL),all,test) "$$suite"

# Real runtimes and their pods: containerd, podman. CNI_BIN_DIR and LINKED as above.
test-runtimes: build girder
	@$(SUDO) tests/prepare runtimes
	cargo test --locked --package tests --test runtimes --no-run
	@$(LINK)
	$(SUDO) RUST_TEST_THREADS=$${RUST_TEST_THREADS:-2} \
		$(if $(LINKED),CNI_BIN_DIR=$(CURDIR)/target/linked) \
		cargo test --locked --package tests --test runtimes

# The same with every fault, kill and race instead of a sample of them; takes half an hour.
torture:
	@$(MAKE) --no-print-directory test TORTURE=1

lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

# Ours, the Go plugins (if they are installed) and the bare kernel, interleaved.
# ARGS="--only masq --rounds 100" measures less, or more often.
bench: build girder
	@cargo build --locked --quiet --release --package tests --bin bench
	@$(SUDO) target/release/bench $(ARGS)

# What a pod costs containerd, with ours and with the Go plugins.
bench-runtimes: build girder
	@$(SUDO) tests/prepare runtimes
	@cargo test --locked --package tests --test runtimes --no-run
	@$(LINK)
	@$(SUDO) $(if $(LINKED),CNI_BIN_DIR=$(CURDIR)/target/linked) \
		cargo test --locked --package tests --test runtimes -- --ignored --nocapture

# A container image of that executable, which `girder install` is run by: conf/kubernetes.
image: girder
	@cnitool/image bin/girder target/girder.tar

# Replaces each file by a rename: a plugin that is running keeps its own. LINKED=1 installs one
# executable, and under each name a hard link to it.
install: $(if $(LINKED),girder,build)
	install -d $(DESTDIR)$(BINDIR)
	$(if $(LINKED),install -m 0755 bin/girder $(DESTDIR)$(BINDIR)/.girder.new && \
		mv -f $(DESTDIR)$(BINDIR)/.girder.new $(DESTDIR)$(BINDIR)/girder)
	@for program in $(PROGRAMS); do \
		$(if $(LINKED),ln -f $(DESTDIR)$(BINDIR)/girder,install -m 0755 bin/$$program) \
			$(DESTDIR)$(BINDIR)/.$$program.new && \
		mv -f $(DESTDIR)$(BINDIR)/.$$program.new $(DESTDIR)$(BINDIR)/$$program && \
		echo "$(DESTDIR)$(BINDIR)/$$program" || exit 1; \
	done

clean:
	cargo clean
	rm -rf bin
