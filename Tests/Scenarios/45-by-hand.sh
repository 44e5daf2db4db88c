#!/bin/bash
# What people do to a live mesh by hand: the link renamed, the program behind it killed. Each time the next run says what
# to do, or does it, and nothing is left behind.
# timeout: 120
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping || done_testing
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
converges fra

# ------------------------------------------------------------------------------------------------- another name

enter fra ip link set wg0 down
enter fra ip link set wg0 name other0
for command in plan apply down; do
    exits 1 "$command sees that the link was renamed" weft fra $command
    contains "$command: and says so" "is on the interface other0 here, and the topology wants it on wg0" "$output"
done
remedy=$(sed -n 's/^note: [^`]*`\([^`]*\)`.*/\1/p' <<<"$output")
contains "with a command that mends it" other0 "$remedy"
# As it is typed, but for where weft is and the question that is asked.
typed=${remedy/#weft down/$WEFT down --yes}
note "$remedy"
succeeds "which works" enter fra $typed
converges fra

# ------------------------------------------------------------------------------------------------- a killed program

# The process that serves the device; the kernel has none.
program() { enter fra sh -c 'grep -l "^iff:.wg0$" /proc/[0-9]*/fdinfo/* 2>/dev/null' | cut -d/ -f3 | sort -u; }
gone() { ! enter fra ip link show wg0 2>/dev/null; }
killed() {
    kill -KILL "$(program)"
    eventually 5 "its device goes with it" gone
    succeeds "its socket stays" enter fra test -S /run/wireguard/wg0.sock
}
if [ -n "$(program)" ]; then
    killed
    succeeds "apply starts another program" weft fra apply
    unchanged fra "and all is as it was"
    succeeds "that answers" enter fra wg show wg0
    killed
    succeeds "down" weft fra down
    same "leaves no socket" "" "$(enter fra ls -A /run/wireguard)"
    same "and no record" "" "$(enter fra sh -c 'ls /var/lib/weft/netns-*/wg0.json 2>/dev/null')"
    converges fra
else
    note "the kernel's device has no program"
fi
succeeds "down" weft fra down
done_testing
