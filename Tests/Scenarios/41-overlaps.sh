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
done_testing
