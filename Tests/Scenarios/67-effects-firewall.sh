#!/bin/bash
# What a plan says of the firewall's changes, against what they end: access rules, a kill switch, masquerading, and repairs
# of each; and of forwarding, which goes with what it was turned on for. What is called hitless loses nothing; what is
# called an outage ends connections, and only those that it names.
# alone: in namespaces
# timeout: 240
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/effects.sh"
. "$here/../Beds/traffic.sh"
need wg ping nft jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# gate has a LAN, and is ana's exit when she has one; beside is on the network that ana and gate are in, and in no mesh.
mesh_host gate ana bob beside
mesh_lan gate
mesh_host printer behind gate
lan=192.168.1.0/24 internet=203.0.113.1
enter hub ip route add $lan via "$(mesh_address gate)"
answers hub 80
topology_begin
gate() { topology_node gate 10.80.0.1 -- "endpoint: $(mesh_address gate)" "allowedIPs: [$lan]" "exit: true" "$@"; }
ana() { topology_node ana 10.80.0.2 -- "endpoint: $(mesh_address ana)" "$@"; }
gate
ana
topology_node bob 10.80.0.3 -- "endpoint: $(mesh_address bob)"
enter gate sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'
for host in gate ana bob; do succeeds "$host: apply" weft $host apply; done
eventually 20 "ana reaches gate" pings ana 10.80.0.1
eventually 20 "bob reaches gate" pings bob 10.80.0.1

table='.kind == "firewall"'
scope() { jq -r ".operations[] | select($table) | .effectScope" <<<"$plan"; }
hitless() { # HOST WHAT FROM TARGET
    labelled "$1" "$2" hitless "$table"
    amid "$3" "$4" weft "$1" apply
    same "$2: no ping is lost" 0 "$lost"
}
outage() { # HOST WHAT SCOPE FROM TARGET
    labelled "$1" "$2" outage "$table"
    same "$2: and whose" "$3" "$(scope)"
    amid "$4" "$5" weft "$1" apply
    same "$2: pings end" gone "$gone"
}
# The same change, for those who are not named.
spares() { # HOST WHAT FROM TARGET
    amid "$3" "$4" weft "$1" apply
    same "$2: others lose nothing" 0 "$lost"
}

# ------------------------------------------------------------------------------------------------------ masquerading

begin_stream plain printer tcp $internet 80
succeeds "the LAN speaks with the world" stream_grows plain 20
gate "masquerade: true"
labelled gate "masquerading begins" outage "$table"
same "masquerading begins: and whose" "connections that are to be masqueraded" "$(scope)"
succeeds "masquerading begins" weft gate apply
# Until the stream has noticed, and said so.
sleep 1
refuses "which ends what was not masqueraded" stream_grows plain 2
end_stream plain >/dev/null

begin_stream masqueraded printer tcp $internet 80
succeeds "the LAN speaks with the world as gate" stream_grows masqueraded 20
gate "masquerade: {sources: [10.80.0.0/16]}"
labelled gate "the LAN is masqueraded no longer" hitless "$table"
succeeds "the LAN is masqueraded no longer" weft gate apply
sleep 0.2
succeeds "connections keep the address that they have" stream_grows masqueraded 2
gate "masquerade: {interfaces: [eth0]}"
labelled gate "it is again, in other words" hitless "$table"
succeeds "it is again, in other words" weft gate apply
sleep 0.2
succeeds "connections keep the address that they have" stream_grows masqueraded 2
gate
labelled gate "masquerading ends" outage "$table"
same "masquerading ends: and whose" "masqueraded connections" "$(scope)"
succeeds "masquerading ends" weft gate apply
sleep 1
refuses "which ends what was masqueraded" stream_grows masqueraded 2
end_stream masqueraded >/dev/null

# ------------------------------------------------------------------------------------------------------ access rules

rules() { { echo "access:"; cat; } | topology_file access.yaml; }
rules <<<"  - {from: [ana], to: [gate], ports: [icmp]}"
outage gate "access rules are introduced" \
    "connections that no access rule permits, connections from the mesh's addresses by another way" bob 10.80.0.1
rm "$topology/access.yaml"
hitless gate "access rules go" ana 10.80.0.1
rules <<<"  - {from: [ana], to: [gate], ports: [icmp]}"
spares gate "access rules are introduced" ana 10.80.0.1

