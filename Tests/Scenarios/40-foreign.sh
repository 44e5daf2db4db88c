#!/bin/bash
# What is not Weft's is never changed, and where it stands in the way the plan says so. Two meshes on one host never touch
# each other's objects.
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping nft jq || done_testing
mesh_begin

mesh_host fra ana
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "allowedIPs: [10.20.0.0/24, \"fd20::/64\"]"

# Everything here is somebody else's.
enter fra ip link add other0 type bridge
enter fra ip link set other0 up
enter fra ip address add 192.168.7.1/24 dev other0
enter fra ip route add 10.20.0.0/24 dev other0
enter fra ip -6 route add fd20::/64 dev other0
enter fra ip route add 10.44.0.0/16 dev other0 proto 119 metric 5
enter fra ip rule add from 192.168.7.0/24 table 700 priority 900
enter fra ip route add blackhole 10.45.0.0/16 table 700
enter fra nft add table inet somebody
enter fra nft add chain inet somebody input '{ type filter hook input priority 0; policy accept; }'
foreign() {
    enter fra ip -o address show dev other0
    enter fra ip route show table all | grep -E 'other0|blackhole|^10.44'
    enter fra ip -6 route show table all | grep other0
    enter fra ip rule
    enter fra nft list ruleset
}
before=$(foreign)

refuses "apply says that not everything could be done" weft fra apply
contains "it names the route that stands in the way" 10.20.0.0/24 "$output"
contains "of both families" fd20::/64 "$output"
contains "and whose it is" other0 "$output"
same "what is foreign is as it was" "$before" "$(foreign)"
exits 1 "with all else done, a plan does not say that all is well" weft fra plan --detailed-exitcode
contains "but that nothing can be done" "Nothing can be done while 2 obstacles are in the way." "$output"
lacks "nor that there are no changes" "No changes" "$output"
same "its document says so too" true "$(weft fra plan --format json | jq .blocked)"
contains "all else is applied" 10.80.0.2 "$(enter fra ip route show dev wg0)"

# On the mesh's own interface.
enter fra ip address add 10.80.0.77/32 dev wg0
enter fra ip route add 10.46.0.0/16 dev wg0
weft fra apply > /dev/null 2>&1
contains "a foreign address on wg0 stays" 10.80.0.77 "$(enter fra ip address show dev wg0)"
contains "a foreign route on wg0 stays" 10.46.0.0/16 "$(enter fra ip route show dev wg0)"
contains "the plan lists it as left alone" 10.46.0.0/16 "$(weft fra plan)"
enter fra ip route del 10.20.0.0/24 dev other0
enter fra ip -6 route del fd20::/64 dev other0
converges fra
contains "the way is free, and the route is there" wg0 "$(enter fra ip route get 10.20.0.1)"
before=$(foreign)
guests="address 10.80.0.77/32 dev wg0
route 10.46.0.0/16 dev wg0 proto boot"
going() { sed -n '/and goes with wg0/,/^$/s/^-   //p' <<<"$1"; }
exits 1 "down is not confirmed" enter fra "$WEFT" down "$topology" </dev/null
same "but its plan says what goes with the interface" "$guests" "$(going "$output")"
lacks "and does not say that it is left alone" "left alone" "$output"
sed -i 's/^    publicKey/    disabled: true\n    publicKey/' "$topology/node-fra.yaml"
same "so does the plan of a node that is disabled" "$guests" "$(going "$(weft fra plan)")"
same "and its document" "$(sed 's/^[a-z]* //' <<<"$guests")" \
    "$(weft fra plan --format json | jq -r '.goesWithInterface[].description, .foreign[].description')"
sed -i '/disabled/d' "$topology/node-fra.yaml"
succeeds "down" weft fra down
lacks "what was on wg0 is gone" 10.46.0.0/16 "$(enter fra ip route show table all)"
same "what is foreign is as it was after down" "$before" "$(foreign)"

# Somebody else's interface under our name.
enter fra ip link add wg0 type bridge
exits 1 "a plan that an interface of another kind blocks" weft fra plan --detailed-exitcode
refuses "an interface of another kind is in the way" weft fra apply
contains "and is named" wg0 "$output"
contains "it is left alone" bridge "$(enter fra ip -d link show wg0)"
succeeds "down does not touch it" weft fra down
contains "and says whose it is not" "wg0 is not weft's" "$output"
succeeds "it is still there" enter fra ip link show wg0
enter fra ip link del wg0
device=$(mesh_device fra wg0)
refuses "a WireGuard interface that weft did not make is in the way too" weft fra apply
contains "and is named" wg0 "$output"
enter fra ip link del wg0

