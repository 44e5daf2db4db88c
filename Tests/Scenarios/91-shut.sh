#!/bin/bash
# A kill switch that is shut is said to be, where people look; and `weft down` opens it, whatever stands of the rest: with
# the link gone, on a disk that is full, and with a state folder that nobody can write to. A port that a host publishes for
# a container is open to who is allowed, as the host's own are. Who lives behind the host is given addresses by it.
# daily: namespaces
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg nft ping tcpdump || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# ana has a LAN besides, so that settings of the host are claimed, and given back; near and far are in no mesh.
mesh_host fra ana near far
mesh_lan ana
mesh_host box behind ana
state=/var/lib/weft
enter ana mkdir -p $state
enter ana mount -t tmpfs -o size=256k,mode=700 state $state
topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true"
ana() { topology_node ana 10.80.1.7 fd80::107 -- "useExit: fra" "allowedIPs: [192.168.1.0/24]" "$@"; }
ana "killSwitch: true"
gateway=198.19.255.254
succeeds "fra: apply" weft fra apply
is_shut() { refuses "$1: nothing goes past the tunnel" enter ana ping -n -c 1 -W 1 -I eth0 $gateway; }
# Not only an answer that is late.
shuts() {
    enter ana nft list table inet weft-wg0 >/dev/null 2>&1 && ! enter ana ping -n -c 1 -W 1 -I eth0 $gateway
}
is_open() {
    refuses "$1: no table is left" enter ana nft list table inet weft-wg0
    lacks "$1: nor a rule" "fwmark" "$(enter ana ip rule)"
    refuses "$1: nor the link" enter ana ip link show wg0
    same "$1: forwarding is as it was" 0 "$(enter ana cat /proc/sys/net/ipv4/ip_forward)"
    succeeds "$1: packets leave" enter ana ping -n -c 1 -W 2 $gateway
}

succeeds "apply" weft ana apply
eventually 20 "the tunnel carries" enter ana ping -n -c 1 -W 1 10.80.0.1
is_shut "up"
lacks "with a tunnel that carries, status has nothing to say of it" "kill switch is shut" "$(weft ana status)"
same "but for programs" true "$(weft ana status --format json | jq .firewall.killSwitch)"
lacks "nor has doctor" "kill switch is shut" "$(weft ana doctor --offline)"
enter ana sh -c 'echo nameserver 198.18.99.99 >/etc/resolv.conf'
contains "but a name server beside the tunnel is cut off, and doctor says by what" \
    "the mesh keeps this host from the name server 198.18.99.99: the kill switch would refuse it" "$(weft ana doctor --offline)"
enter ana sh -c 'echo nameserver 9.9.9.9 >/etc/resolv.conf'
lacks "one that is reached through the exit is not" "name server" "$(weft ana doctor --offline)"
# Of the mesh's own name servers it is told as well, unless they are allowed.
own=$(mesh_address ana 4)
ana "killSwitch: true" "dns: {servers: [198.18.99.99, 9.9.9.9, $own]}"
for command in plan "doctor --offline"; do
    output=$(weft ana $command 2>&1)
    contains "$command: one of the mesh's name servers would be refused" \
        "the name server 198.18.99.99 is in 198.18.0.0/15, which this host is connected to by eth0: the kill switch of ana refuses it" "$output"
    contains "with what to do" 'put 198.18.99.99 or its network into `killSwitch: {allow: […]}`' "$output"
    lacks "not one that is asked through the exit" "name server 9.9.9.9" "$output"
    lacks "nor the host itself" "name server $own" "$output"
done
ana "killSwitch: {allow: [198.18.0.0/15]}" "dns: {servers: [198.18.99.99]}"
lacks "what is allowed is not refused" "the name server 198" "$(weft ana doctor --offline)"
ana "killSwitch: true"

# Somebody opens it by hand: status goes by what the rules do, not by what they are called.
opened() {
    succeeds "$1: packets leave" enter ana ping -n -c 1 -W 2 -I eth0 $gateway
    same "$1: status knows" "false true" "$(weft ana status --format json | jq -r '.firewall | "\(.killSwitch) \(.differs)"')"
    contains "$1: and says so" "inet weft-wg0 is not as the topology wants it" "$(weft ana status)"
    enter ana ip link set wg0 down
    lacks "$1: nor is it said to be shut with the tunnel down" "kill switch is shut" "$(weft ana status; weft ana doctor --offline)"
    converges ana
    is_shut "$1, and mended"
    same "$1: which status knows" "true false" "$(weft ana status --format json | jq -r '.firewall | "\(.killSwitch) \(.differs)"')"
}
enter ana nft insert rule inet weft-wg0 output accept
opened "a rule before it"
enter ana nft 'table inet weft-wg0 { flags dormant; }'
opened "asleep"

