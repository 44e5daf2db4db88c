#!/bin/bash
# Every session effect that a plan names, against what a ping at 100 Hz through the tunnel loses and against the times of
# handshakes: what is called hitless loses nothing and shakes no hands, what is called an outage loses packets.
# alone: in namespaces
# timeout: 180
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
. "$here/../Beds/effects.sh"
need wg ping jq || done_testing
mesh_begin

mesh_host fra ams ana bob dan
topology_begin "presharedKeys: directory"
endpoint() { echo "endpoint: \"$(mesh_address "$1" "${2:-4}")${3-}\""; }
node_fra() { topology_node fra 10.80.0.1 fd80::1 -- "$(endpoint fra)" "$@"; }
node_ams() { topology_node ams 10.80.0.2 fd80::2 -- "$(endpoint ams)" "$@"; }
node_ana() { topology_node ana 10.80.0.3 fd80::3 -- "$(endpoint ana)" "$@"; }
node_bob() { topology_node bob 10.80.0.4 fd80::4 -- "$(endpoint bob)" "$@"; }
node_fra
node_ams
node_ana "allowedIPs: [10.99.0.0/24, 10.98.0.0/24]"
node_bob
# Those who answer for a prefix, so that packets are lost only where the prefix has no owner.
for host in ana bob; do
    enter $host ip address add 10.99.0.1/32 dev lo
    enter $host ip address add 10.97.0.1/32 dev lo
done
enter ana ip address add 10.98.0.1/32 dev lo

psk() { # HOST PEER KEY
    enter "$1" bash -c 'umask 077; mkdir -p /etc/weft/preshared-keys; echo "$1" >"/etc/weft/preshared-keys/$2"' psk "$3" "$2"
}
hosts=(fra ams ana bob dan)
for one in "${hosts[@]}"; do
    for other in "${hosts[@]}"; do
        if [[ $one < $other ]]; then
            key=$(wg genpsk)
            psk "$one" "$other" "$key"
            psk "$other" "$one" "$key"
        fi
    done
done
for host in fra ams ana bob; do succeeds "$host: apply" weft "$host" apply; done

declare -A target=([ams]=10.80.0.2 [ana]=10.80.0.3 [bob]=10.80.0.4)
for host in ams ana bob; do eventually 20 "fra reaches $host" enter fra ping -c 1 -W 1 "${target[$host]}"; done

# A session is renewed after 120 s by itself. One that is close to that is renewed now, so that no trial falls on it: the
# peer goes, and is there again as it was, which is not always as the topology has it by now.
fresh() { # PEER
    local now then
    now=$(date +%s)
    then=$(handshake fra "$1")
    [ $((now - then)) -gt 90 ] || return 0
    note "renewing the session with $1, which is $((now - then)) s old"
    enter fra wg showconf wg0 | awk -v RS= -v key="$(public_key "$1")" 'index($0, key)' >"$_mesh_folder/peer"
    enter fra wg set wg0 peer "$(public_key "$1")" remove
    enter fra wg addconf wg0 "$_mesh_folder/peer"
    eventually 20 "fra reaches $1 in a new session" enter fra ping -c 1 -W 1 "${target[$1]}"
}

peer() { echo ".kind == \"peer\" and .object.name == \"$1\""; }

# fra applies what the topology says now; a ping to the target, which is at the peer, loses nothing and shakes no hands.
hitless() { # WHAT FILTER PEER TARGET
    local before
    fresh "$3"
    labelled fra "$1" hitless "$2"
    before=$(handshake fra "$3")
    amid fra "$4" weft fra apply
    same "$1: no ping is lost" 0 "$lost"
    same "$1: no handshake is made" "$before" "$(handshake fra "$3")"
}

outage() { # WHAT FILTER FROM TARGET
    labelled fra "$1" outage "$2"
    amid "$3" "$4" weft fra apply
    loses "$1: pings are lost"
}

# ------------------------------------------------------------------------------------------------------------ peers

topology_node dan 10.80.0.5 fd80::5 -- "$(endpoint dan)" "allowedIPs: [10.80.64.0/20]"
hitless "a peer is added" "$(peer dan)" ams "${target[ams]}"

node_ana "allowedIPs: [10.97.0.0/24, 10.98.0.0/24, 10.99.0.0/24]"
hitless "an allowed IP is added" "$(peer ana)" ana 10.99.0.1
eventually 5 "it is reached" enter fra ping -c 1 -W 1 10.97.0.1

node_ana "allowedIPs: [10.98.0.0/24, 10.99.0.0/24]"
node_bob "allowedIPs: [10.97.0.0/24]"
weft bob apply >/dev/null
# An answer of the old owner's that is on its way at the very moment is no longer its to give. That is one ping at most on
# a quiet machine; on one where answers take 50 ms, five.
fresh ana
fresh bob
labelled fra "an allowed IP moves" hitless "$(peer ana)"
labelled fra "at its new owner" hitless "$(peer bob)"
before="$(handshake fra ana) $(handshake fra bob)"
amid fra 10.97.0.1 weft fra apply
if [[ $lost =~ ^[0-5]$ ]]; then ok "an allowed IP moves: nothing is lost"; else fail "an allowed IP moves: nothing is lost" "0 to 5" "$lost"; fi
same "an allowed IP moves: no handshake is made" "$before" "$(handshake fra ana) $(handshake fra bob)"

