#!/bin/bash
# Other programs' firewalls on the same host: Docker's, ufw's, firewalld's, and one that was written by hand. Theirs are
# never touched. Where they drop what the mesh needs, the plan names them and what to type, and typed it works. And what a
# host may lack: settings that can be written, nf_tables, somebody who takes name servers.
# timeout: 300
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/traffic.sh"
need wg nft iptables ping jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin

# fra relays between ana and bob, and has a LAN; she dials nobody, so everything hangs on her port.
mesh_host fra ana bob
mesh_lan fra
mesh_host box behind fra
answers box 7000
answers ana 7000
topology_begin "connect: hubs"
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true" \
    "allowedIPs: [192.168.1.0/24, \"fd00:192:168:1::/64\"]"
topology_node ana 10.80.0.2 fd80::2
topology_node bob 10.80.0.3 fd80::3
for host in ana bob; do converges $host; done

theirs() { enter fra nft -s list ruleset | awk '/^table inet weft-/ { skip = 1 } !skip { print } /^}/ { skip = 0 }'; }
relayed() { enter ana ping -n -c 1 -W 1 10.80.0.3; }
relayed6() { enter ana ping -n -c 1 -W 1 fd80::3; }
to_lan() { [ "$(ask ana udp "$(mesh_address box 4)" 7000)" = 10.80.0.2 ]; }
from_lan() { [ "$(ask box udp 10.80.0.2 7000)" = "$(mesh_address box 4)" ]; }
to_hub() { enter ana ping -n -c 1 -W 1 10.80.0.1; }
against() { weft "${1-fra}" plan --format json | jq -r '.hindrances[] | "\(.kind) \(.description): \(.remedy)"'; }

# Types what a plan says against each hindrance.
types_remedies() { # WHAT [HOST]
    local command commands host=${2-fra}
    commands=$(weft $host plan --format json | jq -r '.hindrances[].remedy' | grep -oE '`[^`]+`' | tr -d '`' | sort -u)
    matches "$1: a remedy is a command" '.' "$commands"
    while IFS= read -r command; do
        note "$command"
        succeeds "$1: it can be typed" enter $host env PATH="$_mesh_folder/bin:$PATH" sh -c "$command"
    done <<<"$commands"
}

# Sessions with a hub that has come again: the others would notice after a quarter of a minute.
fresh() {
    local host
    for host in ana bob; do
        weft $host down
        weft $host apply
    done >/dev/null 2>&1
}

# A neighbour comes: with weft's mesh live, and before it. What the mesh needs is dropped, is named, and is mended.
neighbour() { # WHAT NAMED COMES GOES
    local what=$1 named=$2 comes=$3 goes=$4 before
    $comes
    before=$(theirs)
    succeeds "$what: apply" weft fra apply
    same "$what: nothing of theirs is touched" "$before" "$(theirs)"
    fresh
    matches "$what: the plan names them" "$named" "$(against)"
    contains "$what: as text too" "not this mesh's, and against it" "$(weft fra plan)"
    matches "$what: and so does weft doctor" "$named" "$(weft fra doctor 2>&1)"
    refuses "$what: because they drop what is relayed" relayed
    types_remedies "$what"
    eventually 10 "$what: then it is relayed" relayed
    eventually 5 "$what: by IPv6 too" relayed6
    eventually 5 "$what: and to the LAN" to_lan
    eventually 5 "$what: and from it" from_lan
    eventually 5 "$what: and the hub answers" to_hub
    same "$what: the plan names nobody any more" "" "$(against)"
    unchanged fra "$what: and there is nothing to do"
    before=$(theirs)
    succeeds "$what: down" weft fra down
    same "$what: nothing of theirs is touched by down" "$before" "$(theirs)"
    $goes
    same "$what: they are gone" "$nobody" "$(theirs)"
}
nobody=$(theirs)
flush() { enter fra nft flush ruleset; }

succeeds "alone: apply" weft fra apply
same "alone: nobody is named" "" "$(against)"
eventually 20 "alone: it is relayed" relayed
succeeds "alone: down" weft fra down

# --------------------------------------------------------------------------------------------------------- Docker

# As dockerd 24 leaves it, by iptables, with IPv6 on.
docker() {
    enter fra sh -ec '
        ip link add docker0 type bridge
        ip address add 172.17.0.1/16 dev docker0
        ip link set docker0 up
        for iptables in iptables ip6tables; do
            $iptables -P FORWARD DROP
            for chain in DOCKER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2 DOCKER-USER; do $iptables -N $chain; done
            $iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
            $iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
            $iptables -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
            $iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
            $iptables -A DOCKER-USER -j RETURN
            $iptables -A FORWARD -j DOCKER-USER
            $iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
            $iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            $iptables -A FORWARD -o docker0 -j DOCKER
            $iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
            $iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
        done
        iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE'
}
no_docker() { flush; enter fra ip link del docker0; }
neighbour "Docker" "DOCKER-USER" docker no_docker

# ------------------------------------------------------------------------------------------------------------ ufw

# The skeleton of what ufw 0.36 makes, and a ufw that knows the words which open it.
mkdir "$_mesh_folder/bin"
cat >"$_mesh_folder/bin/ufw" <<'END'
#!/bin/bash
# ufw allow PORT/udp | ufw allow in on IF | ufw route allow in|out on IF [in|out on IF]
both() { iptables -A "$@" && ip6tables -A "${@//ufw-/ufw6-}"; }
case "$*" in
"allow in on "*) both ufw-user-input -i "$4" -j ACCEPT ;;
allow\ */udp*) both ufw-user-input -p udp --dport "${2%/udp}" -j ACCEPT ;;
"route allow in on "*" out on "*) both ufw-user-forward -i "$5" -o "$8" -j ACCEPT ;;
"route allow in on "*) both ufw-user-forward -i "$5" -j ACCEPT ;;
"route allow out on "*) both ufw-user-forward -o "$5" -j ACCEPT ;;
*) echo "ERROR: Invalid syntax: $*" >&2; exit 1 ;;
esac
END
chmod 755 "$_mesh_folder/bin/ufw"
ufw() {
    enter fra sh -ec '
        for pair in iptables:ufw ip6tables:ufw6; do
            iptables=${pair%:*} ufw=${pair#*:}
            for chain in before after user reject; do for hook in input forward; do $iptables -N $ufw-$chain-$hook; done; done
            $iptables -A $ufw-before-input -i lo -j ACCEPT
            $iptables -A $ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            if [ $ufw = ufw6 ]; then $iptables -A $ufw-before-input -p icmpv6 -j ACCEPT; fi
            $iptables -A $ufw-before-input -j $ufw-user-input
            $iptables -A $ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            $iptables -A $ufw-before-forward -j $ufw-user-forward
            for hook in INPUT:input FORWARD:forward; do
                for chain in before after reject; do $iptables -A ${hook%:*} -j $ufw-$chain-${hook#*:}; done
                $iptables -P ${hook%:*} DROP
            done
        done'
}
neighbour "ufw" "ufw" ufw flush

# ------------------------------------------------------------------------------------------------------- firewalld

# The skeleton of what firewalld 1.3 makes of the zones `public` and `trusted`, and a firewall-cmd that, as the real one,
# does one thing a call, and all that is permanent with --reload.
cat >"$_mesh_folder/bin/firewall-cmd" <<'END'
#!/bin/bash
folder=/run/firewalld
mkdir -p $folder
fails() { echo "$1" >&2; exit 1; }
policy() { [ -e "$folder/policy-$1" ] || fails "INVALID_POLICY: $1"; }
case "$*" in
"--permanent --zone=trusted --add-interface="*) echo "${3#*=}" >>$folder/interfaces ;;
"--permanent --add-port="*/udp) port=${2#*=}; echo "${port%/udp}" >>$folder/ports ;;
"--permanent --new-policy="*)
    [ ${#2} -le $((13 + 11)) ] || fails "INVALID_NAME: '${2#*=}': a policy's name has at most 11 characters"
    [ ! -e "$folder/policy-${2#*=}" ] || fails "NAME_CONFLICT: ${2#*=}"
    : >"$folder/policy-${2#*=}"
    ;;
"--permanent --policy="*" --add-ingress-zone=ANY" | "--permanent --policy="*" --add-egress-zone=trusted" | \
    "--permanent --policy="*" --set-target=ACCEPT") policy "${2#*=}"; echo "$3" >>"$folder/policy-${2#*=}" ;;
--reload)
    for name in $(cat $folder/interfaces 2>/dev/null | sort -u); do
        nft insert rule inet firewalld filter_INPUT_ZONES iifname "$name" accept
        nft insert rule inet firewalld filter_FORWARD_ZONES iifname "$name" accept
        for policy in $folder/policy-*; do
            [ "$(sort -u "$policy" 2>/dev/null | wc -l)" != 3 ] || nft insert rule inet firewalld filter_FORWARD_POLICIES oifname "$name" accept
        done
    done
    for port in $(cat $folder/ports 2>/dev/null | sort -u); do nft insert rule inet firewalld filter_IN_public_allow udp dport "$port" accept; done
    rm -rf $folder
    ;;