enter ana ip link set wg0 down
is_shut "set down"
contains "status says so" "The kill switch is shut: the interface is down" "$(weft ana status)"
contains "and doctor" "the kill switch is shut" "$(weft ana doctor --offline)"
contains "with the way out" '`weft down` opens' "$(weft ana doctor --offline)"
enter ana ip link delete wg0
is_shut "without its link"
contains "status says so" "The kill switch is shut: the interface is gone" "$(weft ana status)"
contains "without a topology too" "The kill switch is shut: the interface is gone" "$(enter ana "$WEFT" status /nowhere)"
contains "and doctor" "the kill switch is shut" "$(weft ana doctor --offline)"
converges ana

# Another name for the interface: what that costs is said.
sed -i 's/interface: wg0/interface: wg1/' "$topology/mesh.yaml"
refuses "another interface is refused while the mesh is on this one" weft ana apply
contains "with what to do" "weft down --interface wg0" "$output"
contains "and what that opens" "Its kill switch is open from the one to the other" "$output"
sed -i 's/interface: wg1/interface: wg0/' "$topology/mesh.yaml"
unchanged ana "with the old name all is well"

# ------------------------------------------------------------------------------------- addresses for who is behind

# What servers of DHCP and routers send to a link, and the same datagrams to somebody farther away.
cat >"$_mesh_folder/serve.py" <<'END'
import socket, struct, sys
def serve(kind, address, device):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if kind == "ra":
        s = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        data, port = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0), 0
    else:
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.bind(("", 67 if family == socket.AF_INET else 547))
        data, port = b"x", 68 if family == socket.AF_INET else 546
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    try: s.sendto(data, (address, port))
    except PermissionError: print(kind, address, "refused")
for target in sys.argv[1:]: serve(*target.split(","))
END
box_link=$(enter box ip -o -6 address show dev eth0 scope link | awk '{ sub("/.*", "", $4); print $4 }')
near4=$(mesh_address near 4) near6=$(mesh_address near 6)
serves() {
    begin_capture ana any "udp dst port 68 or udp dst port 546 or (icmp6 and ip6[40] = 134)"
    refused=$(enter ana /usr/bin/python3 "$_mesh_folder/serve.py" dhcp,255.255.255.255,br0 "dhcp,$box_link,br0" \
        ra,ff02::1,br0 "dhcp,$near4,eth0" "dhcp,$near6,eth0")
    end_capture >/dev/null
    sent=$(sed -nE 's/^(br0|eth0) +Out IP6? [^ ]+ > ([^ ]+): .*/\1 \2/p' <<<"$captured" | sort -u)
}
behind=$(printf '%s\n' "br0 255.255.255.255.68" "br0 $box_link.546" "br0 ff02::1" | sort)
ana
converges ana
serves
same "without the switch all gets out: to the link behind, and beyond" \
    "$(printf '%s\n' "$behind" "eth0 $near4.68" "eth0 $near6.546" | sort)" "$sent"
ana "killSwitch: true"
converges ana
serves
same "with it those behind are given addresses and told of the router" "$behind" "$sent"
same "and nobody beyond gets the like" "$(printf '%s\n' "dhcp $near4 refused" "dhcp $near6 refused")" "$refused"

# ---------------------------------------------------------------------------------------- a port of a container's