# Our own, which somebody took the mark from: nobody is told to delete it.
succeeds "apply" weft fra apply
enter fra ip link set dev wg0 alias mine
if [ "$device" = kernel ]; then
    exits 1 "an interface that has lost its mark is in the way" weft fra plan --detailed-exitcode
    contains "and is known by its routes" "wg0 carries weft's routes, and has lost the mark by which weft knows it" "$output"
    remedy="ip link set dev wg0 alias weft:test"
    contains "with what to do" "$remedy" "$output"
    output=$(weft fra doctor --offline)
    contains "weft doctor says so too" "wg0 carries weft's routes" "$output"
    contains "and what to do" "$remedy" "$output"
    lacks "and blames nobody" "did not make" "$output"
    succeeds "it can be typed" enter fra $remedy
else
    # A user-space device is known by its program, and gets its alias back.
    exits 2 "an interface that has lost its mark is still known" weft fra plan --detailed-exitcode
    contains "and gets it back" "wg0 alias mine → weft:test" "$output"
    succeeds "which is done" weft fra apply
    contains "and it has it" "alias weft:test" "$(enter fra ip link show wg0)"
fi
unchanged fra "and all is as it was"
succeeds "down" weft fra down

# A table of our name that a running program keeps to itself.
shell=$(mesh_folder ana)/nft
launch ana "$here/../Beds/answer" "$shell" nft -i
printf 'add table inet weft-wg0 { flags owner; }\n' >"$shell.new.type"
mv "$shell.new.type" "$shell.type"
owned() { enter ana nft list tables | grep -q weft-wg0; }
eventually 10 "somebody has a table of our name" owned
exits 1 "a table that belongs to a program is in the way" weft ana plan --detailed-exitcode
contains "and is named, with the program" "table inet weft-wg0 belongs to nft (process" "$output"
contains "with what to do" "End that program" "$output"
same "its document says what it blocks" table "$(weft ana plan --format json | jq -r '.obstacles[].blocks')"
exits 1 "apply is refused" weft ana apply
contains "before anything is begun" "something that is not this mesh's stands in the way: nothing was changed" "$output"
refuses "no interface is left" enter ana ip link show wg0
contains "weft doctor names it" "weft-wg0 belongs to nft" "$(weft ana doctor --offline)"
succeeds "down is not kept from anything" weft ana down
kill "$(<"$shell.pid")"
gone() { ! owned; }
eventually 10 "with the program its table goes" gone
converges ana

# Our own table, flushed or removed by hand.
lacks "a table that is whole: status says nothing" "missing" "$(weft ana status | grep -i firewall)"
enter ana nft flush table inet weft-wg0
contains "a table that was flushed: status says so" "Of the firewall, the rules are missing in" "$(weft ana status)"
matches "so does the document" '^[1-9]' "$(weft ana status --format json | jq '.missingChains | length')"
enter ana nft delete table inet weft-wg0
contains "a table that was removed: status says so" \
    "The firewall table inet weft-wg0 is missing: \`weft apply\` writes them" "$(weft ana status)"
converges ana
lacks "then it says nothing any more" "missing" "$(weft ana status | grep -i firewall)"

# An interface that somebody renamed.
enter ana ip link set dev wg0 down
enter ana ip link set dev wg0 name corp0
output=$(weft ana status 2>&1)
matches "an interface that was renamed: status knows it" "corp0: mesh test|ip link delete corp0" "$output"
contains "and says of its name in the topology that it is elsewhere" "The mesh is on the interface corp0 here" "$output"
lacks "and gives no advice that leads nowhere" "makes the interface anew" "$output"
for command in plan apply down; do
    exits 1 "$command is refused" weft ana $command
    contains "with what was done" "somebody renamed it: " "$output"
    remedy=$(grep -oE '`ip link [^`]+`' <<<"$output" | tr -d '`' | head -n 1)