*) fails "not one thing to do: $*" ;;
esac
echo success
END
chmod 755 "$_mesh_folder/bin/firewall-cmd"
firewalld() {
    enter fra nft -f - <<'END'
table inet firewalld {
    chain filter_IN_public_allow {
        tcp dport 22 ct state new,untracked accept
    }
    chain filter_IN_public {
        jump filter_IN_public_allow
        meta l4proto { icmp, ipv6-icmp } accept
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        goto filter_IN_public
    }
    chain filter_FWD_public {
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_POLICIES {
    }
    chain filter_FORWARD_ZONES {
        goto filter_FWD_public
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_INPUT_ZONES
        ct state { invalid } drop
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        jump filter_FORWARD_POLICIES
        jump filter_FORWARD_ZONES
        ct state { invalid } drop
        reject with icmpx admin-prohibited
    }
}
END
}
neighbour "firewalld" "firewalld" firewalld flush

# --------------------------------------------------------------------------------------------------------- by hand

by_hand() {
    enter fra nft -f - <<'END'
table inet mine {
    chain in {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
        tcp dport 22 accept
    }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
    }
}
END
}
neighbour "a firewall by hand" "mine" by_hand flush

# Behind jumps, at the end of chains, before and after routing: wherever it is dropped.
everywhere() {
    enter fra nft -f - <<'END'
table inet mine {
    chain usual {
        ct state established,related accept
        iifname lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
    }
    chain rest {
        tcp dport { 22, 443 } accept
        counter drop
    }
    chain in {
        type filter hook input priority filter; policy accept;
        jump usual
        goto rest
    }
    chain through {
        type filter hook forward priority filter; policy accept;
        jump usual
        jump rest
    }
    chain before {
        type filter hook prerouting priority mangle; policy accept;
        jump usual
        iifname { lo, nowhere0 } accept
        goto rest
    }
    chain after {
        type filter hook postrouting priority mangle; policy accept;
        jump usual
        ip daddr 192.168.0.0/16 counter accept
        ip6 daddr fd00:192::/32 accept
        icmp type { echo-reply, destination-unreachable } accept
        goto rest
    }
}
END
}
neighbour "a firewall behind jumps" "mine (before|rest)" everywhere flush