box4=$(mesh_address box 4) box6=$(mesh_address box 6)
ana4=$(mesh_address ana 4) ana6=$(mesh_address ana 6)
publishes ana "$box4" "$box6"
enter near ip route add "$box4/32" via "$ana4"
enter ana sysctl -qw net.ipv6.conf.all.forwarding=1
answers box 80 81
answers far 80
# Who gets how far: near and far to the port, near to the container itself, and the container to far.
tries() {
    local asked=() try
    begin_capture ana any tcp
    for try in "near $ana4 8080" "near $ana6 8080" "far $ana4 8080" "far $ana6 8080" "near $box4 81" \
        "box $(mesh_address far 4) 80" "box $(mesh_address far 6) 80"; do
        set -- $try
        ask "$1" tcp "$2" "$3" >"$_mesh_folder/asked-$1-$2" &
        asked+=($!)
    done
    wait "${asked[@]}"
    end_capture >/dev/null
    near="$(<"$_mesh_folder/asked-near-$ana4") $(<"$_mesh_folder/asked-near-$ana6")"
    far="$(<"$_mesh_folder/asked-far-$ana4") $(<"$_mesh_folder/asked-far-$ana6")"
    into=$(passed br0)
    out=$(passed eth0 | grep -F -e "$box4 >" -e "$box6 >")
}
# What ana lets out by an interface: who to whom.
passed() { sed -nE "s/^$1 +Out IP6? ([^ ]+)[.][0-9]+ > ([^ ]+): .*/\1 > \2/p" <<<"$captured" | sort -u; }
ana
converges ana
tries
same "without the switch near reaches the container's port" "$near4 $near6" "$near"
same "far too" "$(mesh_address far 4) $(mesh_address far 6)" "$far"
contains "near reaches the container past it" "$near4 > $box4.81" "$into"
contains "and what the container sends to far leaves" "$box4 > $(mesh_address far 4).80" "$out"
contains "in IPv6" "$box6 > $(mesh_address far 6).80" "$out"
ana "killSwitch: true"
converges ana
tries
same "with it nobody reaches the port" "nothing nothing" "$near"
same "far neither" "nothing nothing" "$far"
same "nothing comes to the container" "" "$into"
same "nor does anything leave from there" "" "$out"
ana "killSwitch: {allow: [$near4/32, \"$near6/128\"]}"
converges ana
tries
same "whom it allows reaches the port, as one of the host's own" "$near4 $near6" "$near"
same "far does not" "nothing nothing" "$far"
same "nothing else comes to the container" "$(printf '%s\n' "$near4 > $box4.80" "$near6 > $box6.80" | sort)" "$into"
same "nor does anything leave from there" "" "$out"
is_shut "with a port that is open"
enter ana nft delete table inet docker
enter ana sysctl -qw net.ipv6.conf.all.forwarding=0
ana "killSwitch: true"
converges ana

# ------------------------------------------------------------------------------------------------- nothing can be written

enter ana sh -c "cat /dev/zero >$state/filler" 2>/dev/null
exits 1 "down on a full disk: what cannot be forgotten is said" weft ana down
matches "in so many words" "No space left on device" "$output"
is_open "on a full disk"
enter ana rm "$state/filler"
succeeds "with room again" weft ana down
same "nothing is remembered" "" "$(enter ana find "$state" -name '*.json' ! -name clock.json)"
converges ana

locked() { enter ana sh -c "mount --bind $state $state && mount -o remount,bind,ro $state"; }
locked
refuses "read-only, nothing is applied" weft ana apply
is_shut "read-only"
enter ana sh -c 'nft delete table inet weft-wg0; ip link delete wg0'
launch ana "$WEFT" agent run --poll 1 "$topology" >"$(mesh_folder ana)/agent.log" 2>&1
agent=$!
eventually 10 "an agent that finds it so shuts all the same" shuts
eventually 5 "and says what it cannot do" grep -q "Read-only file system" "$(mesh_folder ana)/agent.log"
kill "$agent"
wait "$agent" 2>/dev/null
exits 1 "down with a read-only state folder" weft ana down
matches "says what could not be written" "Read-only file system" "$output"
is_open "read-only"
enter ana umount "$state"
succeeds "writable again" weft ana down
converges ana
enter ana sh -c "rm $state/*/wg0.lock"
locked
exits 1 "the same without a lock" weft ana down
matches "says that there is none" "no other run of weft is kept from changing wg0" "$output"
is_open "without a lock"
enter ana umount "$state"
succeeds "and in the end all is forgotten" weft ana down

# ------------------------------------------------------------------------------------- what it does not wait for at boot

# Interfaces, and the programs that take name servers, may come after weft.
if enter ana sh -c 'command -v resolvconf || command -v resolvectl' >/dev/null; then
    skip "name servers that nobody takes yet" "a host without resolvconf and resolvectl"
