#!/bin/bash
# Where the mesh and the host's other networks have the same addresses, the plan says which packets go where, and so they go.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping jq || done_testing
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "allowedIPs: [10.20.0.0/24, \"fd20::/64\"]"
enter fra ip link add other0 type bridge
enter fra ip link set other0 up
way() { enter fra ip route get "$1" 2>&1 | head -1; }

# Around the mesh's range: what no node has there is refused.
enter fra ip address add 10.1.2.3/8 dev other0
planned=$(weft fra plan)
contains "the plan names the overlap" \
    "10.20.0.0/24, 10.80.0.2/32 and the mesh's range 10.80.0.0/16 overlap 10.0.0.0/8" "$planned"
contains "and what is refused" "packets to the rest of 10.80.0.0/16 would be refused as unreachable" "$planned"
contains "so far it goes out there" other0 "$(way 10.80.44.44)"
converges fra
contains "and then it is refused" "No route to host" "$(way 10.80.44.44)"
contains "a node's address is in the mesh" wg0 "$(way 10.80.0.2)"
contains "and the rest is as it was" other0 "$(way 10.81.0.1)"
doctor=$(enter fra "$WEFT" doctor "$topology")
contains "the doctor says it all" "refused as unreachable" "$doctor"
enter fra ip address flush dev other0

# Inside the mesh's range: a node has a longer route of its own.
enter fra ip address add 10.80.3.1/24 dev other0
contains "the plan says that a network in the range keeps its packets" \
    "overlaps 10.80.3.0/24, which this host is connected to by other0; packets to 10.80.3.0/24 still go to other0" \
    "$(weft fra plan)"
contains "and it does" other0 "$(way 10.80.3.9)"
contains "what lies beside it is refused" "No route to host" "$(way 10.80.4.9)"
enter fra ip address flush dev other0

# The same prefix: the obstacle and the warning say the same.
succeeds "down" weft fra down
enter fra ip address add 10.20.0.7/24 dev other0
planned=$(weft fra plan)
contains "the same prefix is in the way" "route 10.20.0.0/24 dev other0 proto kernel" "$planned"
contains "and the warning agrees" "where that of other0 has 0 too, the mesh's cannot be made" "$planned"
lacks "and promises nothing else" "would go into the mesh" "$planned"
enter fra ip address flush dev other0

# What is not the host's own network takes the mesh's packets too: each is named, and hinders nothing.
converges fra
# WHAT TEXT FAMILY ADDRESS [PACKETS]: plan and doctor name what `$add` adds, until `$drop` takes it away.
names() {
    local what=$1 text=$2 family=$3 address=$4
    enter fra ip $family $add || return
    exits 0 "the plan has nothing to do with $what" weft fra plan --detailed-exitcode
    contains "and names it" "$text" "$output"
    contains "with the addresses that it takes" "${5:-$text}" "$output"
    same "its document has it among the hindrances" true \
        "$(weft fra plan --format json | jq --arg text "$text" '.hindrances | any(.description | contains($text))')"
    contains "the doctor names it too" "$text" "$(enter fra "$WEFT" doctor "$topology")"
    lacks "the kernel sends packets there" wg0 "$(enter fra ip $family route get "$address" 2>&1)"
    enter fra ip $family $drop
    lacks "and when it is gone nothing is said" "$text" "$(weft fra plan)"
}
add="route add 10.20.0.128/25 dev other0" drop="route del 10.20.0.128/25 dev other0"
names "a longer route" "10.20.0.128/25 dev other0" -4 10.20.0.200
add="route add fd20::/64 dev other0 metric 50" drop="route del fd20::/64 dev other0 metric 50"
names "a route of the same prefix with a better metric" "fd20::/64 dev other0" -6 fd20::5
enter fra ip route add 10.20.0.0/24 dev other0 table 700
add="rule add priority 500 lookup 700" drop="rule del priority 500"
names "a rule before the main table's" "500: from all lookup 700" -4 10.20.0.5 "packets to 10.20.0.0/24"
add="rule add priority 500 to 10.20.0.64/26 lookup 700" drop="rule del priority 500"
names "a rule for some addresses" "500: from all to 10.20.0.64/26 lookup 700" -4 10.20.0.65 "packets to 10.20.0.64/26"
add="address add 10.80.0.2/32 dev other0" drop="address del 10.80.0.2/32 dev other0"
names "a peer's address on this host" "local 10.80.0.2/32 dev other0" -4 10.80.0.2

# What takes none of them is nobody's business.
enter fra ip route add 10.20.0.0/24 dev other0 metric 10
enter fra ip route add 10.20.0.0/24 dev other0 tos 0x10
enter fra ip route add 10.20.0.0/16 dev other0
enter fra ip rule add priority 500 from 192.168.7.0/24 lookup 700
enter fra ip rule add priority 501 to 10.21.0.0/24 lookup 700
enter fra ip rule add priority 40000 lookup 700
lacks "a shorter prefix, a worse metric, a rule for others" other0 "$(weft fra plan | sed -n '/against/,$p')"
lacks "or after the main table's" "lookup 700" "$(weft fra plan)"

# A mesh whose range lies in another's: each refuses what no node has, in either order, and the overlap is said.
corp=$topology
topology_begin
sed -i 's/name: test/name: lab/; s/wg0/wg1/; s/addresses:.*/addresses: [10.80.8.0\/24]/' "$topology/mesh.yaml"
topology_node fra 10.80.8.1 -- "endpoint: \"$(mesh_address fra 4):51830\""
lab=$topology
for order in "corp lab" "lab corp"; do
    for mesh in $order; do
        topology=${!mesh}
        converges fra
    done
    for mesh in $order; do
        topology=${!mesh}
        contains "$order: the overlap is in the plan of $mesh" "Another mesh on this host has these addresses" "$(weft fra plan)"
    done
    same "$order: both ranges are refused" "10.80.0.0/16 10.80.8.0/24" \
        "$(enter fra ip route show type unreachable | awk '{ print $2 }' | sort | paste -sd ' ')"
    contains "$order: what no node of corp has goes nowhere" "No route to host" "$(way 10.80.77.7)"
    contains "$order: nor what no node of lab has" "No route to host" "$(way 10.80.8.7)"
    for mesh in $order; do
        topology=${!mesh}
        succeeds "$order: down $mesh" weft fra down
    done
done
done_testing