two() { rules <<<"  - {from: [ana], to: [gate], ports: [icmp]}"$'\n'"  - {from: [bob], to: [gate], ports: [icmp]}"; }
two
hitless gate "a rule is added" ana 10.80.0.1
rules <<<"  - {from: [ana], to: [gate], ports: [icmp]}"
outage gate "a rule is taken back" 'connections that only the access rule "bob → gate: icmp" permitted' bob 10.80.0.1
two
succeeds "it is there again" weft gate apply
rules <<<"  - {from: [ana], to: [gate], ports: [icmp]}"
spares gate "a rule is taken back" ana 10.80.0.1
rules <<<"  - {from: [ana], to: [gate]}"
hitless gate "a rule is widened" ana 10.80.0.1
rules <<<"  - {from: [ana], to: [gate], ports: [tcp/80]}"
outage gate "a rule is narrowed" 'connections that only the access rule "ana → gate" permitted' ana 10.80.0.1
rules <<<"  - {from: [ana], to: [gate]}"
succeeds "it is wide again" weft gate apply

# Somebody's hand, and its repair.
last() { enter gate nft -a list chain inet weft-wg0 "$1" | sed -n 's/.*reject.* # handle //p'; }
enter gate nft delete rule inet weft-wg0 access-in handle "$(last access-in)"
outage gate "what refuses was deleted" "connections that no access rule permits" bob 10.80.0.1
enter gate nft insert rule inet weft-wg0 access-in accept
outage gate "all was accepted by hand" "connections that no access rule permits" bob 10.80.0.1
enter gate nft add rule inet weft-wg0 input counter
hitless gate "a counter was added" ana 10.80.0.1
rm "$topology/access.yaml"
succeeds "without rules" weft gate apply

# ------------------------------------------------------------------------------------------------------- kill switch

ana "useExit: gate"
succeeds "gate: apply" weft gate apply
succeeds "ana: apply" weft ana apply --confirm-within off
near=$(mesh_address beside)
succeeds "ana reaches who is near" pings ana "$near"
ana "useExit: gate" "killSwitch: true"
outage ana "a kill switch comes" "connections outside the tunnel" ana "$near"
ana "useExit: gate" "killSwitch: {allow: [198.18.0.0/15]}"
hitless ana "it allows more" ana 10.80.0.1
succeeds "so that ana reaches who is near" pings ana "$near"
ana "useExit: gate" "killSwitch: {allow: [198.18.0.0/15, 192.0.2.0/24]}"
hitless ana "it allows yet more" ana "$near"
ana "useExit: gate" "killSwitch: {allow: [192.0.2.0/24]}"
outage ana "it allows less" "connections outside the tunnel" ana "$near"
ana "useExit: gate"
hitless ana "it goes" ana 10.80.0.1
succeeds "so that ana reaches who is near" pings ana "$near"
ana "useExit: gate" "killSwitch: true"
spares ana "a kill switch comes" ana 10.80.0.1

enter ana nft flush chain inet weft-wg0 output
outage ana "it was flushed" "connections outside the tunnel" ana "$near"
enter ana nft delete table inet weft-wg0
labelled ana "the table was deleted" outage "$table"
contains "the table was deleted: and whose" "connections outside the tunnel" "$(scope)"
spares ana "the table is put back" ana 10.80.0.1

# -------------------------------------------------------------------------------------------------------- forwarding

# What gate passes on without the mesh goes by the switch that the mesh turned on.
ana
succeeds "ana without an exit" weft ana apply
topology_node gate 10.80.0.1 -- "endpoint: $(mesh_address gate)"
switch='.kind == "sysctl" and .object.path == "net/ipv4/ip_forward"'
eventually 5 "the LAN reaches the world through gate" pings printer $internet
labelled gate "forwarding ends" outage "$switch"
same "forwarding ends: and whose" "all IPv4 that this host forwards" \
    "$(jq -r ".operations[] | select($switch) | .effectScope" <<<"$plan")"
matches "and so it says in words" "ip_forward 1 → 0, as before weft  outage: all IPv4 that this host forwards" \
    "$(weft gate plan)"
amid printer $internet weft gate apply
same "forwarding ends: pings through gate end" gone "$gone"
gate
hitless gate "it begins again" ana 10.80.0.1
succeeds "so that the LAN reaches the world" pings printer $internet
topology_node gate 10.80.0.1 -- "endpoint: $(mesh_address gate)"
spares gate "forwarding ends" ana 10.80.0.1
done_testing