else
    late=("masquerade: {interfaces: [late0]}" "dns: {servers: [10.80.0.1]}")
    ana "${late[@]}"
    refuses "without a kill switch all is refused" weft ana apply
    contains "for the interface" "there is no interface late0 here" "$output"
    contains "and the name servers" "neither systemd-resolved nor resolvconf is here" "$output"
    is_open "and nothing was done"
    ana "killSwitch: true" "${late[@]}"
    exits 1 "with one, what is there is done" weft ana apply
    contains "with a word of the interface" "there is no interface late0 here" "$output"
    contains "and what keeps the name servers" "nothing on this host takes name servers for an interface" "$output"
    is_shut "all the same"
    eventually 20 "the tunnel carries" enter ana ping -n -c 1 -W 1 10.80.0.1
    contains "the rule waits for its interface" late0 "$(enter ana nft list chain inet weft-wg0 postrouting)"
    succeeds "down" weft ana down
    is_open "down"
    launch ana "$WEFT" agent run --poll 1 "$topology" >"$(mesh_folder ana)/agent.log" 2>&1
    agent=$!
    eventually 10 "an agent's too" shuts
    eventually 10 "which says what it lacks" grep -q "there is no interface late0 here" "$(mesh_folder ana)/agent.log"
    eventually 10 "and what fails" grep -q "takes name servers" "$(mesh_folder ana)/agent.log"
    kill "$agent"
    wait "$agent" 2>/dev/null
    ana "killSwitch: true"
    succeeds "down" weft ana down
fi

# Nor does it wait for what stands in the way of the rest, where it was shut before.
converges ana
mark=$(enter ana wg show wg0 fwmark)
obstacle() { enter ana ip rule "$1" fwmark "$mark" table 701 priority 901; }
obstacle add
enter ana sh -c 'nft delete table inet weft-wg0; ip link delete wg0'
exits 1 "with somebody's rule in the way" weft ana apply
contains "it alone is set right" "nothing but the kill switch was set right" "$output"
is_shut "with a rule in the way"
refuses "and nothing else is made" enter ana ip link show wg0
exits 1 "then nothing can be done" weft ana plan --detailed-exitcode
contains "until the rule is gone" "Nothing can be done while" "$output"
enter ana nft delete table inet weft-wg0
launch ana "$WEFT" agent run --poll 1 "$topology" >"$(mesh_folder ana)/agent.log" 2>&1
agent=$!
eventually 10 "an agent sets it right too" shuts
obstacle del
eventually 20 "and the rest once the rule is gone" enter ana ping -n -c 1 -W 1 10.80.0.1
kill "$agent"
wait "$agent" 2>/dev/null

# Nor for a key: what is shut needs none.
loses() { enter ana sh -c 'nft delete table inet weft-wg0; ip link delete wg0'; }
keyless() { # WHAT SAID
    loses
    refuses "$1: apply" weft ana apply
    contains "$1: is refused with the reason" "$2" "$output"
    contains "$1: with a word of what it has done all the same" "nothing but the kill switch was set right" "$output"
    is_shut "$1"
    refuses "$1: once more" weft ana apply
    contains "$1: there is nothing left to do" "nothing was changed" "$output"
    enter ana nft delete table inet weft-wg0
    launch ana "$WEFT" agent run --poll 1 "$topology" >"$(mesh_folder ana)/agent.log" 2>&1
    agent=$!
    eventually 10 "$1: an agent shuts it too" shuts
    contains "$1: and says what it lacks" "$2" "$(<"$(mesh_folder ana)/agent.log")"
    enter ana nft delete table inet weft-wg0
    eventually 5 "$1: and heals it" enter ana nft list table inet weft-wg0
    refuses "$1: nothing else is made" enter ana ip link show wg0
}
carries() { # WHAT
    eventually 20 "$1: then the tunnel carries" enter ana ping -n -c 1 -W 1 10.80.0.1
    is_shut "$1: with the key"
    kill "$agent"
    wait "$agent" 2>/dev/null
}
# What is in force but for a route in the way of a part is what is kept: it has the switch.
ana
succeeds "without the switch" weft ana apply
enter ana ip route add 10.60.0.0/24 dev eth0 proto static
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true" "allowedIPs: [10.60.0.0/24]"
ana "killSwitch: true"
exits 1 "with it, and with something in the way" weft ana apply
loses
enter ana mv /etc/weft/private.key /etc/weft/away
refuses "without the key" weft ana apply
is_shut "something in the way, and no key"
enter ana mv /etc/weft/away /etc/weft/private.key
enter ana ip route delete 10.60.0.0/24 dev eth0
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "exit: true" "masquerade: true"
succeeds "apply" weft ana apply
enter ana chmod 644 /etc/weft/private.key
keyless "a key that others can read" "chmod 600"
enter ana chmod 600 /etc/weft/private.key
carries "a key that others could read"
enter ana mv /etc/weft/private.key /etc/weft/away
keyless "no key" "/etc/weft/private.key"
enter ana mv /etc/weft/away /etc/weft/private.key
carries "no key at first"
sed -i '/^mesh:/a\  presharedKeys: directory' "$topology/mesh.yaml"
enter ana sh -c 'umask 77; mkdir -p /etc/weft/preshared-keys; wg genpsk >/etc/weft/preshared-keys/fra'
succeeds "with preshared keys" weft ana apply
enter ana rm /etc/weft/preshared-keys/fra
keyless "no preshared key" "/etc/weft/preshared-keys/fra"
sed -i '/presharedKeys/d' "$topology/mesh.yaml"
carries "no preshared key"
# It is shut as it was: what was edited meanwhile waits for the key, and so does the mesh's end.
converges ana
for edit in "disabled: true" "expires: 2020-01-01T00:00:00Z" "useExit: fra"; do
    ana "killSwitch: {allow: [198.18.0.0/15]}" "$edit"
    if [ "$edit" = "useExit: fra" ]; then topology_node ana 10.80.1.8 fd80::108 -- "allowedIPs: [192.168.1.0/24]"; fi
    enter ana mv /etc/weft/private.key /etc/weft/away
    enter ana nft delete table inet weft-wg0
    exits 1 "$edit, without the key: a plan" weft ana plan --detailed-exitcode
    contains "$edit, without the key: shows what apply does" "comment \"kill switch\"" "$output"
    refuses "$edit, without the key: apply" weft ana apply
    is_shut "$edit, without the key"
    succeeds "$edit, without the key: the link stays" enter ana ip link show wg0
    document=$(weft ana doctor --offline --format json)
    contains "$edit, without the key: doctor names it" "/etc/weft/private.key: there is no such file" \
        "$(jq -r '.findings[] | select(.check == "key").message' <<<"$document")"
    enter ana mv /etc/weft/away /etc/weft/private.key
