#!/bin/bash
# A thousand peers go at once, also where RCU takes its time: there the kernel waits 12 ms for each peer of a link that is
# deleted, and nothing where the peers went first.
# beds: vm
# vm: --no-expedited-rcu --icount
# Idle time is skipped, also while the host reads a file for the guest: on a busy machine its clock runs many times faster.
# timeout: 400
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/large.sh"
need wg || done_testing
mesh_begin
mesh_host fra
_weft_key fra
many_nodes 1001
lacks "RCU is not hurried" rcu_expedited "$(cat /proc/cmdline)"

# Once before it counts, so that nothing has to be read from the host then.
succeeds "an apply" weft fra apply
succeeds "a down" weft fra down
timed "1,000 peers" weft fra apply
timed "1,000 peers go" weft fra down
refuses "with their interface" enter fra ip link show wg0
down=$took

# What the kernel's part would be without that order.
enter fra ip link add wg9 type wireguard
awk '/publicKey:/ && seen++ { print "[Peer]\nPublicKey = " $2 }' "$topology/mesh.yaml" >"$_mesh_folder/peers"
enter fra wg setconf wg9 "$_mesh_folder/peers"
timed "the link deleted with its 1,000 peers" enter fra ip link delete wg9
note "weft down of 1,000 peers took $down s; the link with its peers $took s"
if awk -v down="$down" -v link="$took" 'BEGIN { exit !(down < 1 || down < link / 3) }'; then
    ok "weft is done long before that, or in a second"
else
    fail "weft is done long before that, or in a second" "under 1 s, or a third of $took s" "$down s"
fi
done_testing