done
succeeds "what it says to type ($remedy)" enter ana sh -c "$remedy"
converges ana
same "leads back" "wg0: ana in mesh test" "$(weft ana status | head -n 1)"
refuses "and nothing has the other name" enter ana ip link show corp0
succeeds "down" weft ana down

# A second mesh that was given the same interface touches nothing of the first one's, also when it is taken down.
succeeds "apply" weft fra apply
corp=$topology
topology_begin
sed -i 's/name: test/name: lab/; s/10.80/10.90/; s/fd80/fd90/' "$topology/mesh.yaml"
topology_node fra 10.90.0.1 fd90::1 -- "endpoint: \"$(mesh_address fra 4):51830\""
before=$(live fra wg0)
refuses "the interface belongs to another mesh" weft fra apply
contains "which is named" "the mesh test" "$output"
refuses "down says so too" weft fra down
contains "and names it" "the mesh test" "$output"
contains "and that it is not this mesh's" "error: wg0 is not this mesh's: nothing was changed" "$output"
same "the first mesh is as it was" "$before" "$(live fra wg0)"
lab=$topology topology=$corp
unchanged fra "the first mesh is still known"
succeeds "down" weft fra down

# The firewall's table has the interface's name, and is the first mesh's all the same: here, of the mesh under its old name.
succeeds "apply" weft ana apply
contains "a table stands beside the interface" weft-wg0 "$(enter ana nft list tables)"
sed -i 's/name: test/name: prod/' "$topology/mesh.yaml"
succeeds "status of a mesh that was renamed" weft ana status
contains "knows the first one" "wg0: mesh test" "$output"
contains "and says of the other that it is not applied" "The mesh is not applied on this host" "$output"
contains "because of the first" "interface wg0 belongs to the mesh test" "$output"
lacks "it takes nothing of the first one's for the other's" "still holds" "$output"
lacks "and does not advise to take it away" "weft down" "$output"
same "as documents they are a list" "test true,prod false" \
    "$(weft ana status --format json | jq -r 'map("\(.mesh) \(.firewall != null)") | join(",")')"
sed -i 's/name: prod/name: test/' "$topology/mesh.yaml"
same "with --watch each is a line" wg0 \
    "$(weft ana status --format json --watch | head -n 1 | jq -r .interface)"

# Nothing that is lost keeps a mesh up, and what status was told and cannot use is said.
refuses "down without the topology" enter ana "$WEFT" down --yes /nowhere
contains "says how to go on" "\`weft down --interface wg0\` needs neither" "$output"
refuses "down without the key" weft ana down --private-key /nowhere
contains "does too" "\`weft down --interface wg0\` needs neither" "$output"
succeeds "status with a path that is wrong" enter ana "$WEFT" status /nowhere
contains "says so" "warning: /nowhere cannot be used" "$output"
refuses "status as a node that is none" weft ana status --node nobody
contains "says so" 'no node is called "nobody"' "$output"
succeeds "status with a key that is wrong" weft ana status --private-key /nowhere
contains "says so" "warning: /nowhere: there is no such file" "$output"
succeeds "down" enter ana "$WEFT" down --yes --interface wg0
topology=$corp

# Two meshes with the same addresses.
converges fra
corp=$topology
topology_begin
sed -i 's/name: test/name: twin/; s/wg0/wg1/' "$topology/mesh.yaml"
topology_node fra 10.80.7.1 fd80::71 -- "endpoint: \"$(mesh_address fra 4):51830\""
refuses "a mesh with another's range is refused" weft fra apply
contains "both are named, with the ranges" "mesh test on wg0 and twin on wg1 both use 10.80.0.0/16 and fd80::/48" "$output"
contains "and what to do" "give one of them another range, or a \`table\` of its own" "$output"
lacks "and nobody is told to remove its objects" "Remove it" "$output"
exits 1 "nothing is begun" enter fra ip link show wg1
same "the plan's document says so" "mesh mesh" \
    "$(weft fra plan --format json | jq -r '.obstacles[] | select(.kind == "mesh") | "\(.kind) \(.blocks)"')"
