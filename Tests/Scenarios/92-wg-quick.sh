#!/bin/bash
# Setups of real life, each brought up by wg-quick on one host and by weft on another: both end with the same peers,
# addresses, routes, rules and settings, and both treat packets alike. Every difference is named here, with its reason;
# one that is named and not found is a failure too.
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
. "$here/../Beds/leaks.sh"
need wg wg-quick nft iptables ping || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# `old` is wg-quick's, `new` is weft's; both have the same private key, and each a LAN with a box in it. They take turns at
# the peers far1, far2 and far3, which are set up with plain tools.
mesh_host old new far1 far2 far3
for host in old new; do
    mesh_lan $host
    mesh_host box$host behind $host
    answers box$host 7000
done
for host in hub old new far1; do answers $host 7000; done
internet4=203.0.113.1 internet6=2001:db8:ffff::1
topology_begin # makes the keys
topology_node new 10.80.0.2
enter old install -D -m 600 /dev/null /etc/weft/private.key
enter new cat /etc/weft/private.key | enter old sh -c 'cat >/etc/weft/private.key'
private=$(enter new cat /etc/weft/private.key) self=$(public_key new)
for number in 1 2 3; do
    host=far$number
    topology_node $host 10.80.0.1$number
    declare "key$number=$(public_key $host)" "far$number=$(mesh_address $host 4)" "far${number}_6=$(mesh_address $host 6)"
    mesh_device $host >/dev/null
    enter $host sh -ec "
        wg set wg0 private-key /etc/weft/private.key listen-port 51820
        ip link set wg0 mtu 1420 up
        ip address add 10.80.0.1$number/32 dev wg0
        ip address add fd80::1$number/128 dev wg0 nodad
        for route in 10.80.0.0/16 192.168.0.0/16; do ip route add \$route dev wg0 src 10.80.0.1$number; done
        for route in fd80::/48 fd00:192:168::/48; do ip -6 route add \$route dev wg0 src fd80::1$number; done"
done
# What lies behind them; far1 is an exit that masquerades nothing, so the world sees who called.
enter far1 sh -ec 'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    ip address add 10.20.0.1/16 dev lo; ip address add fd20::1/64 dev lo nodad'
enter far2 sh -ec 'ip address add 10.20.5.1/24 dev lo; ip address add 10.22.0.1/24 dev lo'
answers far2 7000
enter hub ip route add 10.80.0.0/16 via "$far1"
enter hub ip -6 route add fd80::/48 via "$far1_6"

# openresolv, as far as both use it.
for host in old new; do
    enter $host sh -ec 'mkdir -p /run/fake /run/resolvconf; cat >/run/fake/resolvconf; chmod 755 /run/fake/resolvconf' <<'END'
#!/bin/sh
folder=/run/fake/interfaces
mkdir -p $folder
case $1 in
-a) cat >"$folder/$2" ;;
-d) rm -f "$folder/$2" ;;
-l) shift; cd $folder && for name in ${*:-*}; do [ -e "$name" ] && { echo "# resolv.conf from $name"; cat "$name"; }; done ;;
--version) echo "openresolv 3.12.0" ;;
esac
exit 0
END
done
PATH_fake=/run/fake:$PATH

# ------------------------------------------------------------------------------------------------------- a setup

# Usual differences, and why:
#   address  weft gives an interface /32 and /128: what is reached is said by the peers, so there is no connected route
#   route    weft keeps packets for absent nodes from leaving by the default route: `unreachable` mesh ranges
#   routes   `Address = 10.80.0.2/24` brings a connected route, and wg-quick adds none for what it covers; weft has one for
#            each address of each peer (see connected)
#   numbers  mark, table and priorities follow from the interface's name, not "the first free", and the rule looks at the
#            mark's highest byte only, so that no tunnel takes another's packets (left out of the text)
#   proto    weft's routes and rules say whose they are: proto 119 (left out of the text)
usual='^[<>] (address |route [0-9a-f.:]+/(16|24|48|64) main$|route unreachable (10\.80\.0\.0/16|fd80::/48))'

