#!/bin/bash
# An agent that is killed outright again and again, while topologies come and others change what it made: whoever starts it
# next finds a host that it can put right. It always converges, nothing foreign is ever touched, and at no moment is the
# device without peers.
# timeout: 900
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg python3 || done_testing
mesh_begin
mesh_host fra
# In a night, as often as is promised; otherwise a few times.
kills=25
[ "$BED" != vm ] || kills=8
[ -z "${WEFT_NIGHTLY-}" ] || kills=500
kills=${WEFT_KILLS:-$kills}
RANDOM=${WEFT_SEED:-$$}
seed=$RANDOM
RANDOM=$seed
note "$kills kills; seed $seed (WEFT_SEED)"

# ------------------------------------------------------------------------------------------------------- four topologies
declare -A keys
for name in one two three four; do keys[$name]=$(wg genkey | wg pubkey); done
peer() { # NAME NUMBER YAML…
    local name=$1 number=$2
    {
        printf 'nodes:\n  %s:\n    publicKey: %s\n    addresses: [10.80.0.%s, "fd80::%s"]\n' "$name" "${keys[$name]}" "$number" "$number"
        shift 2
        printf '    %s\n' "$@"
    } >"$topology/node-$name.yaml"
}
variants=()
for number in 0 1 2 3; do
    topology_begin
    topology_node fra "10.80.7.$number" fd80::77 -- "listenPort: 5182$number" "mtu: $((1380 + number))" "allowedIPs: [10.30.0.0/24]"
    peer one 11 'endpoint: 198.18.9.1' "allowedIPs: [10.2$number.0.0/24, \"fd2$number::/64\"]"
    peer two 12 "endpoint: 198.18.9.2$number" "persistentKeepalive: $((20 + number))"
    [ $number = 1 ] || peer three 13 'endpoint: 198.18.9.3' "allowedIPs: [10.2$((number + 4)).0.0/24]"
    [ $number = 2 ] || peer four "$((14 + number))" 'endpoint: 198.18.9.4'
    variants+=("$topology")
done
current=$(mesh_folder fra)/current
topology=$current
choose() { ln -sfn "${variants[$1]}" "$current.new" && mv -T "$current.new" "$current"; }

# ------------------------------------------------------------------------------------------------------ what is foreign
enter fra sh -ec '
    ip link add foreign0 type bridge
    ip link set foreign0 addrgenmode none
    ip link set foreign0 up
    ip address add 192.168.7.1/24 dev foreign0
    ip route add 10.44.0.0/16 dev foreign0 proto 119 metric 5
    ip -6 route add fd44::/64 dev foreign0
    ip route add blackhole 10.45.0.0/16 table 700
    ip rule add from 192.168.7.0/24 table 700 priority 900
    nft "add table inet foreign; add chain inet foreign c { type filter hook forward priority 10; }; add rule inet foreign c ip daddr 192.0.2.1 drop"'
mesh_device fra wg9 >/dev/null
enter fra sh -ec "
    wg set wg9 listen-port 52000 peer ${keys[one]} allowed-ips 10.80.0.11/32,10.99.0.0/16 endpoint 198.18.9.9:1
    ip address add 10.99.0.1/24 dev wg9
    ip link set wg9 up addrgenmode none
    ip route add 10.98.0.0/16 dev wg9"
others() {
    enter fra sh -c 'printf "%s\n" link address rule "route show table all" | ip -o -batch -
        printf "%s\n" rule "route show table all" | ip -6 -o -batch -
        wg show wg9 dump
        nft list table inet foreign' 2>/dev/null |
        grep -vE '[: ]wg0[: ]|dev wg0|^unreachable' | sed -E 's/ expires [0-9]+sec//; s/_lft [0-9]+sec/_lft/g' | sort
}