sed -i 's/addresses:.*/addresses: [10.80.0.0\/24]/' "$topology/mesh.yaml"
topology_node fra 10.80.0.1 -- "endpoint: \"$(mesh_address fra 4):51830\""
topology_node ana 10.80.0.2 -- "endpoint: \"$(mesh_address ana 4):51830\""
refuses "nor one within it, where a node of both has the same address" weft fra apply
contains "which is named" "test on wg0 and twin on wg1 both use 10.80.0.1/32 and 10.80.0.2/32" "$output"
topology_node fra 10.80.0.8 -- "endpoint: \"$(mesh_address fra 4):51830\""
topology_node ana 10.80.0.7 -- "endpoint: \"$(mesh_address ana 4):51830\"" "allowedIPs: [10.20.0.0/24]"
refuses "nor one that has one of its networks" weft fra apply
contains "which is named too" "test on wg0 and twin on wg1 both use 10.20.0.0/24" "$output"
exits 1 "nothing is begun for any of them" enter fra ip link show wg1
topology=$corp
unchanged fra "the first is as it was"
weft fra down > /dev/null

# Two meshes, in either order.
topology_begin
sed -i 's/name: test/name: lab/; s/wg0/wg1/; s/10.80/10.90/; s/fd80/fd90/' "$topology/mesh.yaml"
topology_node fra 10.90.0.1 fd90::1 -- "endpoint: \"$(mesh_address fra 4):51830\""
topology_node ana 10.90.0.2 fd90::2 -- "endpoint: \"$(mesh_address ana 4):51830\"" "allowedIPs: [10.21.0.0/24]"
sed -i 's/^  ana:/  berlin:/' "$topology/node-ana.yaml"
lab=$topology
# The first one's hosts under other names, on another interface.
cp -r "$corp" "$corp-moved"
sed -i 's/wg0/wg7/' "$corp-moved/mesh.yaml"
sed -i 's/^  ana:/  oslo:/' "$corp-moved/node-ana.yaml"
names() { weft fra status --format json | jq -r '[.[] | select(.present) | "\(.interface) \(.peers[].name)"] | sort | join(",")'; }
for order in "corp lab" "lab corp"; do
    for mesh in $order; do
        for host in fra ana; do
            topology=${!mesh}
            succeeds "$host: apply $mesh" weft $host apply
        done
    done
    eventually 20 "corp carries" enter fra ping -c 1 -W 1 10.80.0.2
    eventually 20 "lab carries" enter fra ping -c 1 -W 1 10.90.0.2
    for mesh in $order; do
        topology=${!mesh}
        unchanged fra "nothing to do for $mesh"
        same "status of $mesh names each interface's peers by its own topology" "wg0 ana,wg1 berlin" "$(names)"
    done
    topology=$corp-moved
    same "and so it does where the same mesh is to be on another interface" "wg0 ana,wg1 berlin" "$(names)"
    first=${order% *} second=${order#* }
    interface=$([ "$second" = corp ] && echo wg0 || echo wg1)
    # Settings of the host are shared: each goes with the last mesh that needs it.
    other=$([ $interface = wg0 ] && echo wg1 || echo wg0)
    own() { live ana $interface | sed '/== sysctls/,$d' | grep -vE "dev $other|unreachable"; }
    before=$(own)
    topology=${!first}
    succeeds "ana: down $first" weft ana down
    contains "what $second needs of the host is left to it" "is still needed on $interface, and stays 1" "$output"
    lacks "and is no change" "~   net.ipv4.ip_forward" "$output"
    changes=$(grep -c '^~ ' <<<"$output")
    contains "nor is it counted" "Plan: 0 to add, $changes to change," "$output"
    contains "nor afterwards" "Applied: 0 added, $changes changed," "$output"
    same "$second is as it was" "$before" "$(own)"
    topology=${!second}
    unchanged ana "nothing to do for $second"
    eventually 20 "$second still carries" enter fra ping -c 1 -W 1 "$([ "$second" = corp ] && echo 10.80.0.2 || echo 10.90.0.2)"
    for host in fra ana; do succeeds "$host: down $second" weft $host down; done
    topology=${!first}
    succeeds "fra: down $first" weft fra down
    same "nothing is left" "" "$(enter fra ip route show table all proto 119 | grep -v other0)"
done

# Two meshes that say the same `table` and the same `fwMark`, without a full tunnel: each has its own routes in the table, and
# the mark is for somebody else's rules.
for mesh in corp lab; do
    for host in fra ana; do
        sed -i 's/^    endpoint/    table: 710\n    fwMark: 0x51\n    endpoint/' "${!mesh}/node-$host.yaml"
    done
done
for host in fra ana; do
    for family in -4 -6; do enter $host ip $family rule add lookup 710 priority 950; done
    for mesh in corp lab; do
        topology=${!mesh}
        converges $host
    done
done
planned=$(weft fra plan)
contains "the plan says that the mark is another mesh's too" "mesh test on wg0 uses fwMark 0x51 too" "$planned"
contains "and the table" "mesh test on wg0 uses table 710 too" "$planned"
same "its document as well" 2 "$(weft fra plan --format json | jq '[.hindrances[] | select(.kind == "mesh")] | length')"
same "both have routes in the table" "wg0 wg1" "$(enter fra ip route show table 710 | grep -o 'wg[01]' | sort -u | xargs)"
same "and the mark" "0x51 0x51" "$(for interface in wg0 wg1; do enter fra wg show $interface fwmark; done | xargs)"
eventually 20 "corp carries" enter fra ping -c 1 -W 1 10.80.0.2
eventually 20 "and in IPv6" enter fra ping -c 1 -W 1 fd80::2
eventually 20 "lab carries" enter fra ping -c 1 -W 1 10.90.0.2
for mesh in corp lab; do
    topology=${!mesh}
    unchanged fra "nothing to do for $mesh"
done
topology=$corp
succeeds "fra: down corp" weft fra down
topology=$lab
unchanged fra "lab is as it was"
eventually 20 "and still carries" enter fra ping -c 1 -W 1 10.90.0.2
succeeds "fra: down lab" weft fra down
same "nothing is left" "" "$(enter fra ip route show table 710; enter fra ip -6 route show table 710)"

# The table of a full tunnel is that tunnel's alone, whichever of the two comes first.
for family in -4 -6; do enter fra ip $family rule del lookup 710 priority 950; done
topology=$corp
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)" "exit: true"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "table: 710" "useExit: ana"
succeeds "fra: a full tunnel" weft fra apply --confirm-within off
before=$(live fra wg0)
topology=$lab
refuses "another mesh's routes do not come into its table" weft fra apply
contains "which is said" "the table 710, which is that full tunnel's alone: set another \`table:\` for this node of the mesh lab" \
    "$output"
