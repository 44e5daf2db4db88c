#!/bin/bash
# beds: vm
# timeout: 200
# The unit tests that need WireGuard in the kernel, on a kernel that has it: links, addresses, routes, settings and peers
# over netlink, with `wg` and `ip` as oracles, and the reconciler while its exchanges with the kernel go wrong. On the other
# bed they are skipped for want of it.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/assert.sh"
need wg ip || done_testing

bundle=$(dirname "$WEFT")/weftPackageTests.xctest
if [ ! -x "$bundle" ]; then
    skip "the unit tests that need a kernel" "$bundle: swift build --build-tests"
    done_testing
fi
# Emulated, every exchange struck by some fault takes eight minutes: one in eight for each fault here, all of them nightly.
export WEFT_FAULT_STRIDE=8
output=$("$bundle" --testing-library swift-testing --filter 'KernelWireGuardTests|KernelNetworkTests|KernelFaultTests' 2>&1 < /dev/null |
    sed 's/\x1b\[[0-9;]*m//g')
# One line for each test, and none for its cases.
while read -r mark name; do
    if [ "$mark" = ✔ ]; then ok "$name"; else fail "$name" "a test that passes" "$(grep -F "$name" <<<"$output" | head -n 20)"; fi
done < <(grep -E '^(✔|✘) Test [^ ]+\(.*(passed|failed) after' <<<"$output" | sed -E 's/^(.) Test ([^ ]+) .*/\1 \2/' | grep -v ' run$' | sort -u)
same "nothing was skipped" "" "$(grep -E '^➜ (Test|Suite) .* skipped' <<<"$output")"
contains "the run ended" "Test run with" "$output"
done_testing