# --------------------------------------------------------------------------------------------------------------- under way
agent_log=$(mesh_folder fra)/agent.log
agent_start() {
    : >"$agent_log"
    launch fra "$WEFT" agent run --poll 1 "$current" >>"$agent_log" 2>&1
    agent=$!
}
agent_kill() {
    kill -KILL "$agent" 2>/dev/null
    wait "$agent" 2>/dev/null
}
is_there() { grep -q "the host is as the topology wants it" "$agent_log"; }

choose 0
agent_start
eventually 30 "it converges" is_there
others_before=$(others)
# What was written just now may be half of what is to come: an agent that starts waits for it, and goes by what was before.
sleep 2.5
# Nobody removes the interface or all peers, so every look must find some.
cat >"$(mesh_folder fra)/sample.sh" <<'END'
looks=0 empty=0
trap 'echo "$looks $empty" >"$1"; exit 0' TERM
while :; do
    peers=$(wg show wg0 peers 2>/dev/null)
    looks=$((looks + 1))
    [ -n "$peers" ] || empty=$((empty + 1))
done
END
launch fra bash "$(mesh_folder fra)/sample.sh" "$(mesh_folder fra)/sampled"
sampler=$!

outside() { # Somebody changes something of the mesh's; that it is not there just now is no matter.
    case $((RANDOM % 8)) in
    0) enter fra ip route flush dev wg0 proto 119 ;;
    1) enter fra ip -6 route flush dev wg0 proto 119 ;;
    2) enter fra ip address flush dev wg0 scope global ;;
    3) enter fra wg set wg0 peer "${keys[two]}" remove ;;
    4) enter fra wg set wg0 peer "${keys[one]}" allowed-ips 10.97.0.0/24 ;;
    5) enter fra nft delete table inet weft-wg0 ;;
    6) enter fra ip link set wg0 mtu 1300 ;;
    7) enter fra sysctl -qw net.ipv4.ip_forward=0 ;;
    esac >/dev/null 2>&1
}
pause() { sleep "$(printf '0.%03d' $((RANDOM % $1)))"; }

at_work=0 failed=0
for ((number = 1; number <= kills; number++)); do
    # In the middle of what it does about this.
    : >"$agent_log"
    choose $((RANDOM % 4))
    outside
    pause $([ "$BED" = vm ] && echo 250 || echo 120)
    is_there || at_work=$((at_work + 1))
    agent_kill
    [ $((RANDOM % 2)) = 0 ] || outside
    agent_start
    # Half of the time the next one does not get to an end either.
    if [ $((RANDOM % 2)) = 0 ] && [ $number -lt "$kills" ]; then
        pause $([ "$BED" = vm ] && echo 999 || echo 200)
        continue
    fi
    problem=
    if ! _assert_poll 30 is_there; then
        problem="it does not converge: $(cat "$agent_log")"
    else
        weft fra plan --detailed-exitcode >"$(mesh_folder fra)/plan" 2>&1 || problem="a plan is not empty: $(cat "$(mesh_folder fra)/plan")"
        found=$(others)
        [ "$found" = "$others_before" ] || problem+=$(diff <(echo "$others_before") <(echo "$found"))
    fi
    if [ -n "$problem" ]; then
        failed=$((failed + 1))
        fail "kill $number" "a host as the topology wants it" "$problem"
    fi
    [ $failed -lt 5 ] || break
done
same "after $kills kills, the next agent always put it right" 0 $failed
[ $at_work -gt 0 ] && ok "$at_work of them were in the middle of something" ||
    fail "some of them were in the middle of something" "one at least" $at_work
kill $sampler
wait $sampler 2>/dev/null
read -r looks empty <"$(mesh_folder fra)/sampled"
same "in $looks looks, the device was never without peers" 0 "$empty"
[ "$looks" -gt $((kills * 3)) ] && ok "and there were enough of them" || fail "and there were enough of them" "$((kills * 3))" "$looks"
kill "$agent"
wait "$agent" 2>/dev/null
succeeds "it goes" enter fra "$WEFT" down --yes "$current"
same "without a trace" "$others_before" "$(others)"
done_testing
