#!/bin/bash
# Peers come, change and go; a prefix moves from one to another. Those who are not concerned lose no packet and shake no
# hands, and the moving prefix is never at neither.
# alone: in namespaces
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping iperf3 jq || done_testing
mesh_begin

mesh_host fra ams ana bob cleo
topology_begin
address() { mesh_address "$1" 4; }
topology_node fra 10.80.0.1 -- "endpoint: $(address fra)"
topology_node ams 10.80.0.2 -- "endpoint: $(address ams)"
topology_node ana 10.80.0.3 -- "endpoint: $(address ana)" "allowedIPs: [10.99.0.0/24]"
topology_node bob 10.80.0.4 -- "endpoint: $(address bob)"
topology_node cleo 10.80.0.5 -- "endpoint: $(address cleo)"
for host in fra ams ana bob cleo; do weft $host apply > /dev/null; done
# Both answer for the prefix, so that a packet is lost only where it has no owner.
for host in ana bob; do enter $host ip address add 10.99.0.1/32 dev lo; done
for host in ams ana bob cleo; do eventually 20 "fra reaches $host" enter fra ping -c 1 -W 1 "$(awk -F'"' '/addresses/ { print $2 }' "$topology/node-$host.yaml")"; done
eventually 20 "fra reaches the prefix at ana" enter fra ping -c 1 -W 1 10.99.0.1

# loss FILE: how many pings of a finished run were lost.
loss() { awk '/packets transmitted/ { print $1 - $4 }' "$1"; }
# effect PEER: the session effect that the plan gives to the change of a peer, from $plan.
effect() { jq -r --arg key "$(public_key "$1")" '.operations[] | select(.kind == "peer" and .object.publicKey == $key) | .effect' <<<"$plan"; }

# received HOST: how many echo requests it has answered. A reply that is on its way from the old owner when the prefix moves
# has the wrong sender by then, and WireGuard drops it; so what must not be lost is the requests, at one owner or the other.
received() { enter "$1" awk '/^Icmp:/ && ++line == 2 { print $10 }' /proc/net/snmp; }

log=$_mesh_folder/hitless
mkdir "$log"
launch ams iperf3 --server --one-off > "$log/server" 2>&1
sleep 0.5
launch fra ping -i 0.01 -q -c 1500 10.80.0.2 > "$log/unaffected" 2>&1
unaffected=$!
owners=$(($(received ana) + $(received bob)))
launch fra ping -i 0.01 -q -c 1500 10.99.0.1 > "$log/moving" 2>&1
moving=$!
launch fra iperf3 --client 10.80.0.2 --udp --bitrate 1M --time 12 --json > "$log/stream" 2>&1
stream=$!
before=$(handshake fra ams)

sleep 1
topology_node cleo 10.80.0.5 -- "endpoint: $(address cleo)" "persistentKeepalive: 7"
topology_node ana 10.80.0.3 -- "endpoint: $(address ana)"
topology_node bob 10.80.0.4 -- "endpoint: $(address bob)" "allowedIPs: [10.99.0.0/24]"
plan=$(weft fra plan --format json)
same "the prefix's move is hitless at its new owner" hitless "$(effect bob)"
same "and at its old one" hitless "$(effect ana)"
succeeds "the prefix moves" weft fra apply
sleep 1
mesh_host dan
topology_node dan 10.80.0.6 -- "endpoint: $(address dan)"
succeeds "a peer comes" weft fra apply
sleep 1
topology_drop cleo
plan=$(weft fra plan --format json)
same "a peer that goes is an outage, of its own" outage "$(effect cleo)"
succeeds "a peer goes" weft fra apply
sleep 1
sed -i 's/name: test/name: test\n  connect: full/' "$topology/mesh.yaml"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(address fra)" "mtu: 1380"
succeeds "this host gets another address and another MTU" weft fra apply
unchanged fra "and is as wanted"

wait $unaffected $moving $stream
same "1,500 pings to an unaffected peer lose nothing" 0 "$(loss "$log/unaffected")"
same "1,500 pings to the moving prefix all reach an owner" 1500 "$(($(received ana) + $(received bob) - owners))"
succeeds "and but for those on their way, none is lost: $(loss "$log/moving")" [ "$(loss "$log/moving")" -le 5 ]
same "a stream to the unaffected peer loses nothing" 0 "$(jq '.end.sum.lost_packets' "$log/stream")"
same "no handshake was made anew" "$before" "$(handshake fra ams)"
contains "the prefix is at its new owner" 10.99.0.0/24 "$(enter fra wg show wg0 allowed-ips | grep "$(public_key bob)")"
done_testing
