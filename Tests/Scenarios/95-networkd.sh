#!/bin/bash
# A host whose network systemd-networkd manages: what is networkd's stays as it is, and that networkd takes away what is
# not its own is said, with a remedy that is enough; without it, apply and an agent make it again.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
networkd=/lib/systemd/systemd-networkd
need wg ping jq || done_testing
[ -x $networkd ] || {
    skip "this scenario" "Debian's package systemd"
    done_testing
}
mesh_begin

mesh_host exit laptop
topology_begin
topology_node exit 10.80.0.1 -- "endpoint: $(mesh_address exit)" "exit: true" "masquerade: true"
topology_node laptop 10.80.0.2 -- "useExit: exit"

# Without the system's bus, and without udev, for which it does not wait where /sys cannot be written.
enter laptop mount -o remount,bind,ro /sys
enter laptop mkdir -p /etc/systemd/network /run/systemd
enter laptop tee /etc/systemd/network/10-lan.network >/dev/null <<'END'
[Match]
Name=lan0
[Network]
Address=192.168.77.1/24
LinkLocalAddressing=no
IPv6AcceptRA=no
[Route]
Destination=10.99.0.0/16
Gateway=192.168.77.2
[Route]
Destination=10.98.0.0/16
Gateway=192.168.77.2
Table=77
[RoutingPolicyRule]
From=192.168.77.0/24
Table=77
Priority=900
END
enter laptop tee /etc/systemd/network/20-usb.network >/dev/null <<'END'
[Match]
Name=usb*
[Network]
Address=192.168.78.1/24
LinkLocalAddressing=no
IPv6AcceptRA=no
END
enter laptop ip link add lan0 type veth peer name lan1
enter laptop ip link set lan1 up
starts() { # WHAT
    launch laptop $networkd >/dev/null 2>&1
    process=$!
    eventually 20 "$1" eval 'enter laptop ip rule | grep -q ^900: && [ -n "$(enter laptop ip route show 10.99.0.0/16)" ] &&
        [ -n "$(enter laptop ip route show table 77)" ]'
}
# A link that comes is configured, and before that what is not networkd's is taken away.
plugged() { # NAME
    enter laptop ip link add "$1" type veth peer name other
    enter laptop ip link set other up
    eventually 20 "networkd configures $1" eval "enter laptop ip address show dev $1 | grep -q 192.168.78.1/24"
    # It does so again once the link has a carrier.
    sleep 1
    enter laptop ip link delete "$1"
    sleep 1
}
# What is networkd's on the link that stays.
theirs() {
    enter laptop ip address show dev lan0
    enter laptop ip route show dev lan0
    enter laptop ip route show table 77
    enter laptop ip rule | grep ^900:
}
ours() { enter laptop sh -c 'ip rule; ip -6 rule' | grep "proto 119"; }
reaches() { enter laptop ping -c 1 -W 1 203.0.113.1; }
tunnelled() { enter laptop ip route get 203.0.113.1 | grep -q "dev wg0"; }
managers() { weft laptop plan --format json | jq -r '.hindrances[] | select(.kind == "manager") | .remedy'; }
starts "networkd starts"

# --------------------------------------------------------------------------------------------------------- side by side
before=$(theirs)
contains "networkd has given the address" 192.168.77.1/24 "$before"
contains "and its routes" "10.98.0.0/16" "$before"
plan=$(weft laptop plan)
contains "the plan names it" "systemd-networkd removes routes and policy rules that are not its own" "$plan"
converges exit
converges laptop
eventually 10 "the tunnel carries" reaches
succeeds "what leaves the host goes through it" tunnelled
same "what is networkd's is as it was" "$before" "$(theirs)"
contains "doctor names it too" "systemd-networkd removes" "$(weft laptop doctor 2>&1)"

# ------------------------------------------------------------------------------------------------------ a link is plugged in
rules=$(ours)
plugged usb0
eventually 10 "and has taken the mesh's rules away" eval '[ -z "$(ours)" ]'
exits 2 "the plan shows it" weft laptop plan --detailed-exitcode
contains "as rules to add" "policy rules" "$output"
converges laptop
same "they are as they were" "$rules" "$(ours)"
eventually 10 "the tunnel carries again" reaches
same "and what is networkd's is as it was" "$before" "$(theirs)"

# --------------------------------------------------------------------------------------------------------------- an agent
launch laptop "$WEFT" agent run "$topology" >"$_mesh_folder/agent" 2>&1
agent=$!
converged() { [ "$(enter laptop "$WEFT" agent status 2>/dev/null | jq -r '.meshes[0].stage')" = converged ]; }
eventually 20 "an agent watches over it" converged
plugged usb1
eventually 10 "the agent makes the rules again" eval '[ "$(ours)" = "$rules" ]'
matches "and says who took them away" "changed from outside: .*rule of priority [0-9]+ removed by systemd-network" \
    "$(cat "$_mesh_folder/agent")"
eventually 10 "and the tunnel carries" reaches
kill $agent
wait $agent 2>/dev/null

# ---------------------------------------------------------------------------------------------------------------- remedy
unchanged laptop "the plan has nothing to do"
remedy=$(managers)
contains "the remedy is a file" /etc/systemd/networkd.conf.d/weft.conf "$remedy"
commands=$(sed -n 's/.*`\(.*\); systemctl restart systemd-networkd`.*/\1/p' <<<"$remedy")
succeeds "which is written" enter laptop bash -c "$commands"
kill $process
wait $process 2>/dev/null
# It leaves what it has made, by which it would be taken for started.
enter laptop ip rule del priority 900
starts "networkd starts with it"
plugged usb2
same "the mesh's rules stay" "$rules" "$(ours)"
unchanged laptop "the plan has nothing to do"
same "and names networkd no longer" "" "$(managers)"
succeeds "the tunnel carries on" reaches

# ------------------------------------------------------------------------------------------------------------------ down
succeeds "down" weft laptop down
same "takes the mesh's rules" "" "$(ours)"
same "and nothing of networkd's" "$before" "$(theirs)"
kill $process
wait $process 2>/dev/null
done_testing
