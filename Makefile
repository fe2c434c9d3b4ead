# SPDX-License-Identifier: Apache-2.0
# Shortcuts. The build is meson's, the tests are `meson test`'s.
BUILD ?= build

.PHONY: all packages demo check bench install clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

# What tests/packages.txt lists and this machine lacks (Debian).
packages:
	tests/install-packages.sh

demo: packages all
	DMM_BUILD=$(abspath $(BUILD)) tests/demo.sh

check: packages
	tests/check.sh

bench: packages all
	DMM_BUILD=$(abspath $(BUILD)) tests/bench/run.sh
	DMM_BUILD=$(abspath $(BUILD)) tests/bench/inside.sh
	DMM_BUILD=$(abspath $(BUILD)) tests/bench/loss.sh
	$(BUILD)/tests/bench/engine native

install: all
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) $(BUILD)-asan
