#!/bin/bash
# Killed outright at any point, weft leaves nothing behind that the next run does not put right. It is killed before each
# operation, before each datagram that changes something and after it, while a mesh comes, changes and goes; and from
# outside, whenever it happens to be. After each kill the same command converges, nothing foreign has changed, and no
# half-made link and no program is left.
# timeout: 400
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg || done_testing
killpoint=${WEFT%/*}/weft-killpoint
if [ ! -x "$killpoint" ]; then
    skip "this scenario" "$killpoint"
    done_testing
fi
mesh_begin
mesh_host fra

# ------------------------------------------------------------------------------------------------- two topologies

peer_key() { [ -e "$_mesh_folder/key-$1" ] || wg genkey | wg pubkey > "$_mesh_folder/key-$1"; cat "$_mesh_folder/key-$1"; }
peer_node() { # NAME ADDRESSES YAML…
    local name=$1
    {
        printf 'nodes:\n  %s:\n    publicKey: %s\n    addresses: [%s]\n' "$name" "$(peer_key "$name")" "$2"
        shift 2
        printf '    %s\n' "$@"
    } | topology_file "node-$name.yaml"
}

topology_begin
before=$topology
topology_node fra 10.80.0.1 fd80::1 -- "listenPort: 51820"
peer_node stays '10.80.0.2, "fd80::2"' 'endpoint: 198.18.9.2'
peer_node moves 10.80.0.3 'endpoint: 198.18.9.3' 'allowedIPs: [10.20.0.0/24, 10.21.0.0/24, "fd20::/64"]'
peer_node changes 10.80.0.4 'endpoint: 198.18.9.4' 'allowedIPs: [10.22.0.0/24]'
peer_node goes 10.80.0.5 'endpoint: 198.18.9.5' 'allowedIPs: [10.23.0.0/24, "fd23::/64"]'

topology_begin
after=$topology
# Another address, so that every route has another source; another size, port and mark; and settings of the host.
topology_node fra 10.80.7.1 fd80::1 -- "listenPort: 51999" "mtu: 1390" "fwMark: 119" "allowedIPs: [10.30.0.0/24]"
peer_node stays '10.80.0.2, "fd80::2"' 'endpoint: 198.18.9.2'
peer_node moves 10.80.0.3 'endpoint: 198.18.9.3' 'allowedIPs: [10.21.0.0/24]'
peer_node changes '10.80.0.4, "fd80::4"' 'endpoint: 198.18.9.44' 'allowedIPs: [10.20.0.0/24, "fd20::/64"]' \
    'persistentKeepalive: 17'
peer_node comes 10.80.0.6 'endpoint: 198.18.9.6' 'allowedIPs: [10.23.0.0/24, 10.24.0.0/24]'

# ------------------------------------------------------------------------------------------------ what must hold

enter fra sh -ec '
    ip link add foreign0 type bridge
    # Its own link-local address would come a second later, in the middle of a comparison.
    ip link set foreign0 addrgenmode none
    ip link set foreign0 up
    ip address add 192.168.7.1/24 dev foreign0
    ip route add 10.44.0.0/16 dev foreign0 proto 119 metric 5
    ip -6 route add fd44::/64 dev foreign0
    ip route add blackhole 10.45.0.0/16 table 700
    ip rule add from 192.168.7.0/24 table 700 priority 900'
# All of the host's network but the mesh's own, and half-made links. Few processes: it is asked after each kill.
others() {
    enter fra sh -c 'printf "%s\n" link address rule "route show table all" | ip -o -batch -
        printf "%s\n" rule "route show table all" | ip -6 -o -batch -' 2> /dev/null |
        grep -vE '[: ]wg0[: ]|dev wg0|^unreachable' | sed -E 's/ expires [0-9]+sec//; s/_lft [0-9]+sec/_lft/g' | sort
}
others_before=$(others)

# Programs in the host's namespace: the user-space device where there must be one, and else none.
programs() { if [ "$BED" = vm ]; then echo 0; else ip netns pids "$(mesh_namespace fra)" | wc -l; fi; }
expected_programs=0

# What is wrong after a mesh was put right; empty where all is well.
wrong() { # apply | down
    local text
    if [ "$1" = apply ]; then
        text=$(weft fra plan --detailed-exitcode 2>&1) || echo "a plan is not empty: $text"
        [ "$(programs)" = "$expected_programs" ] || echo "there are $(programs) programs, not $expected_programs"
    else
        enter fra ip link show wg0 > /dev/null 2>&1 && echo "wg0 is still there"
        text=$(enter fra sh -c 'ip route show table all proto 119; ip -6 route show table all proto 119' | grep -v foreign0)
        [ -z "$text" ] || echo "routes are left: $text"
        text=$(enter fra cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding | paste -sd' ')
        [ "$text" = "0 0" ] || echo "forwarding (IPv4, IPv6) is $text"
        # One whose link an earlier run took away ends by itself.
        for _ in {1..200}; do if [ "$(programs)" = 0 ]; then break; fi; sleep 0.05; done
        [ "$(programs)" = 0 ] || echo "$(programs) programs are left"
    fi
    text=$(others)
    [ "$text" = "$others_before" ] || diff <(echo "$others_before") <(echo "$text")
}

# Runs a command that is killed at a point, and then the plain one, and looks. False where it was not killed.
killed_at() { # POINT apply|down WHAT
    local point=$1 command=$2 what=$3 status=0 first problem
    first=$(enter fra env WEFT_KILL="$point" "$killpoint" "$command" --yes "$topology" 2>&1) || status=$?
    if [ "$status" = 0 ]; then
        problem=$(wrong "$command")
        same "$what, not killed at $point: all is well" "" "$problem"
        return 1
    elif [ "$status" != 137 ]; then
        fail "$what, killed at $point" "exit code 137" "exit code $status: $first"
        return 1
    fi
    if first=$(weft fra "$command" 2>&1); then problem=$(wrong "$command"); else problem="the next $command: $first"; fi
    same "$what, killed at $point: the next one puts it right" "" "$problem"
}

# ------------------------------------------------------------------------------------------------------ every point

topology=$before
succeeds "once without a kill" weft fra apply
[ "$BED" = vm ] || expected_programs=1
same "it converges" "" "$(wrong apply)"
succeeds "and goes" weft fra down
same "without a trace" "" "$(wrong down)"

# From nothing to the one topology, to the other, to nothing again: each is killed at the same point on its way, until
# none of them has that many.
round() { # KIND FIRST SECOND
    local kind=$1 number alive=1 come=1 change=1 go=1
    for ((number = 0; alive > 0 && number < 200; number++)); do
        alive=0
        topology=$2
        if [ $come = 1 ]; then killed_at "$kind:$number" apply coming && alive=1 || come=0; else weft fra apply > /dev/null; fi
        topology=$3
        if [ $change = 1 ]; then killed_at "$kind:$number" apply changing && alive=1 || change=0; fi
        if [ $go = 1 ]; then
            killed_at "$kind:$number" down going && alive=1 || go=0
        elif [ $come = 1 ]; then
            weft fra down > /dev/null
        fi
    done
    weft fra down > /dev/null
    # A way without any kill would mean that nothing was tried.
    if [ $number -gt 2 ]; then ok "$kind: $((number - 1)) points"; else fail "$kind: points" "some" "$number"; fi
}

start=$SECONDS
round operation "$before" "$after"
round before "$before" "$after"
if [ -n "${WEFT_NIGHTLY-}" ]; then
    round after "$before" "$after"
    for kind in operation before after; do round $kind "$after" "$before"; done
fi
note "every point: $((SECONDS - start)) s"

# ----------------------------------------------------------------------------------------------- from outside

tries=8
[ -z "${WEFT_NIGHTLY-}" ] || tries=60
topology=$before
began=$(date +%s%N)
weft fra apply > /dev/null
length=$((($(date +%s%N) - began) / 1000000))
RANDOM=${WEFT_SEED:-$$}
seed=$RANDOM
RANDOM=$seed
note "an apply takes $length ms; seed $seed (WEFT_SEED)"
for ((number = 0; number < tries; number++)); do
    case $((number % 4)) in
    0) topology=$after command=apply ;;
    1) topology=$before command=apply ;;
    2) topology=$before command=down ;;
    3) topology=$after command=apply ;;
    esac
    delay=$((RANDOM % (length + 1)))
    launch fra "$WEFT" "$command" --yes "$topology" > /dev/null 2>&1
    victim=$!
    sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
    kill -KILL "$victim" 2> /dev/null
    wait "$victim" 2> /dev/null
    if text=$(weft fra "$command" 2>&1); then problem=$(wrong "$command"); else problem="the next $command: $text"; fi
    same "$command killed from outside after $delay ms: the next one puts it right" "" "$problem"
done
done_testing
