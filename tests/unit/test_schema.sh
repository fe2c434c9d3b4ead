#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The JSON Schema of the policy file says what the parser says. Needs no root.
#   test_schema.sh DMM_POLICY GEN_POLICIES
set -u
python=/usr/bin/python3 # Debian's, whatever else is in PATH
here=$(cd "$(dirname "$0")" && pwd)
for package in python3-jsonschema python3-yaml; do
	$python -c "import ${package#python3-}" 2>/dev/null || {
		echo "SKIP: no $package: tests/install-packages.sh installs it"
		exit 77
	}
done
programs=("$(realpath "$1")" "$(realpath "$2")") || exit 1
cd "$here/../.." || exit 1
exec $python -B tests/unit/schema_check.py "${programs[@]}"