# A table that sleeps drops nothing.
asleep() { by_hand; enter fra nft 'table inet mine { flags dormant; }'; }
asleep
succeeds "a firewall that sleeps: apply" weft fra apply
fresh
eventually 10 "a firewall that sleeps: it is relayed" relayed
same "a firewall that sleeps: it is not named" "" "$(against)"
weft fra down >/dev/null
flush

# At single interfaces, before any other rule of the host's is asked.
succeeds "at single interfaces: apply" weft fra apply
enter fra nft -f - <<'END'
table netdev guard {
    chain in { type filter hook ingress device "eth0" priority 0; ip6 nexthdr tcp accept; udp dport 51820 drop; }
    chain tunnel { type filter hook ingress device "wg0" priority 0; policy drop; tcp dport 22 accept; }
}
END
fresh
contains "at single interfaces: the port is named" \
    "netdev guard in (on eth0) drops the tunnel's own packets to UDP port 51820" "$(against)"
contains "at single interfaces: and what comes out of the tunnel" \
    "netdev guard tunnel (on wg0) drops what comes in by wg0 for this host, and what is forwarded from and to wg0" "$(against)"
refuses "at single interfaces: nothing is relayed" relayed
types_remedies "at single interfaces"
fresh
eventually 10 "at single interfaces: then it is relayed" relayed
same "at single interfaces: and nobody is named" "" "$(against)"
unchanged fra "at single interfaces: and there is nothing to do"
weft fra down >/dev/null
flush