# All that a host ends with, but for what is listed above as left out. In few processes: emulated, each costs 40 ms.
ends() { # HOST
    enter "$1" sh -c '
        wg show wg0 dump; echo "@port"; wg show wg0 listen-port; echo "@mtu"; cat /sys/class/net/wg0/mtu
        echo "@address"; ip -o address show dev wg0 scope global
        for family in -4 -6; do
            echo "@route"; ip $family route show table all
            echo "@rule $family"; ip $family rule show
        done
        cd /proc/sys/net
        echo "@forwarding"; cat ipv4/ip_forward ipv6/conf/all/forwarding
        echo "@src_valid_mark"; cat ipv4/conf/all/src_valid_mark
        echo "@dns"; cat /run/fake/interfaces/* 2>/dev/null' | awk -v called="$called" -v port="$port" '
        function sorted(list,   n, i, j, t, a) {
            n = split(list, a, ",")
            for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t }
            list = a[1]
            for (i = 2; i <= n; i++) list = list "," a[i]
            return list
        }
        NR == 1 { print "device", $2, ($4 == "off" ? "unmarked" : "marked"); next }
        /^@/ { section = substr($1, 2); family = $2; next }
        section == "" { print "peer", $1, $2, (called ? "-" : $3), sorted($4), $8; next }
        section == "port" { if (port != "") print "port", $1; next }
        section == "address" { print "address", $4; next }
        section == "route" {
            if ($0 !~ /dev wg0|^unreachable/ || /^fe80|^multicast|^ff00|table local/) next
            table = " main"
            if (match($0, / table [0-9]+/)) {
                table = substr($0, RSTART + 6, RLENGTH - 6)
                if (length(table) > 5) table = " TABLE"
            }
            gsub(/ (table|dev|proto|scope|src|metric|pref|expires|error) [^ ]+/, "")
            gsub(/ linkdown/, "")
            sub(/ +$/, "")
            print "route " $0 table
            next
        }
        section == "rule" {
            sub(/^[0-9]+:[ \t]*/, "")
            sub(/ proto [^ ]+/, "")
            sub(/fwmark 0x[0-9a-f]+(\/0xff000000)?/, "fwmark MARK")
            if (match($0, /lookup [0-9]+/) && RLENGTH > 11) $0 = substr($0, 1, RSTART - 1) "lookup TABLE" substr($0, RSTART + RLENGTH)
            sub(/ +$/, "")
            if ($0 !~ /^from all lookup (local|main|default)$/) print "rule", family, $0
            next
        }
        { print section, $0 }'
}

# Names for what differs between the two hosts by nature.
same_names() { # HOST
    local lan
    lan=$(<"$_mesh_folder/hosts/$1/lan")
    sed -e "s/\b$(mesh_address "$1" 4)\b/SELF4/g; s/\b$(mesh_address "$1" 6)\b/SELF6/g" \
        -e "s/\b$(mesh_address "box$1" 4)\b/BOX4/g; s/\b$(mesh_address "box$1" 6)\b/BOX6/g" \
        -e "s/192\.168\.$lan\./192.168.LAN./g; s/fd00:192:168:$lan:/fd00:192:168:LAN:/g"
}

# FROM ADDRESS: as whom FROM is seen there; FROM is me, box or a host; ADDRESS may be BOX4, BOX6, ME4 or ME6.
probe() { # HOST FROM ADDRESS
    local from=$2 address=$3
    case $from in me) from=$1 ;; box) from=box$1 ;; esac
    case $address in
    BOX4) address=$(mesh_address "box$1" 4) ;;
    BOX6) address=$(mesh_address "box$1" 6) ;;
    ME4) address=$(mesh_address "$1" 4) ;;
    ME6) address=$(mesh_address "$1" 6) ;;
    esac
    echo "probe $2 $3: $(seen_by "$from" "$address")"
}

# Gives a peer its end: far N HOST ALLOWED [WORD…]; the words are `wg set`'s.
far() {
    local number=$1 host=$2 allowed=$3
    shift 3
    enter "far$number" wg set wg0 peer "$self" remove
    enter "far$number" wg set wg0 peer "$self" allowed-ips "$allowed" "$@"
}

setup() { # WHAT [YAML of mesh…]
    what=$1 port= called= probes=() expected=()
    fars() { far 1 "$1" 10.80.0.2/32,fd80::2/128; }
    shift
    topology_begin "$@"
}
node() { topology_node "$@"; }
# What wg-quick reads: [Interface] with the private key is written already.
quick() { cat >"$_mesh_folder/quick"; }
connected() { differs "wg-quick skips what its connected route covers" "^> route ($1) main"; } # ADDRESSES
differs() { expected+=("$2|$1"); } # REASON REGEX-OF-DIFF-LINE