# Nothing is lost because the new owner was ready for it, which is what the label hangs on.
scope() { jq -r ".operations[] | select($1) | .effectScope" <<<"$plan"; }
same "the label says so at the new owner" "if the peer already serves 10.97.0.0/24" "$(scope "$(peer bob)")"
same "and at the old one" "if the new peer of 10.97.0.0/24 already serves it" "$(scope "$(peer ana)")"
node_ana "allowedIPs: [10.99.0.0/24]"
node_bob "allowedIPs: [10.97.0.0/24, 10.98.0.0/24]"
fresh ana
fresh bob
labelled fra "an allowed IP moves to who does not serve it" hitless "$(peer bob)"
same "which the label is not for" "if the peer already serves 10.98.0.0/24" "$(scope "$(peer bob)")"
amid fra 10.98.0.1 weft fra apply
loses "an allowed IP moves to who does not serve it: pings are lost"
node_ana "allowedIPs: [10.98.0.0/24, 10.99.0.0/24]"
node_bob "allowedIPs: [10.97.0.0/24]"
weft fra apply >/dev/null
eventually 5 "back at ana it is reached" enter fra ping -c 1 -W 1 10.98.0.1

# An allowed IP within another peer's takes its packets, and leaves that peer the rest.
enter ana ip address add 10.98.0.77/32 dev lo
node_bob "allowedIPs: [10.97.0.0/24, 10.98.0.0/28]"
fresh ana
labelled fra "an allowed IP comes within another's" hitless "$(peer bob)"
same "on a condition" "if the peer already serves 10.98.0.0/28" "$(scope "$(peer bob)")"
same "and the plan says whose packets it takes" "10.98.0.0/28 ana 10.98.0.0/24" \
    "$(jq -r ".operations[] | select($(peer bob)) | .takeovers[] | \"\(.prefix) \(.fromName) \(.within)\"" <<<"$plan")"
contains "in words too" "10.98.0.0/28 (within ana's 10.98.0.0/24)" "$(weft fra plan)"
before=$(handshake fra ana)
amid fra 10.98.0.77 weft fra apply
same "an allowed IP comes within another's: the rest loses nothing" "0 $before" "$lost $(handshake fra ana)"
within() { # takes it away, and applies it again amid pings
    node_bob "allowedIPs: [10.97.0.0/24]"
    weft fra apply >/dev/null
    eventually 5 "without it, ana is reached" enter fra ping -c 1 -W 1 10.98.0.1
    node_bob "allowedIPs: [10.97.0.0/24, 10.98.0.0/28]"
    fresh bob
    amid fra 10.98.0.1 weft fra apply
}
within
loses "it comes to who does not serve it: pings are lost"
enter bob ip address add 10.98.0.1/32 dev lo
weft bob apply >/dev/null
within
if [[ $lost =~ ^[0-5]$ ]]; then ok "it comes to who serves it: nothing is lost"; else fail "it comes to who serves it: nothing is lost" "0 to 5" "$lost"; fi
node_bob "allowedIPs: [10.97.0.0/24]"
for host in bob fra; do weft $host apply >/dev/null; done

node_ana "allowedIPs: [10.98.0.0/24]"
outage "an allowed IP is removed" "$(peer ana)" fra 10.99.0.1
contains "which is its own outage only" "10.99.0.0/24 only" "$(jq -r ".operations[] | select($(peer ana)) | .effectScope" <<<"$plan")"
node_ana "allowedIPs: [10.98.0.0/24, 10.99.0.0/24]"
weft fra apply >/dev/null
node_ana "allowedIPs: [10.98.0.0/24]"
fresh ana
before=$(handshake fra ana)
amid fra 10.98.0.1 weft fra apply
same "the peer's other allowed IPs lose nothing" "0 $before" "$lost $(handshake fra ana)"

node_fra "persistentKeepalive: 20"
hitless "a keepalive comes" "$(peer ana)" ana 10.98.0.1

if answers_as_asked; then
    topology_node ams 10.80.0.2 fd80::2 -- "$(endpoint ams 6)"
    sed -i 's/endpoint: "\(.*\)"/endpoint: "[\1]:51820"/' "$topology/node-ams.yaml"
    hitless "an endpoint changes, and the peer answers at both" "$(peer ams)" ams "${target[ams]}"
    # Which one is in use now hangs on whether an answer was on its way (30-endpoints.sh shows that the new one is set).
    contains "the plan says what that hangs on" "if the peer answers" "$(jq -r ".operations[] | select($(peer ams)) | .effectScope" <<<"$plan")"
else
    skip "an endpoint changes, and the peer answers at both" "a wireguard-go that answers from the address it is asked at"
