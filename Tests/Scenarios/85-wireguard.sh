#!/bin/bash
# What WireGuard promises, through Weft: roaming in both families, answers from the address that was asked, mappings of a
# hasty NAT kept alive, a more specific peer that takes a source, new keys at once, names looked up again, paths over two
# hubs. (The four combinations of families, inside and outside, are in 10-main.)
# timeout: 120
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping jq || done_testing
mesh_begin

mesh_host fra ams ana bob carl
mesh_router gate
mesh_host home behind gate
# fra has more than one address of each family, and is called at the second one.
second4=198.18.77.1 second6=2001:db8::7701
enter fra ip address add $second4/15 dev eth0
if ! answers_as_asked; then
    skip "fra is called at her second IPv4 address" "a wireguard-go that answers from there"
    second4=$(mesh_address fra 4)
fi
enter fra ip address add $second6/64 dev eth0 nodad

topology_begin "connect: hubs"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true"
topology_node ams 10.80.0.2 fd80::2 -- "endpoint: \"[$(mesh_address ams 6)]:51820\"" "hub: true"
topology_node ana 10.80.0.3 fd80::3 -- "connect: [fra]"
node_bob() { topology_node bob 10.80.0.4 fd80::4 -- "connect: [ams]" "$@"; }
topology_node carl 10.80.0.5 fd80::5 -- "connect: [fra]"
node_home() { topology_node home 10.80.0.6 fd80::6 -- "connect: [fra]" "persistentKeepalive: $1"; }
node_bob
node_home 1
topology_file links.yaml <<END
links:
  - between: [fra, ana]
    endpoints: {fra: "[$second6]:51820"}
  - between: [fra, carl]
    endpoints: {fra: "fra.test:51820"}
  - between: [fra, home]
    endpoints: {fra: "$second4:51820"}
END

# The router forgets a mapping after two seconds.
enter gate sysctl -qw net.netfilter.nf_conntrack_udp_timeout=2 net.netfilter.nf_conntrack_udp_timeout_stream=2
# Where fra was once, says carl's hosts file.
enter carl sh -c 'echo "198.18.99.99 fra.test" >>/etc/hosts'

for host in fra ams ana bob carl home; do converges $host; done

reaches() { enter "$1" ping -n -c 1 -W "${3:-1}" "$2"; }

# ---------------------------------------------------------------------------------------- the address that was asked

eventually 20 "ana reaches fra at her second IPv6 address" reaches ana 10.80.0.1
eventually 20 "home reaches fra at her second IPv4 address, through NAT" reaches home 10.80.0.1
for again in 1 2 3; do reaches ana fd80::1; reaches home fd80::1; done >/dev/null
contains "fra answers ana from there" "[$second6]:51820" "$(enter ana wg show wg0 endpoints)"
contains "and home" "$second4:51820" "$(enter home wg show wg0 endpoints)"
unchanged ana "there is nothing to do for ana"

# ------------------------------------------------------------------------------------------------------------- roaming

mesh_roam ana
eventually 20 "ana has roamed, IPv6 outside, and is answered" reaches ana 10.80.0.1
contains "fra hears her at her new address" "[$(mesh_address ana 6)]" "$(enter fra wg show wg0 endpoints)"
succeeds "and reaches her there" reaches fra fd80::3 3
unchanged fra "which is nothing to do for fra"
unchanged ana "nor for ana"

# ----------------------------------------------------------------------------------------------------------------- NAT

sleep 5
succeeds "with a keepalive of a second, home is reached through the router that forgets after two" reaches fra 10.80.0.6 2
node_home 0
converges home
sleep 5
refuses "without one it is not" reaches fra 10.80.0.6 2
node_home 1
converges home
eventually 5 "and with one it is again, by itself" reaches fra 10.80.0.6

# ----------------------------------------------------------------------------------------------------------- two hubs

eventually 20 "ana reaches bob over two hubs" reaches ana 10.80.0.4
matches "which are two hops" "ttl=62" "$output"
eventually 20 "IPv6 too" reaches bob fd80::3
matches "which are two hops" "ttl=62" "$output"
# Hosts tell it once a second at most.
ends() { enter ana ping -n -c 1 -W 2 -t "$1" 10.80.0.4 | grep -iE "^From $2 .*time to live exceeded"; }
eventually 10 "the first hub says where a packet ended" ends 1 10.80.0.1
eventually 10 "and so does the second" ends 2 10.80.0.2
eventually 20 "home reaches bob: NAT, and two hubs" reaches home 10.80.0.4

# ------------------------------------------------------------------------------------------------------ stolen sources

for host in ana bob; do enter $host ip address add 10.30.0.7/32 dev lo; done
topology_node bob 10.80.0.4 fd80::4 -- "connect: [fra]" "allowedIPs: [10.30.0.0/24]"
for host in fra ams bob; do weft $host apply >/dev/null; done
from() { enter "$1" ping -n -c 1 -W 1 -I 10.30.0.7 10.80.0.1; }
eventually 20 "bob speaks from an address of his network" from bob
topology_node ana 10.80.0.3 fd80::3 -- "connect: [fra]" "allowedIPs: [10.30.0.7/32]"
succeeds "the address is given to ana" weft fra apply
weft ana apply >/dev/null
eventually 5 "who speaks from it" from ana
refuses "bob does not any more" from bob
succeeds "fra reaches it" reaches fra 10.30.0.7 2
succeeds "bob's own addresses are as they were" reaches bob 10.80.0.1
topology_node ana 10.80.0.3 fd80::3 -- "connect: [fra]"
weft fra apply >/dev/null
eventually 5 "given back, it is bob's" from bob
refuses "and ana's no longer" from ana

# ------------------------------------------------------------------------------------------------------------ new keys

old=$(public_key ana)
enter ana rm /etc/weft/private.key
topology_node ana 10.80.0.3 fd80::3 -- "connect: [fra]" # makes another
since=$(date +%s)
converges fra
lacks "fra knows ana's old key no longer" "$old" "$(enter fra wg show wg0 peers)"
converges ana
eventually 10 "ana is answered under her new key" reaches ana 10.80.0.1
then=$(handshake fra ana)
if [ "$then" -ge "$since" ]; then ok "by a new handshake"; else fail "by a new handshake" "$since or later" "$then"; fi

# --------------------------------------------------------------------------------------------------------------- names

refuses "carl calls where fra was" reaches carl 10.80.0.1
moved() { enter carl sh -c 'sed "/fra.test/d" /etc/hosts >/etc/hosts.new; [ -z "$1" ] || echo "$1 fra.test" >>/etc/hosts.new; cat /etc/hosts.new >/etc/hosts' - "$1"; }
moved "$(mesh_address fra 4)"
exits 2 "the name has another address now: there is something to do" weft carl plan --detailed-exitcode
contains "which is the endpoint" "fra.test:51820 ($(mesh_address fra 4):51820)" "$output"
converges carl
eventually 10 "carl reaches fra" reaches carl 10.80.0.1
moved 198.18.99.98
unchanged carl "while they talk, the name may say what it likes"
succeeds "they do" reaches carl 10.80.0.1 2
moved ""
succeeds "or nothing" weft carl apply
contains "and says who waits for it" "endpoint of fra has no address yet" "$output"
succeeds "they still do" reaches carl 10.80.0.1 2
weft carl down >/dev/null
exits 0 "a host that cannot look the name up yet comes up without it" weft carl apply
contains "and says who waits for it" "endpoint of fra has no address yet" "$output"
moved "$(mesh_address fra 4)"
converges carl
eventually 10 "and dials as soon as it can" reaches carl 10.80.0.1
done_testing