# Access rules know answers by their connection: where nobody looks that up, they refuse them.
topology_file access.yaml <<'END'
access:
  - {from: [ana], to: [bob], ports: [icmp]}
END
succeeds "without connections: apply" weft fra apply
fresh
eventually 10 "without connections: it is relayed before" relayed
enter fra sh -c 'iptables -t raw -A PREROUTING -p udp --dport 51820 -j CT --notrack; iptables -t raw -A PREROUTING -p tcp --dport 80 -j CT --notrack'
same "without connections: what spares the tunnel's own packets is not named" "" "$(against)"
enter fra iptables -t raw -A PREROUTING -j CT --notrack
contains "without connections: it is named" "ip raw PREROUTING (iptables) keeps what comes in by wg0 for this host, and \
what is forwarded from and to wg0 out of connection tracking, which this mesh's firewall goes by" "$(against)"
refuses_at fra "without connections: what is allowed is not relayed" relayed
types_remedies "without connections"
eventually 10 "without connections: then it is" relayed
same "without connections: and nobody is named" "" "$(against)"
weft fra down >/dev/null
flush
rm "$topology/access.yaml"

# What a host that dials needs: that its tunnel gets out, and what answers it in.
succeeds "a firewall that lets nothing out: the hub is there" weft fra apply
enter ana nft -f - <<'END'
table inet mine {
    chain out {
        type filter hook output priority filter; policy drop;
        oifname lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
    chain in {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
}
END
again() { for host in ana bob; do weft $host down; weft $host apply; done >/dev/null 2>&1; }
again
matches "a firewall that lets nothing out: what goes out by the tunnel is named" "goes out by wg0" "$(against ana)"
matches "and the tunnel's own packets" "the tunnel's own packets to UDP port 51820" "$(against ana)"
matches "and what answers them" "answers to the tunnel's own packets" "$(against ana)"
refuses "because nothing is relayed" relayed
succeeds "half of the remedy" enter ana nft insert rule inet mine out oifname wg0 accept
refuses "opens nothing" relayed
matches "and the tunnel's own packets are still named" "the tunnel's own packets to UDP port 51820" "$(against ana)"
types_remedies "a firewall that lets nothing out" ana
eventually 10 "then it is relayed" relayed
same "and nobody is named" "" "$(against ana)"
enter ana nft flush ruleset
again
succeeds "the hub goes" weft fra down

# ------------------------------------------------------------------------------------------- another mesh's kill switch

test=$topology
fra4=$(mesh_address fra 4)
topology_begin "addresses: [10.90.0.0/16, \"fd90::/48\"]"
sed -i 's/name: test/name: lab/; s/wg0/wg1/' "$topology/mesh.yaml"
topology_node fra 10.90.0.1 fd90::1 -- "endpoint: \"$fra4:51830\"" "exit: true" "masquerade: true"
shut() { topology_node ana 10.90.1.7 fd90::107 -- "useExit: fra" "killSwitch: $1"; }
shut true
lab=$topology
succeeds "a kill switch beside a mesh: the exit is there" weft fra apply
topology=$test
succeeds "a kill switch beside a mesh: and the hub" weft fra apply
again
eventually 10 "which answers" to_hub
topology=$lab
networks="10.80.0.0/16, 192.168.1.0/24, fd00:192:168:1::/64, fd80::/48"
cut="refuses what goes out by wg0 (mesh test): $networks"
contains "the plan says what the kill switch will cut off" "$cut" "$(weft ana plan 2>&1)"
contains "and how it is let through" "put $networks into" "$(weft ana plan 2>&1)"
contains "apply says so" "$cut" "$(weft ana apply 2>&1)"
refuses "and so it is" to_hub
contains "weft doctor says so" "$cut" "$(weft ana doctor --offline 2>&1)"
topology=$test
matches "the plan of the mesh that is cut off names it" "weft-wg1 output .the mesh on wg1. drops what goes out by wg0" "$(against ana)"
contains "with what to put where" "10.80.0.0/16, 192.168.1.0/24, $fra4, fd00:192:168:1::/64, fd80::/48 into \`killSwitch" "$(against ana)"
contains "and so does weft doctor" "(the mesh on wg1) drops what goes out by wg0" "$(weft ana doctor --offline 2>&1)"
topology=$lab
shut "{allow: [10.80.0.0/16, 192.168.1.0/24, $fra4/32, \"fd00:192:168:1::/64\", \"fd80::/48\"]}"
lacks "what is allowed is not cut off" "refuses what goes out by wg0" "$(weft ana apply 2>&1)"
eventually 15 "and it answers" to_hub
topology=$test
same "and names nobody" "" "$(against ana)"
topology=$lab
for host in ana fra; do succeeds "$host: the mesh with the kill switch goes" weft $host down; done
topology=$test
weft fra down >/dev/null

# One that lets it all pass is nobody's concern.
enter fra nft -f - <<'END'
table inet mine {
    chain in {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname { lo, wg0 } accept
        udp dport 51820 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    }
    chain through {
        type filter hook forward priority filter; policy drop;
        iifname wg0 accept
        oifname wg0 accept
    }
}
END
succeeds "a firewall with holes: apply" weft fra apply
fresh
eventually 10 "a firewall with holes: it is relayed" relayed
same "and not named" "" "$(against)"
weft fra down >/dev/null
flush

# ---------------------------------------------------------------------------------------------- what may be missing

# Settings that cannot be written.
read_only() { enter fra unshare --mount sh -ec 'mount -o bind,ro /proc/sys /proc/sys; exec "$@"' - "$WEFT" "$@" "$topology"; }
exits 1 "/proc/sys read-only: a plan says so" read_only plan --detailed-exitcode
matches "and what cannot be written" "sysctl net.ipv4.ip_forward = 0 \(1 is wanted, and /proc/sys is read-only here\)" "$output"
matches "with what to do" "docker run --sysctl net.ipv4.ip_forward=1" "$output"
exits 1 "apply is refused" read_only apply --yes
lacks "in words" "Fatal error" "$output"
refuses "and nothing is half-applied" enter fra ip link show wg0
same "no route" "" "$(enter fra ip route show table all proto 119)"
same "no table" "" "$(enter fra nft list tables | grep weft)"
succeeds "once it can be written, apply" weft fra apply
unchanged fra "all is there"
exits 0 "settings that are right already need no writing" read_only apply --yes
enter fra sysctl -qw net.ipv4.ip_forward=0
exits 1 "nor is anything changed where one was changed by hand" read_only apply --yes
matches "which is named" "sysctl net.ipv4.ip_forward = 0" "$output"
enter fra sysctl -qw net.ipv4.ip_forward=1
succeeds "down" weft fra down
same "forwarding is off again" 0 "$(enter fra cat /proc/sys/net/ipv4/ip_forward)"

# A kernel without nf_tables has no netlink socket for it: refused here by a filter of system calls.
cat >"$_mesh_folder/without.py" <<'END'
import ctypes, os, platform, struct, sys
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
load, equal, give = 0x20, 0x15, 0x06  # the system call's number, its first and third argument; AF_NETLINK, NETLINK_NETFILTER
filter = [(load, 0, 0, 0), (equal, 0, 5, number), (load, 0, 0, 16), (equal, 0, 3, 16), (load, 0, 0, 32), (equal, 0, 1, 12),
          (give, 0, 0, 0x00050000 | 93), (give, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in filter))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(filter), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0): sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
END
without() { enter fra /usr/bin/python3 "$_mesh_folder/without.py" "$WEFT" "$@" "$topology"; }
exits 0 "no nf_tables: what can do without is applied" without apply --yes
matches "and it is said" "no nf_tables" "$output"
exits 0 "a plan has nothing to do" without plan --detailed-exitcode
eventually 30 "it is relayed" relayed
succeeds "down" without down --yes
cp "$topology/node-fra.yaml" "$_mesh_folder/fra.yaml"
sed 's/^    hub: true/&\n    masquerade: {interfaces: [br0]}/' "$_mesh_folder/fra.yaml" >"$topology/node-fra.yaml"
exits 1 "no nf_tables: what cannot is refused" without apply --yes
matches "and said, with the field that needs it" "no nf_tables.*masquerade" "$output"
lacks "in words" "Fatal error" "$output"
refuses "no interface is left" enter fra ip link show wg0
same "nor a route" "" "$(enter fra ip route show table all proto 119)"
same "nor forwarding" 0 "$(enter fra cat /proc/sys/net/ipv4/ip_forward)"
cp "$_mesh_folder/fra.yaml" "$topology/node-fra.yaml"

# Nobody takes name servers.
topology_node bob 10.80.0.3 fd80::3 -- "dns: {servers: [10.80.0.1], domains: [corp.internal]}"
mkdir "$_mesh_folder/few"
for program in wireguard-go; do
    path=$(command -v $program) && ln -s "$path" "$_mesh_folder/few/$program"
done
weft bob down >/dev/null
exits 1 "nobody takes name servers: apply is refused" enter bob env PATH="$_mesh_folder/few" "$WEFT" apply --yes "$topology"
matches "with what to do" "systemd-resolved.*resolv" "$output"
refuses "nothing is half-applied" enter bob ip link show wg0
exits 1 "a plan says so too" enter bob env PATH="$_mesh_folder/few" "$WEFT" plan --detailed-exitcode "$topology"
topology_node bob 10.80.0.3 fd80::3
succeeds "without name servers it is applied" enter bob env PATH="$_mesh_folder/few" "$WEFT" apply --yes "$topology"
weft fra apply >/dev/null
eventually 30 "and carries" relayed

# ------------------------------------------------------------------------------------------- what cannot be seen

# nf_tables knows nothing of the older iptables. Its tables stay for as long as the namespace.
blind="iptables has the table filter (IPv4): weft cannot see into these"
lacks "no older iptables: nothing is said" "cannot see into" "$(weft bob plan)"
if enter bob iptables-legacy -A INPUT -s 192.0.2.1 -j DROP 2>/dev/null; then
    contains "the older iptables: the plan says that it cannot be seen into" "$blind" "$(weft bob plan)"
    contains "and what to look at" "iptables-legacy-save" "$(weft bob plan)"
    matches "and weft doctor" "unknown +legacy iptables has the table filter" "$(weft bob doctor --offline 2>&1)"
    unchanged bob "which is no change"
else
    skip "the older iptables" "iptables-legacy with a kernel that has ip_tables"
fi
for host in fra ana bob; do succeeds "$host: down" weft $host down; done
done_testing