done
ana "killSwitch: true"
succeeds "down" weft ana down
enter ana mv /etc/weft/private.key /etc/weft/away
refuses "a switch that was taken down" weft ana apply
lacks "is none to set right" "kill switch" "$output"
is_open "and without a key"
enter ana mv /etc/weft/away /etc/weft/private.key
obstacle add
refuses "a switch that is new waits for the rest" weft ana apply
contains "as it says" "nothing was changed" "$output"
obstacle del
is_open "before the first apply"

# ------------------------------------------------------------------------------------------------------ killed on the way

# While the mark of the tunnel's own packets changes, and while the switch comes to a tunnel that works: it goes on working.
killpoint=${WEFT%/*}/weft-killpoint
if [ -x "$killpoint" ]; then
    killed() { # WHAT, and before: how ana is before
        for point in 1 2 3 4; do
            before
            weft ana apply >/dev/null
            eventually 20 "$1: it carries" enter ana ping -n -c 1 -W 1 10.80.0.1
            ana "killSwitch: true" "fwMark: 0x1234"
            refuses "$1: killed at operation $point" \
                enter ana env WEFT_KILL=operation:$point "$killpoint" apply --yes "$topology"
            eventually 5 "$1, killed at operation $point: it goes on" enter ana ping -n -c 1 -W 1 10.80.0.1
        done
        converges ana
        is_shut "$1"
    }
    before() { ana "killSwitch: true"; }
    killed "another mark"
    before() { topology_node ana 10.80.1.7 fd80::107 -- "allowedIPs: [192.168.1.0/24]" "mtu: 1400"; }
    killed "a switch that comes"
    succeeds "down" weft ana down
else
    skip "killed on the way" "$killpoint"
fi

# --------------------------------------------------------------------------------------------------- somebody else's link

before=$(enter ana ip -d link show eth0)
refuses "down of a link that is not weft's" weft ana down --interface eth0
contains "says whose it is not" "eth0 is not an interface of weft's" "$output"
sed -i 's/interface: wg0/interface: eth0/' "$topology/mesh.yaml"
succeeds "down where the topology names such a one" weft ana down
contains "says the same" "Nothing to remove: eth0 is not weft's, and is left as it is" "$output"
lacks "and not that it is not there" "not there" "$output"
same "it is left alone" "$before" "$(enter ana ip -d link show eth0)"
done_testing