compare() {
    local host results=() left expectation reason found problem try
    for host in old new; do
        fars $host
        if [ $host = old ]; then
            { echo "[Interface]"; echo "PrivateKey = $private"; sed "s/BOXLAN/$(<"$_mesh_folder/hosts/old/lan")/g" "$_mesh_folder/quick"; } |
                enter old sh -c 'umask 077; mkdir -p /etc/wireguard; cat >/etc/wireguard/wg0.conf'
            problem=$(enter old env PATH="$PATH_fake" wg-quick up wg0 2>&1) || { fail "$what: wg-quick up" "exit code 0" "$problem"; return; }
        else
            sed -i "s/BOXLAN/$(<"$_mesh_folder/hosts/new/lan")/g" "$topology"/*.yaml
            problem=$(enter new env PATH="$PATH_fake" "$WEFT" apply --yes "$topology" 2>&1) ||
                fail "$what: weft apply" "exit code 0" "$problem"
            exits 0 "$what: weft plans nothing more" enter new env PATH="$PATH_fake" "$WEFT" plan --detailed-exitcode "$topology"
        fi
        # The first question makes the handshakes, and is asked until it is answered.
        if [ ${#probes[@]} -gt 0 ]; then
            for ((try = 0; try < 20; try++)); do
                [[ $(probe $host ${probes[0]}) == *": " ]] || break
            done
        fi
        results+=("$({ ends $host; for found in "${probes[@]}"; do probe $host $found; done; } | same_names $host)")
        if [ $host = old ]; then
            enter old env PATH="$PATH_fake" wg-quick down wg0 >/dev/null 2>&1
            # wg-quick leaves it on when it goes; weft does not, as below is seen.
            enter old sysctl -qw net.ipv4.conf.all.src_valid_mark=0
        else
            succeeds "$what: weft down" enter new env PATH="$PATH_fake" "$WEFT" down --yes "$topology"
        fi
    done
    left=$(diff <(sort <<<"${results[0]}") <(sort <<<"${results[1]}") | grep '^[<>]' | grep -vE "$usual")
    for expectation in "${expected[@]}"; do
        reason=${expectation##*|} expectation=${expectation%|*}
        if ! grep -qE -e "$expectation" <<<"$left"; then
            fail "$what: differs by $reason" "a difference that matches: $expectation" "$left"
        fi
        left=$(grep -vE -e "$expectation" <<<"$left")
    done
    same "$what: both end alike" "" "$left"
    # The rules are in the same order, which sorting hides.
    if [ ${#expected[@]} = 0 ]; then
        same "$what: with rules in the same order" "$(grep '^rule' <<<"${results[0]}")" "$(grep '^rule' <<<"${results[1]}")"
    fi
    # A probe that nobody answers on either side shows nothing, unless it is meant so.
    if [ ${#probes[@]} -gt 0 ]; then matches "$what: and packets pass" '^probe .*: .' "${results[1]}"; fi
}

peer1="
[Peer]
PublicKey = $key1
Endpoint = $far1:51820"

# --------------------------------------------------------------------------------------------------------- clients

setup "a client of one server"
node new 10.80.0.2 fd80::2
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1"
probes=("me 10.80.0.11" "me fd80::11")
quick <<END
Address = 10.80.0.2/24, fd80::2/64
$peer1
AllowedIPs = 10.80.0.11/32, fd80::11/128
PersistentKeepalive = 25
END
connected '10\.80\.0\.11|fd80::(11|2)'
compare

setup "a split tunnel"
node new 10.80.0.2 fd80::2
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "allowedIPs: [10.20.0.0/16, \"fd20::/64\"]"
probes=("me 10.20.0.1" "me fd20::1" "me $internet4" "me $internet6")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
$peer1
AllowedIPs = 10.80.0.11/32, fd80::11/128, 10.20.0.0/16, fd20::/64
PersistentKeepalive = 25
END
compare

setup "a full tunnel, both families"
node new 10.80.0.2 fd80::2 -- "useExit: far1"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "exit: true"
probes=("me $internet4" "me $internet6" "me 10.80.0.11" "me fd80::11" "box ME4" "me BOX4" "box $internet4")
quick <<END
Address = 10.80.0.2/24, fd80::2/64
$peer1
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
END
differs "a node's own addresses are written out beside the default routes: a peer without its /0 keeps them" \
    '^[<>] peer .*0\.0\.0\.0/0'
differs "each of those has a route, in the tunnel's table" '^> route (10\.80\.0\.11|fd80::11) '
connected 'fd80::2'
compare

setup "a full tunnel, IPv4 only" "addresses: [10.80.0.0/16]"
node new 10.80.0.2 -- "useExit: far1"
node far1 10.80.0.11 -- "endpoint: $far1" "exit: true"
probes=("me $internet4" "me $internet6")
quick <<END
Address = 10.80.0.2/24
$peer1
AllowedIPs = 0.0.0.0/0
PersistentKeepalive = 25
END
differs "own addresses" '^[<>] peer .*0\.0\.0\.0/0'
differs "each has a route" '^> route 10\.80\.0\.11 '
differs "wg-quick lets IPv6 out beside the tunnel; weft has no way for it" '^> route unreachable default TABLE'
differs "so both rules are there for IPv6 too" '^> rule -6 '
differs "and it does not get out" "^[<>] probe me $internet6:"
compare

setup "IPv6 only" "addresses: [\"fd80::/48\"]"
node new fd80::2
node far1 fd80::11 -- "endpoint: \"[$far1_6]:51820\"" "allowedIPs: [\"fd20::/64\"]"
probes=("me fd80::11" "me fd20::1")
quick <<END
Address = fd80::2/64

[Peer]
PublicKey = $key1
Endpoint = [$far1_6]:51820
AllowedIPs = fd80::11/128, fd20::/64
PersistentKeepalive = 25
END
connected 'fd80::(11|2)'
compare

setup "three peers"
node new 10.80.0.2 fd80::2
for number in 1 2 3; do
    peer=far$number
    node $peer 10.80.0.1$number fd80::1$number -- "endpoint: ${!peer}"
done
fars() { for number in 1 2 3; do far $number "$1" 10.80.0.2/32,fd80::2/128; done; }
probes=("me 10.80.0.11" "me 10.80.0.12" "me fd80::12" "me fd80::11")
quick <<END
Address = 10.80.0.2/24, fd80::2/64
$peer1
AllowedIPs = 10.80.0.11/32, fd80::11/128
PersistentKeepalive = 25

[Peer]
PublicKey = $key2
Endpoint = $far2:51820
AllowedIPs = 10.80.0.12/32, fd80::12/128
PersistentKeepalive = 25

[Peer]
PublicKey = $key3
Endpoint = $far3:51820
AllowedIPs = 10.80.0.13/32, fd80::13/128
PersistentKeepalive = 25
END
connected '10\.80\.0\.1[123]|fd80::(1[123]|2)'
compare

setup "allowed IPs within others'"
node new 10.80.0.2
node far1 10.80.0.11 -- "endpoint: $far1" "allowedIPs: [10.20.0.0/16]"
node far2 10.80.0.12 -- "endpoint: $far2" "allowedIPs: [10.20.5.0/24]"
fars() { for number in 1 2; do far $number "$1" 10.80.0.2/32; done; }
probes=("me 10.20.0.1" "me 10.20.5.1" "me 10.80.0.12")
quick <<END
Address = 10.80.0.2/24
$peer1
AllowedIPs = 10.80.0.11/32, 10.20.0.0/16
PersistentKeepalive = 25

[Peer]
PublicKey = $key2
Endpoint = $far2:51820
AllowedIPs = 10.80.0.12/32, 10.20.5.0/24
PersistentKeepalive = 25
END
connected '10\.80\.0\.1[12]'
compare

setup "Table = off"
node new 10.80.0.2 -- "table: off"
node far1 10.80.0.11 -- "endpoint: $far1" "allowedIPs: [10.20.0.0/16]"
quick <<END
Address = 10.80.0.2/32
Table = off
$peer1
AllowedIPs = 10.80.0.11/32, 10.20.0.0/16
PersistentKeepalive = 25
END
compare

setup "a table and a mark of one's own"
node new 10.80.0.2 fd80::2 -- "table: 1234" "fwMark: 0x77"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "allowedIPs: [10.20.0.0/16]"
quick <<END
Address = 10.80.0.2/32, fd80::2/128
Table = 1234
FwMark = 0x77
$peer1
AllowedIPs = 10.80.0.11/32, fd80::11/128, 10.20.0.0/16
PersistentKeepalive = 25
END
compare

setup "a full tunnel with a mark of one's own"
node new 10.80.0.2 fd80::2 -- "useExit: far1" "fwMark: 123456"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "exit: true"
probes=("me $internet4" "me $internet6")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
FwMark = 123456
$peer1
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
END
differs "own addresses" '^[<>] peer .*0\.0\.0\.0/0'
differs "each has a route" '^> route (10\.80\.0\.11|fd80::11) '
compare

setup "an MTU"
node new 10.80.0.2 fd80::2 -- "mtu: 1300"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1"
probes=("me 10.80.0.11" "me fd80::11")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
MTU = 1300
$peer1
AllowedIPs = 10.80.0.11/32, fd80::11/128
PersistentKeepalive = 25
END
compare

setup "a preshared key" "presharedKeys: directory"
shared=$(wg genpsk)
enter new sh -c 'umask 077; mkdir -p /etc/weft/preshared-keys; cat >/etc/weft/preshared-keys/far1' <<<"$shared"
enter far1 sh -c 'umask 077; cat >/etc/weft/shared' <<<"$shared"
node new 10.80.0.2 fd80::2
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1"
fars() { far 1 "$1" 10.80.0.2/32,fd80::2/128 preshared-key /etc/weft/shared; }
probes=("me 10.80.0.11" "me fd80::11")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
$peer1
PresharedKey = $shared
AllowedIPs = 10.80.0.11/32, fd80::11/128
PersistentKeepalive = 25
END
compare

setup "a keepalive, and a port"
port=4444
node new 10.80.0.2 -- "listenPort: 4444"
node far1 10.80.0.11 -- "endpoint: $far1"
topology_file links.yaml <<END
links:
  - {between: [new, far1], persistentKeepalive: 7}
END
probes=("me 10.80.0.11")
quick <<END
Address = 10.80.0.2/32
ListenPort = 4444
$peer1
AllowedIPs = 10.80.0.11/32
PersistentKeepalive = 7
END
compare

setup "a road warrior with name servers"
node new 10.80.0.2 fd80::2 -- "useExit: far1" "dns: {servers: [10.80.0.11, \"fd80::11\"], domains: [corp.internal]}"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "exit: true"
probes=("me $internet4")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
DNS = 10.80.0.11, fd80::11, corp.internal
$peer1
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
END
differs "own addresses" '^[<>] peer .*0\.0\.0\.0/0'
differs "each has a route" '^> route (10\.80\.0\.11|fd80::11) '
compare
same "after down no name servers are left" "" "$(enter new sh -c 'cat /run/fake/interfaces/* 2>/dev/null')"

# --------------------------------------------------------------------------------------------------------- servers

# far1 and far2 dial.
clients() {
    for number in 1 2; do
        far $number "$1" 0.0.0.0/0,::/0 endpoint "$(mesh_address "$1" 4):51820" persistent-keepalive 1
    done
    # The world is behind the server now; the endpoint is not.
    enter far1 ip route replace $internet4/32 dev wg0 src 10.80.0.11
    enter far1 ip -6 route replace $internet6/128 dev wg0 src fd80::11
}
servers() {
    # Where they are is told by them: not an endpoint that was set.
    port=51820 called=1
    node far1 10.80.0.11 fd80::11
    node far2 10.80.0.12 fd80::12
    fars() { clients "$1"; }
}
server="Address = 10.80.0.2/24, fd80::2/64
ListenPort = 51820"
peers="
[Peer]
PublicKey = $key1
AllowedIPs = 10.80.0.11/32, fd80::11/128

[Peer]
PublicKey = $key2
AllowedIPs = 10.80.0.12/32, fd80::12/128"
# wg-quick's hosts switch forwarding on for good, in /etc/sysctl.conf; here for as long as they are up.
forwarding="PostUp = sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
PostDown = sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"
topology_server() { node new 10.80.0.2 fd80::2 -- "endpoint: $(mesh_address new 4)" "$@"; }
# The router of the internet knows no way back to the mesh here.
enter hub ip route del 10.80.0.0/16
enter hub ip -6 route del fd80::/48

setup "a server that masquerades, by iptables"
servers
topology_server "exit: true" "masquerade: {interfaces: [eth0]}"
probes=("far1 $internet4" "far1 $internet6" "far1 10.80.0.2" "far1 10.80.0.12" "me 10.80.0.11")
quick <<END
$server
$forwarding
PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -A FORWARD -o %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
PostUp = ip6tables -A FORWARD -i %i -j ACCEPT; ip6tables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
PostDown = iptables -D FORWARD -i %i -j ACCEPT; iptables -D FORWARD -o %i -j ACCEPT; iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE
PostDown = ip6tables -D FORWARD -i %i -j ACCEPT; ip6tables -t nat -D POSTROUTING -o eth0 -j MASQUERADE
$peers
END
connected '10\.80\.0\.1[12]|fd80::(1[12]|2)'
compare

setup "a server that masquerades, by nft"
servers
topology_server "exit: true" "masquerade: true"
probes=("far1 $internet4" "far1 $internet6" "far2 10.80.0.11")
quick <<END
$server
$forwarding
PostUp = nft add table inet wg; nft add chain inet wg nat '{ type nat hook postrouting priority 100; }'; nft add rule inet wg nat ip saddr 10.80.0.0/16 ip daddr != 10.80.0.0/16 masquerade; nft add rule inet wg nat ip6 saddr fd80::/48 ip6 daddr != fd80::/48 masquerade
PostDown = nft delete table inet wg
$peers
END
connected '10\.80\.0\.1[12]|fd80::(1[12]|2)'
compare

setup "a LAN behind a server, seen by its own addresses"
servers
topology_server "allowedIPs: [192.168.BOXLAN.0/24, \"fd00:192:168:BOXLAN::/64\"]"
probes=("far1 BOX4" "far1 BOX6" "box 10.80.0.11" "box fd80::11")
quick <<END
$server
$forwarding
$peers
END
connected '10\.80\.0\.1[12]|fd80::(1[12]|2)'
compare

setup "a LAN behind a server that masquerades towards it"
servers
topology_server "allowedIPs: [192.168.BOXLAN.0/24]" "masquerade: {interfaces: [br0]}"
probes=("far1 BOX4" "box 10.80.0.11" "far1 10.80.0.2")
quick <<END
$server
PostUp = sysctl -q -w net.ipv4.ip_forward=1
PostUp = iptables -t nat -A POSTROUTING -o br0 -j MASQUERADE
PostDown = iptables -t nat -D POSTROUTING -o br0 -j MASQUERADE; sysctl -q -w net.ipv4.ip_forward=0
$peers
END
connected '10\.80\.0\.1[12]|fd80::(1[12]|2)'
compare

# --------------------------------------------------------------------------------------------------- a kill switch

enter far1 ip route del $internet4/32
enter far1 ip -6 route del $internet6/128
enter hub ip route add 10.80.0.0/16 via "$far1"
enter hub ip -6 route add fd80::/48 via "$far1_6"
setup "the manual page's kill switch"
node new 10.80.0.2 fd80::2 -- "useExit: far1" "killSwitch: {allow: [192.168.BOXLAN.0/24]}"
node far1 10.80.0.11 fd80::11 -- "endpoint: $far1" "exit: true"
probes=("me $internet4" "me $internet6" "me BOX4" "me BOX6" "box ME4")
quick <<END
Address = 10.80.0.2/32, fd80::2/128
PostUp = iptables -I OUTPUT ! -o %i -m mark ! --mark \$(wg show %i fwmark) -m addrtype ! --dst-type LOCAL ! -d 192.168.BOXLAN.0/24 -j REJECT && ip6tables -I OUTPUT ! -o %i -m mark ! --mark \$(wg show %i fwmark) -m addrtype ! --dst-type LOCAL -j REJECT
PreDown = iptables -D OUTPUT ! -o %i -m mark ! --mark \$(wg show %i fwmark) -m addrtype ! --dst-type LOCAL ! -d 192.168.BOXLAN.0/24 -j REJECT && ip6tables -D OUTPUT ! -o %i -m mark ! --mark \$(wg show %i fwmark) -m addrtype ! --dst-type LOCAL -j REJECT
$peer1
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
END
differs "own addresses" '^[<>] peer .*0\.0\.0\.0/0'
differs "each has a route" '^> route (10\.80\.0\.11|fd80::11) '
differs "weft reaches what it allows beside the tunnel, also by the host's default route" \
    '^> rule -4 from all to 192\.168\.LAN\.0/24 lookup main'
compare
done_testing
