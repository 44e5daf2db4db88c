#!/bin/bash
# Large meshes: what does not fit into one message is cut right and read back equal, nothing more is sent afterwards, and
# one change in a thousand peers is one change.
# timeout: 150
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/large.sh"
need wg strace jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin
mesh_host fra

# A node that is nowhere: only its key counts.
absent() { # NAME ADDRESS PREFIXES
    printf '  %s:\n    publicKey: %s\n    addresses: [%s]\n' "$1" "$(wg genkey | wg pubkey)" "$2"
    printf '    allowedIPs: [%s]\n' "$3"
}
prefixes() { # FROM COUNT: so many, of both families
    /usr/bin/python3 -c '
import ipaddress, sys
start, count = int(sys.argv[1]), int(sys.argv[2])
four, six = int(ipaddress.ip_address("20.0.0.0")), int(ipaddress.ip_address("fd20::"))
print(", ".join(f"{ipaddress.ip_address(four + i)}/32" if i % 3 else f"{ipaddress.ip_address(six + (i << 64))}/64" for i in range(start, start + count)))' "$1" "$2"
}

topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)"
{ echo nodes:; absent full 10.80.1.1 "$(prefixes 0 3000)"; } | topology_file absent.yaml
timed "3,000 allowed IPs at one peer" weft fra apply
reads_back "they are read back equal"
same "each has its route" 3000 "$({ enter fra ip route show proto 119 dev wg0; enter fra ip -6 route show proto 119 dev wg0; } | grep -cE '^(20|fd20)[.:]')"
sends_nothing "a second apply"
sed -i 's#fd20::/64, ##; s#, 20\.0\.11\.183/32##' "$topology/absent.yaml"
timed "two of them go" weft fra apply
contains "as one change of the peer" "2 removed" "$(sed 's/-     .*/2 removed/' <<<"$output" | sort -u)"
reads_back "and the others are there"

# Forty that do not fit into one message of the kernel's together, each of which must not be cut at the wrong place.
{
    echo nodes:
    for peer in {1..40}; do absent "peer$peer" "10.80.1.$peer" "$(prefixes $((peer * 52)) 52)"; done
} | topology_file absent.yaml
timed "40 peers of 52 allowed IPs" weft fra apply
reads_back "they are read back equal"
sends_nothing "a second apply"
for peer in {1..20}; do enter fra wg set wg0 peer "$(wg genkey | wg pubkey)"; done
plan=$(weft fra plan --format json)
same "20 empty peers beside full ones are 20 removals and nothing else" "20 remove" \
    "$(jq -r '.operations[].action' <<<"$plan" | sort | uniq -c | awk '{ print $1, $2 }')"
succeeds "which are done" weft fra apply
reads_back "and the full ones are as they were"
succeeds "down" weft fra down

whole_mesh 1,000 1001 '10\.0\.2\.0' 10.0.9.9
same "and all routes" "" "$(enter fra ip route show table all proto 119 | head; enter fra ip -6 route show table all proto 119 | head)"
done_testing
