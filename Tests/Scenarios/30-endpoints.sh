#!/bin/bash
# Endpoints roam and are left alone; what is taken out of the topology is really taken out; what somebody changes by hand
# is shown and mended.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping || done_testing
mesh_begin

mesh_host fra ana
topology_begin "presharedKeys: directory"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
secret=$(enter fra "$WEFT" key preshared)
for pair in fra:ana ana:fra; do
    enter "${pair%:*}" bash -c "umask 077; mkdir -p /etc/weft/preshared-keys; echo $secret > /etc/weft/preshared-keys/${pair#*:}"
done
for host in fra ana; do converges $host; done
eventually 20 "a tunnel with a preshared key" enter fra ping -c 1 -W 1 10.80.0.2

for family in 4 6; do
    mesh_roam ana
    target=$([ $family = 4 ] && echo 10.80.0.1 || echo fd80::1)
    eventually 20 "ana has roamed and still reaches fra" enter ana ping -c 1 -W 1 "$target"
    contains "fra hears her at her new address" "$(mesh_address ana 4)" "$(enter fra wg show wg0 endpoints)"
    unchanged fra "plan leaves a roamed endpoint alone"
    succeeds "and so does apply" weft fra apply
    contains "she is still where she is" "$(mesh_address ana 4)" "$(enter fra wg show wg0 endpoints)"
done

topology_node ana 10.80.0.2 fd80::2 -- "endpoint: \"[$(mesh_address ana 6)]:51820\""
succeeds "a new endpoint in the topology" weft fra apply
contains "is set" "[$(mesh_address ana 6)]:51820" "$(enter fra wg show wg0 endpoints)"
eventually 20 "and works, IPv6 outside" enter fra ping -c 1 -W 1 10.80.0.2

topology_node ana 10.80.0.2 fd80::2 -- "endpoint: \"[$(mesh_address ana 6)]:51820\"" "persistentKeepalive: 11"
succeeds "a keepalive comes" weft ana apply
matches "and is there" '11$' "$(enter ana wg show wg0 persistent-keepalive)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: \"[$(mesh_address ana 6)]:51820\""
succeeds "it goes" weft ana apply
matches "and is really gone" 'off$' "$(enter ana wg show wg0 persistent-keepalive)"

# Preshared keys: removed on both sides, the tunnel stays up and the keys are gone.
sed -i '/presharedKeys/d' "$topology/mesh.yaml"
for host in fra ana; do
    succeeds "$host: preshared keys go" weft $host apply
    matches "$host: and are really gone" '\(none\)$' "$(enter $host wg show wg0 preshared-keys)"
    unchanged $host "$host: nothing is left to do"
done
eventually 20 "the tunnel is up without them" enter fra ping -c 1 -W 1 10.80.0.2

# By hand.
peer=$(public_key ana)
enter fra wg set wg0 peer "$peer" persistent-keepalive 99 allowed-ips 10.80.0.2/32,10.66.0.0/16
exits 2 "a peer changed by hand is shown" weft fra plan --detailed-exitcode
contains "with what it gained" 10.66.0.0/16 "$output"
contains "and what it lost" fd80::2/128 "$output"
converges fra
enter fra wg set wg0 peer "$peer" remove
converges fra
contains "a peer removed by hand is back" "$peer" "$(enter fra wg show wg0 peers)"
enter fra wg set wg0 peer "$(wg genkey | wg pubkey)" allowed-ips 10.77.0.0/16
converges fra
same "a peer added by hand is gone" "$peer" "$(enter fra wg show wg0 peers)"
enter fra wg set wg0 listen-port 4444 fwmark 7
converges fra
same "port and mark are mended" "51820 off" "$(enter fra wg show wg0 listen-port) $(enter fra wg show wg0 fwmark)"
enter fra ip link set wg0 mtu 1300
converges fra
enter fra ip link set wg0 down
converges fra
enter fra ip address flush dev wg0
converges fra
enter fra ip route flush dev wg0
enter fra ip route del unreachable 10.80.0.0/16
converges fra
eventually 20 "after all that, the tunnel carries" enter fra ping -c 1 -W 1 10.80.0.2
eventually 20 "in both families" enter fra ping -c 1 -W 1 fd80::2
done_testing