contains "with whose it is" "of test on wg0" "$output"
same "the full tunnel is as it was" "$before" "$(live fra wg0)"
topology=$corp
succeeds "fra: down corp" weft fra down
topology=$lab
converges fra
topology=$corp
refuses "nor does a full tunnel come where another mesh's routes are" weft fra apply --confirm-within off
contains "which are named" "The table 710 is to hold this mesh's tunnel alone" "$output"
contains "with whose they are" "the mesh lab on wg1" "$output"
for mesh in corp lab; do
    topology=${!mesh}
    for host in fra ana; do succeeds "$host: down $mesh" weft $host down; done
done

# A table of the mesh's name that somebody else made before: neither changed nor removed, with a firewall or without.
table=$(mesh_folder fra)/table
printf 'table inet weft-wg0 {\n chain zz {\n type filter hook input priority 5; policy drop;\n accept\n }\n}\n' >"$table"
enter fra nft -f "$table"
before=$(enter fra nft list table inet weft-wg0)
topology_begin
topology_node ana 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address ana 4)"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
succeeds "a mesh without a firewall leaves it alone" weft fra apply
succeeds "also the second time" weft fra apply
succeeds "and when it goes" weft fra down
same "it is as it was" "$before" "$(enter fra nft list table inet weft-wg0)"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true"
refuses "one with a firewall does not take it over" weft fra apply
contains "and says what it is" "inet weft-wg0 is one that weft did not make: no chain in it is weft's (zz)" "$output"
contains "and what to do" "\`nft delete table inet weft-wg0\`" "$output"
exits 1 "nothing is begun" enter fra ip link show wg0
same "it is still as it was" "$before" "$(enter fra nft list table inet weft-wg0)"
enter fra nft delete table inet weft-wg0
converges fra

# Weft's own is known without any memory.
enter fra rm -rf /var/lib/weft
enter fra ip link delete wg0
enter fra nft add chain inet weft-wg0 zz
succeeds "its own table is taken up again" weft fra apply
lacks "without what was added to it" "zz" "$(enter fra nft list table inet weft-wg0)"
succeeds "down" weft fra down
done_testing
