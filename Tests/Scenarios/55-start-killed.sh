#!/bin/bash
# Where the kernel has no WireGuard, weft is killed at system calls inside the start and the end of the program in its
# place: before and after its record is written, while it starts, while it is spoken to. The next run takes up its own
# program again, starts no second one, and never touches one that somebody else has started.
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg wireguard-go strace jq || done_testing
if [ "$BED" = vm ]; then
    skip "this scenario" "a kernel without WireGuard"
    done_testing
fi
mesh_begin
mesh_host fra
key=$(wg genkey | wg pubkey)
topology_begin
topology_node fra 10.80.0.1 -- "listenPort: 51820"
topology_file node-ams.yaml <<YAML
nodes:
  ams:
    publicKey: $key
    addresses: [10.80.0.2]
    endpoint: 198.18.9.2:51820
YAML

# Runs weft and kills it as it enters the NTH of a system call; says whether it came so far.
killed_at() { # CALL NTH COMMAND
    local status=0
    enter fra strace -o /dev/null -e "trace=$1" -e "inject=$1:signal=KILL:when=$2" \
        "$WEFT" "$3" --yes "$topology" > "$_mesh_folder/killed" 2>&1 || status=$?
    [ $status = 137 ] || [ $status = 265 ]
}

# The processes that serve a device in the host's namespace.
programs() { enter fra sh -c 'for p in $(pgrep -x wireguard-go); do [ "$(readlink /proc/$p/ns/net)" = "$(readlink /proc/self/ns/net)" ] && echo $p; done'; }

for call in openat rename unlink clone3,vfork,clone connect sendto fsync; do
    nth=1 reached=0 wrong=
    while [ $nth -le 400 ]; do
        if ! { killed_at $call $nth apply; } 2> /dev/null; then break; fi
        reached=$((reached + 1))
        if ! said=$(weft fra apply 2>&1); then wrong+="after apply was killed at $call $nth: $said"$'\n'; fi
        if ! weft fra plan --detailed-exitcode > /dev/null 2>&1; then wrong+="after $call $nth something is left to do"$'\n'; fi
        found=$(programs | wc -l)
        [ "$found" = 1 ] || wrong+="after $call $nth there are $found programs"$'\n'
        { killed_at $call $nth down; } 2> /dev/null
        if ! said=$(weft fra down 2>&1); then wrong+="after down was killed at $call $nth: $said"$'\n'; fi
        # A program that was killed lets go of its device in its own time.
        for _ in {1..100}; do
            [ -n "$(programs)" ] || break
            sleep 0.1
        done
        [ -z "$(programs)" ] || wrong+="after down at $call $nth a program is left"$'\n'
        # Most files that are opened are libraries and the topology; every call of the others counts.
        if [ $call = openat ]; then nth=$((nth + 9)); else nth=$((nth + 1)); fi
    done
    weft fra down > /dev/null 2>&1
    same "killed at every $call of a start and an end, the next run converges" "" "$wrong"
    if [ $reached -gt 0 ]; then ok "it was killed at $call"; else fail "it was killed at $call" "at least one" "$(< "$_mesh_folder/killed")"; fi
    note "$call: $reached points"
done

# Ctrl-C is no kill: the batch under way comes to its end, and it is said how far the run got.
said=
for nth in 1 2 3 4 5 6 7 8 9 10 11 12; do
    status=0
    said=$(enter fra strace -o /dev/null -e trace=connect -e "inject=connect:signal=INT:when=$nth" \
        "$WEFT" apply --yes "$topology" 2>&1) || status=$?
    ! grep -q "interrupted by SIGINT" <<<"$said" || break
    weft fra down > /dev/null 2>&1
done
matches "interrupted, an apply says how far it got" "interrupted by SIGINT after [1-9][0-9]* of [0-9]+ operations" "$said"
contains "and how it goes on" "run the same command again" "$said"
same "by its exit status too" 130 "$status"
converges fra
succeeds "down" weft fra down

# A status in between tells what is there.
alias=none
for nth in 1 2 3 4 5 6 7 8 9 10; do
    { killed_at connect $nth apply; } 2> /dev/null || break
    alias=$(enter fra ip -j link show wg0 2> /dev/null | jq -r '.[0].ifalias // "empty"')
    [ "$alias" = empty ] && break
    weft fra down > /dev/null 2>&1
done
same "it is killed before the device bears its mark" empty "$alias"
same "status says that it is there" "true null" "$(weft fra status --format json | jq -r '"\(.present) \(.absence)"')"
# A site behind it: the host has firewall rules, which are written before the device is made.
topology_node fra 10.80.0.1 -- "listenPort: 51820" "allowedIPs: [10.30.0.0/24]"
converges fra
enter fra ip link delete wg0
contains "what was in force is gone" "The interface is gone, and the rest still holds." "$(weft fra status)"
succeeds "down" weft fra down
refuses "an apply whose program does not start" enter fra env WG_QUICK_USERSPACE_IMPLEMENTATION=/bin/false \
    "$WEFT" apply --yes "$topology"
contains "names it" "failed   + interface wg0: /bin/false: it ended with status 1" "$output"
lacks "nothing that never was is gone" "is gone" "$(weft fra status)"
contains "the rest holds" "The interface is not there, and the rest holds: no apply has come to its end yet." "$(weft fra status)"
succeeds "down" weft fra down
topology_node fra 10.80.0.1 -- "listenPort: 51820"

# Somebody else's program under the mesh's name, with a record of ours that was cut off before the program ran.
{ killed_at clone3,vfork,clone 1 apply; } 2> /dev/null
enter fra sh -c 'wireguard-go wg0 > /dev/null 2>&1'
theirs=$(programs)
refuses "an apply leaves somebody else's program alone" weft fra apply
contains "and says what is in the way" "wg0" "$output"
weft fra down > /dev/null 2>&1
same "so does a down" "$theirs" "$(programs)"
enter fra ip link delete wg0
converges fra
succeeds "and once it is gone, all is as ever" weft fra down
done_testing
