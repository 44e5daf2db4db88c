#!/bin/bash
# More events from the kernel than an agent can look at, and more than the kernel keeps for it: it answers meanwhile, heals what
# went under them, and does not keep them.
# timeout: 120
# alone: in namespaces
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg python3 || done_testing
mesh_begin
mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "allowedIPs: [10.60.0.0/24]"

log=$(mesh_folder fra)/agent.log
launch fra "$WEFT" agent run "$topology" >>"$log" 2>&1
agent=$!
converged() { enter fra "$WEFT" agent status 2>/dev/null | grep -q '"stage" : "converged"'; }
eventually 20 "it takes the topology into force" converged
own() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$agent/status"; }
before=$(own)

# ---------------------------------------------------------------------------------------------------- more than it can read
burst() { enter fra "$here/../Beds/burst" "$@"; }
has_route() { enter fra ip route show 10.60.0.0/24 | grep -q wg0; }
burst add 20000 &
burst=$!
slowest=0 limit=2000
# The emulated machine takes its time to start a program.
[ "$BED" != vm ] || limit=5000
for _ in 1 2 3 4 5 6 7 8; do
    start=$(date +%s%N)
    enter fra "$WEFT" agent status >/dev/null || slowest=999999
    took=$((($(date +%s%N) - start) / 1000000))
    [ "$took" -le "$slowest" ] || slowest=$took
done
if [ "$slowest" -le "$limit" ]; then ok "status answers in the midst of 20,000 events"; else fail "status answers in the midst of 20,000 events" "$limit ms" "$slowest ms"; fi
status=0
wait "$burst" || status=$?
same "which were made" 0 "$status"
eventually 20 "and it comes to rest" converged

# ------------------------------------------------------------------------------------------------- more than the kernel keeps
# It drops them, and says so: all is dirty then.
kill -STOP "$agent"
enter fra ip route del 10.60.0.0/24 dev wg0
for _ in 1 2; do burst del 20000 && burst add 20000; done
kill -CONT "$agent"
eventually 20 "more events than the kernel keeps: what went under them is healed" has_route
contains "and they are said to have been too many" "more changes than it could keep" "$(cat "$log")"
eventually 20 "and it comes to rest again" converged
burst del 20000
eventually 20 "and again" converged
after=$(own)
note "of its own: $before kB before, $after kB after 100,000 events"
if [ "$after" -le $((before + 3000)) ]; then ok "it does not keep them"; else fail "it does not keep them" "$before kB" "$after kB"; fi
kill "$agent"
wait "$agent"
done_testing
