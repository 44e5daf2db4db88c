#!/bin/bash
# beds: vm
# timeout: 60
# What Tests/bench measures, at a hundredth of its size and untimed: that the benchmark does what its figures say. Each of
# its commands ends with an error where a plan is not what it has to be.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/assert.sh"
bench=$(dirname "${WEFT_UNIT_TESTS:-.build/debug/none}")/weft-bench
if [ ! -x "$bench" ]; then
    skip "the benchmark" "$bench: swift build"
    done_testing
fi

succeeds "peers and routes: made" "$bench" make wg0 100
succeeds "a pass with nothing to do" "$bench" -r 2 pass wg0 100
succeeds "1 % of the peers changed" "$bench" -r 2 change wg0 100 1
succeeds "a cold apply" "$bench" -r 2 apply wg0 100
ip link del wg0
succeeds "a firewall: made" "$bench" -f 100 20 make wg1 1
succeeds "a firewall's pass with nothing to do" "$bench" -f 100 20 -r 2 pass wg1 1
succeeds "a firewall changed throughout, in one operation" "$bench" -f 100 20 -r 2 ruleset wg1 1
done_testing