fi
node_bob "allowedIPs: [10.97.0.0/24]"
sed -i 's/endpoint: ".*"/endpoint: "203.0.113.1:9"/' "$topology/node-bob.yaml"
# Slowly: a packet that is on its way at the very moment tells the old address once more, and all is well.
pace=0.2
amid fra "${target[bob]}" weft fra apply
loses "a peer that does not answer there loses pings"
pace=0.01
succeeds "until it speaks itself" enter bob ping -c 1 -W 2 10.80.0.1
succeeds "and is heard where it is" enter fra ping -c 1 -W 2 "${target[bob]}"
node_bob "allowedIPs: [10.97.0.0/24]"
weft fra apply >/dev/null

# ----------------------------------------------------------------------------------------------------- preshared keys

key=$(wg genpsk)
psk fra ams "$key"
psk ams fra "$key"
fresh ams
labelled fra "a preshared key changes" re-handshake "$(peer ams)"
before=$(handshake fra ams)
both() {
    weft fra apply & # the hosts have a second between them
    weft ams apply
    wait $!
}
amid fra "${target[ams]}" both
same "a preshared key changes at both ends: no ping is lost" 0 "$lost"
same "a preshared key changes at both ends: the session stays" "$before" "$(handshake fra ams)"
# The next handshake uses it: one is forced by taking the session away at one end.
enter fra wg set wg0 peer "$(public_key ams)" remove
weft fra apply >/dev/null
eventually 20 "the next handshake succeeds with it" enter fra ping -c 1 -W 1 "${target[ams]}"

psk fra bob "$(wg genpsk)"
fresh bob
labelled fra "a preshared key changes at one end" re-handshake "$(peer bob)"
contains "with what follows" "3 minutes" "$(jq -r ".operations[] | select($(peer bob)) | .effectScope" <<<"$plan")"
before=$(handshake fra bob)
amid fra "${target[bob]}" weft fra apply
same "a preshared key changes at one end: the session carries on" "0 $before" "$lost $(handshake fra bob)"
enter fra wg set wg0 peer "$(public_key bob)" remove
weft fra apply >/dev/null
never 3 "but no handshake succeeds" enter fra ping -c 1 -W 1 "${target[bob]}"
psk bob fra "$(enter fra cat /etc/weft/preshared-keys/bob)"
weft bob apply >/dev/null
eventually 20 "until the other end has it" enter fra ping -c 1 -W 1 "${target[bob]}"

# --------------------------------------------------------------------------------------------------------- the device

node_fra "fwMark: 0x51"
hitless "the mark changes" '.kind == "device"' ams "${target[ams]}"
node_fra "fwMark: 0x51" "mtu: 1380"
hitless "the MTU changes" '.kind == "link"' ams fd80::2

# The new port is learnt from what comes from it; who waits to be called does not send.
topology_node fra 10.80.0.1 fd80::1 -- "$(endpoint fra 4 :51821)" "fwMark: 0x51" "mtu: 1380"
# Slowly: an answer to one that is on its way at the very moment already comes from the new port.
pace=0.2
outage "the listen port changes" '.kind == "device"' bob 10.80.0.1
pace=0.01
eventually 5 "fra sends, and is heard from its new port" enter fra ping -c 1 -W 1 "${target[bob]}"
succeeds "and is reached there" enter bob ping -c 1 -W 2 10.80.0.1
topology_node fra 10.80.0.1 fd80::1 -- "$(endpoint fra 4 :51822)" "fwMark: 0x51" "mtu: 1380"
fresh ams
before=$(handshake fra ams)
amid fra "${target[ams]}" weft fra apply
same "the listen port changes: who is sent to loses nothing" "0 $before" "$lost $(handshake fra ams)"

# -------------------------------------------------------------------------------------------- addresses, keys, the end

topology_node fra 10.80.0.1 -- "$(endpoint fra 4 :51822)" "mtu: 1380"
outage "an address is removed" '.kind == "address"' fra fd80::2
contains "which is its own connections' outage only" "fd80::1 only" \
    "$(jq -r '.operations[] | select(.kind == "address") | .effectScope' <<<"$plan")"

enter fra rm /etc/weft/private.key
topology_node fra 10.80.0.1 -- "$(endpoint fra 4 :51822)" "mtu: 1380" # makes another
for host in ams ana; do
    [ $host = ana ] || outage "this host's private key changes" '.kind == "device"' fra "${target[$host]}"
done
never 2 "who has not its new public key is not reached" enter fra ping -c 1 -W 1 "${target[ana]}"
for host in ams ana; do
    weft $host apply >/dev/null
    eventually 20 "$host, which has it, is" enter fra ping -c 1 -W 1 "${target[$host]}"
done

topology_drop ana
outage "a peer is removed" ".kind == \"peer\" and .object.publicKey == \"$(public_key ana)\"" fra "${target[ana]}"
plan=$(enter fra "$WEFT" down "$topology" </dev/null 2>&1)
contains "the interface is removed: the plan says outage" outage "$plan"
amid fra "${target[ams]}" weft fra down
loses "the interface is removed: pings are lost"
done_testing
