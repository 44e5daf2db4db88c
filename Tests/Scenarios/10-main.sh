#!/bin/bash
# The main job: a folder of YAML becomes tunnels that carry packets, direct and relayed, on both devices; a second apply
# does nothing; down leaves nothing behind.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping jq || done_testing
mesh_begin

mesh_host fra ams ana
mesh_router gate
mesh_host home behind gate
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true"
topology_node ams 10.80.0.2 fd80::2 -- "endpoint: \"[$(mesh_address ams 6)]:51821\"" "allowedIPs: [10.20.0.0/24]"
topology_node ana 10.80.1.7 fd80::107
topology_node home 10.80.1.8

succeeds "check finds nothing" weft fra check
before=$(live fra)
exits 2 "a plan says that there is something to do" weft fra plan --detailed-exitcode
contains "it shows the peer by name" "home" "$output"
contains "and the interface" "wg0" "$output"
same "a plan changes nothing" "$before" "$(live fra)"
succeeds "a plan as JSON" weft fra plan --format json
same "is a versioned document" '"weft.plan" 1' "$(jq -c '.format, .version' <<<"$output" | paste -sd' ')"
same "the JSON has an operation for every addition" "$(jq '.summary.add' <<<"$output")" \
    "$(jq '[.operations[] | select(.action == "add")] | length' <<<"$output")"

for host in fra ams ana home; do converges $host; done
if [ "$BED" = vm ]; then kind=kernel; else kind=userspace; fi
succeeds "status" weft fra status --format json
same "the device is $kind WireGuard" "$kind" "$(jq -r .deviceKind <<<"$output")"

eventually 20 "direct, IPv4 inside IPv4" enter ana ping -c 1 -W 1 10.80.0.1
eventually 20 "direct, IPv6 inside IPv4" enter ana ping -c 1 -W 1 fd80::1
eventually 20 "direct, IPv4 inside IPv6" enter ana ping -c 1 -W 1 10.80.0.2
eventually 20 "direct, IPv6 inside IPv6" enter ana ping -c 1 -W 1 fd80::2
eventually 20 "relayed by the hub, from behind NAT" enter ana ping -c 1 -W 1 10.80.1.8
eventually 20 "and the other way" enter home ping -c 1 -W 1 10.80.1.7
exits 2 "packets to an absent node are refused" enter ana ip route get 10.80.9.9

eventually 20 "between the two public hosts" enter fra ping -c 1 -W 1 10.80.0.2
status=$(weft fra status --format json)
same "status knows every peer as up" "up up up" "$(jq -r '[.peers[].state] | join(" ")' <<<"$status")"
same "and by name" "ams ana home" "$(jq -r '[.peers[].name] | join(" ")' <<<"$status")"
contains "status as text" "home" "$(weft fra status)"

# Nodes that are taken out, or take no part any more, have their names until they are gone.
cp -r "$topology" "$_mesh_folder/later"
rm "$_mesh_folder/later/node-home.yaml"
sed -i 's/^\( *\)publicKey:/\1disabled: true\n&/' "$_mesh_folder/later/node-ana.yaml"
sed -i 's/^\( *\)publicKey:/\1expires: 2026-01-01T00:00:00Z\n&/' "$_mesh_folder/later/node-ams.yaml"
good=$topology topology=$_mesh_folder/later
same "status names them" "ams false,ana false,home false" \
    "$(weft fra status --format json | jq -r '[.peers[] | "\(.name) \(.inTopology)"] | join(",")')"
same "and so does the plan" "ams ana home" \
    "$(weft fra plan --format json | jq -r '[.operations[] | select(.kind == "peer") | .object.name] | sort | join(" ")')"
contains "a host that is disabled is told so" "This host is disabled in the topology" "$(weft ana status)"
topology=$good

for host in fra ams; do
    state=$(live $host)
    watched $host "$host: a second apply"
    same "$host: changes nothing" "$state" "$(live $host)"
    same "$host: and sends no mutation" 0 "$mutations"
done

# As deploy tools do it: each release in a folder of its own. One copy of what is in force is kept, and goes with it.
cp -r "$topology" "$_mesh_folder/release"
ln -s release "$_mesh_folder/current"
for path in "$_mesh_folder/release" "$_mesh_folder/release/" "$_mesh_folder/./release" "$_mesh_folder/current" "$topology/"; do
    succeeds "fra: apply of $path" enter fra "$WEFT" apply --yes "$path"
    same "keeps one copy" 1 "$(enter fra find /var/lib/weft -name '*.kept' -newer "$topology/mesh.yaml" | wc -l)"
done

for host in fra ams ana home; do
    succeeds "$host: down" weft $host down
    lacks "$host: of which nothing is left" "is left" "$output"
    refuses "$host: the interface is gone" enter $host ip link show wg0
    same "$host: and its routes" "" "$(enter $host ip route show table all proto 119; enter $host ip -6 route show table all proto 119)"
    same "$host: forwarding is as it was" 0 "$(enter $host cat /proc/sys/net/ipv4/ip_forward)"
    succeeds "$host: a second down does nothing" weft $host down
    succeeds "$host: nor by the interface's name" enter $host "$WEFT" down --yes --interface wg0
    same "$host: and says the same" "Nothing to remove: wg0 is not there." "$output"
    # What the machine itself may have there is older.
    # The clock is the machine's, and outlives its meshes.
    same "$host: and no file is left" "" \
        "$(enter $host find /var/lib/weft -type f -newer "$topology/mesh.yaml" ! -name 'clock.json*')"
done
if [ "$BED" = namespaces ]; then
    same "no wireguard-go is left" "" "$(ip netns pids "$(mesh_namespace fra)")"
fi
done_testing
