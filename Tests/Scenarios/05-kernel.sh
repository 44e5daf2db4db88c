#!/bin/bash
# beds: vm
# timeout: 100
# The unit tests that need WireGuard in the kernel, on a kernel that has it: links, addresses, routes, settings and peers
# over netlink, with `wg` and `ip` as oracles. On the other bed they are skipped for want of it.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/assert.sh"
need wg ip || done_testing
unit_tests 'KernelWireGuardTests|KernelNetworkTests'
done_testing
