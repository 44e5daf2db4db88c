#!/bin/bash
# beds: vm
# timeout: 400
# The reconciler on a kernel with WireGuard while its exchanges with it go wrong, one after the other.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/assert.sh"
need wg ip nft || done_testing
# Emulated, every exchange struck by every fault takes an hour: one in eight for each fault here, so that with 18 faults
# each is struck twice; nightly one in three, with more faults.
export WEFT_FAULT_STRIDE=8
if [ -n "${WEFT_NIGHTLY-}" ]; then WEFT_FAULT_STRIDE=3; fi
unit_tests KernelFaultTests
done_testing
