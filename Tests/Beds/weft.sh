# Weft on the hosts of a bed: topologies written in a few words, and the commands run where they belong. To be sourced by
# scenarios, after `mesh`. Needs $WEFT.
#
#   topology_begin [YAML…]         a new topology in $topology, seen by all hosts; each YAML is a line of `mesh:`
#   topology_node HOST ADDRESS… [-- YAML…]   a node, in a file of its own; makes the host's key when it has none; each YAML
#                                  is a line of the node. Said again, it replaces the node.
#   topology_drop HOST             takes the node out
#   topology_file NAME             standard input becomes a file of the topology
#   public_key HOST                the host's public key
#   weft HOST COMMAND…             runs weft on a host; plan, apply, status, doctor and down get the topology by themselves
#   watched HOST WHAT              apply succeeds; $mutations is how often it asked the kernel, or a device, for a change
#   converges HOST                 apply succeeds, and a plan after it has nothing to do
#   unchanged HOST WHAT            plan has nothing to do
#   handshake HOST PEER [IF]       seconds since 1970 of the last handshake with a peer host; 0: never
#   refused HOST                   how many packets the host's access rules have refused
#   refuses_at HOST WHAT COMMAND…  the command fails, and it is this host's access rules that refuse it
#   live HOST [IF]                 all that matters of a host's network, as text to compare
#
# WEFT_STATE is left at its default: hosts have /etc, /run and /var/lib of their own.

topology_begin() {
    topology=$(mktemp -d "$_mesh_folder/topology-XXXXXX")
    chmod 755 "$topology"
    {
        echo "mesh:"
        echo "  name: test"
        echo "  interface: wg0"
        [[ "$*" == *addresses:* ]] || echo "  addresses: [10.80.0.0/16, \"fd80::/48\"]"
        local line
        for line in "$@"; do echo "  $line"; done
    } > "$topology/mesh.yaml"
}

public_key() { enter "$1" "$WEFT" key public /etc/weft/private.key; }

_weft_key() {
    enter "$1" test -e /etc/weft/private.key && return
    enter "$1" mkdir -p /etc/weft
    enter "$1" "$WEFT" key generate --output /etc/weft/private.key > /dev/null
}

topology_node() {
    local host=$1 addresses=() line
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        addresses+=("\"$1\"")
        shift
    done
    [ $# -gt 0 ] && shift
    _weft_key "$host"
    {
        echo "nodes:"
        echo "  $host:"
        echo "    publicKey: $(public_key "$host")"
        echo "    addresses: [$(IFS=,; echo "${addresses[*]}")]"
        for line in "$@"; do echo "    $line"; done
    } > "$topology/.new"
    mv "$topology/.new" "$topology/node-$host.yaml"
}

topology_drop() { rm -f "$topology/node-$1.yaml"; }

topology_file() {
    cat > "$topology/.new"
    mv "$topology/.new" "$topology/$1"
}

weft() {
    local host=$1 command=$2
    shift 2
    case $command in
    plan | apply | status | doctor | down | show | check)
        local extra=()
        case $command in apply | down) extra=(--yes) ;; esac
        enter "$host" "$WEFT" "$command" "${extra[@]}" "$@" "$topology"
        ;;
    *) enter "$host" "$WEFT" "$command" "$@" ;;
    esac
}

watched() {
    local log=$_mesh_folder/hosts/$1/scratch/trace
    succeeds "$2" enter "$1" strace -f -e trace=sendto,sendmsg,write -o "$log" "$WEFT" apply --yes "$topology"
    mutations=$(grep -cE 'RTM_(NEW|DEL|SET)|NFT_MSG_(NEW|DEL)|NLM_F_CREATE|NLM_F_REPLACE|(write|send[a-z]*)\([0-9]+, "set=1' "$log")
}

converges() {
    succeeds "$1: apply" weft "$1" apply
    unchanged "$1" "$1: a plan after it has nothing to do"
}

unchanged() { exits 0 "$2" weft "$1" plan --detailed-exitcode; }

handshake() {
    local key
    key=$(public_key "$2")
    enter "$1" wg show "${3:-wg0}" latest-handshakes | awk -v key="$key" '$1 == key { print $2; found = 1 } END { if (!found) print 0 }'
}

refused() { enter "$1" nft list counter inet weft-wg0 access-refused 2>/dev/null | awk '/packets/ { print $2 }'; }

refuses_at() {
    local host=$1 what=$2 before after
    shift 2
    before=$(refused "$host")
    refuses "$what" "$@"
    after=$(refused "$host")
    if [ "${after:-0}" -gt "${before:-0}" ]; then ok "$host refuses it"; else fail "$host refuses it" "over ${before:-no counter}" "${after:-no counter}"; fi
}

# Sorted, and without what moves by itself: handshakes, counters, endpoints, and the kernel's own link-local addresses.
live() {
    local interface=${2:-wg0}
    echo "== device"
    enter "$1" wg show "$interface" dump 2>&1 | awk 'NR == 1 { print $2, $4 } NR > 1 { print $1, ($2 == "(none)" ? "-" : "psk"), $8, $4 }' |
        while read -r first second third ips; do
            echo "$first $second $third $(tr ',' '\n' <<<"$ips" | sort | tr '\n' ' ')"
        done | sort
    echo "== addresses"
    enter "$1" ip -o address show dev "$interface" 2>&1 | awk '{ print $3, $4 }' | grep -v ' fe80:' | sort
    echo "== routes"
    { enter "$1" ip -4 route show table all; enter "$1" ip -6 route show table all; } | grep -vE '^(fe80|ff00|multicast)' | grep -v 'table local' | sed 's/ expires [0-9]*sec//' | sort
    echo "== link"
    enter "$1" ip -o link show dev "$interface" 2>&1 | sed -E 's/^[0-9]+: //; s/state [A-Z]+ //' | sed 's/\\.*alias/ alias/'
    echo "== sysctls"
    enter "$1" cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding
}

# Whether the device answers from the address that it was asked at. The wireguard-go of Debian 13 (0.0.20230223) answers IPv4
# from the host's first one, and whoever is behind NAT never hears of it.
answers_as_asked() { [ "$BED" = vm ] || [[ $(wireguard-go --version 2>/dev/null) != *0.0.20230223* ]]; }
