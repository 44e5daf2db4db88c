#!/bin/bash
# 10,000 peers, and one peer with 130,560 allowed IPs: cut right, read back equal, nothing sent afterwards, and gone.
# timeout: 900
# vm: --memory 2048
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/large.sh"
need wg strace jq || done_testing
[ -x /usr/bin/python3 ] || { skip "this scenario" "/usr/bin/python3"; done_testing; }
mesh_begin
mesh_host fra

topology_begin
topology_node fra 10.80.0.1 -- "endpoint: $(mesh_address fra 4)" "table: off"
{
    printf 'nodes:\n  full:\n    publicKey: %s\n    addresses: [10.80.1.1]\n    allowedIPs: [' "$(wg genkey | wg pubkey)"
    /usr/bin/python3 -c 'print(", ".join(f"20.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(130560)), end="")'
    printf ']\n'
} | topology_file full.yaml
timed "130,560 allowed IPs at one peer" weft fra apply
reads_back "they are read back equal"
sends_nothing "a second apply"
sed -i 's#20\.1\.0\.7/32, ##' "$topology/full.yaml"
timed "one of them goes" weft fra apply
reads_back "and the others are there"
succeeds "down" weft fra down

whole_mesh 10,000 10001 '10\.0\.2\.0' 10.0.255.1
done_testing
