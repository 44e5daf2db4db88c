#!/bin/bash
# Everything that weft sets up on a host is changed by hand, field by field, with nft, ip, sysctl and wg. Each time the plan
# shows exactly that, an apply repairs exactly that, and a plan after it has nothing to do.
# timeout: 450
here=$(dirname "$(realpath "$0")")
. "$here/../Beds/mesh"
. "$here/../Beds/assert.sh"
. "$here/../Beds/weft.sh"
need wg ping nft jq || done_testing
mesh_begin

# fra has everything: it relays between ana and bob, has a LAN, sends all else out through exit, and refuses the rest.
mesh_host fra cleo
mesh_lan fra
bin=$(mesh_folder fra)/bin
mkdir "$bin"
# As openresolv has it: -a IF takes standard input, -l IF prints it, -d IF forgets it.
cat >"$bin/resolvconf" <<'END'
#!/bin/sh
mkdir -p /run/servers
case $1 in
-a) cat >"/run/servers/$2" ;;
-d) rm -f "/run/servers/$2" ;;
-l) [ ! -e "/run/servers/$2" ] || { echo "# resolv.conf from $2"; cat "/run/servers/$2"; } ;;
esac
END
chmod +x "$bin/resolvconf"
export PATH=$bin:$PATH

topology_begin
topology_node fra 10.80.0.1 fd80::1 -- "endpoint: $(mesh_address fra 4)" "hub: true" "useExit: exit" \
    "killSwitch: {allow: [198.18.0.0/15, \"2001:db8::/64\"]}" "allowedIPs: [192.168.1.0/24, \"fd00:192:168:1::/64\"]" \
    "masquerade: {interfaces: [br0]}" "dns: {servers: [10.80.0.2], domains: [corp.internal]}"
topology_node cleo 10.80.0.6 -- "endpoint: $(mesh_address cleo 4)" "table: 500"
number=1
for node in exit ana bob uma; do
    number=$((number + 1))
    case $node in
    exit) more="endpoint: 198.18.0.99, exit: true, masquerade: true" ;;
    uma) more="unmanaged: true" ;;
    *) more="hub: false" ;;
    esac
    echo "nodes: {$node: {publicKey: $(wg genkey | wg pubkey), addresses: [10.80.0.$number, \"fd80::$number\"], $more}}" |
        topology_file "node-$node.yaml"
done
topology_file access.yaml <<'END'
access:
  - {from: [ana, bob], to: [fra], ports: [tcp/22, udp/5000-6000, icmp]}
  - {from: [ana], to: [bob]}
  - {from: [fra], to: [internet]}
END

enter fra sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv4.conf.all.send_redirects=1
enter cleo sysctl -qw net.ipv4.conf.all.rp_filter=1
for host in fra cleo; do converges $host; done

table="inet weft-wg0"
# All of it: without what was counted, and sorted, but for the rules of a chain.
whole() {
    enter fra nft -s list table $table | sed '1d; $d' | jq -Rrs '
        rtrimstr("\n") | split("\n\n") | map(
            if test("^\\s*(set|map) ") then
                gsub("\\s+"; " ") | split(" elements = { ") | [.[0]] + ((.[1] // "") | rtrimstr(" } }") | split(", ") | sort)
                | join("\n  ")
            else . end) | sort[]'
    enter fra sh -c '
        for family in -4 -6; do ip $family rule | sort -n; ip $family route show table all proto 119; done
        ip -d -o address show dev wg0 scope global; ip -o link show dev wg0; wg show wg0 fwmark; wg show wg0 listen-port
        cd /proc/sys/net && grep -H . ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/*/accept_ra \
            ipv4/conf/all/src_valid_mark ipv4/conf/*/send_redirects ipv4/conf/wg0/rp_filter ipv4/conf/wg0/forwarding \
            ipv6/conf/wg0/disable_ipv6
        cat /run/servers/*' 2>&1
}
is_whole() { same "$1: all is as it was" "" "$(diff <(echo "$state") <(whole))"; }
# What a plan (JSON, on standard input) would change: one line each, sorted. Of a chain and a set that stay: how many rules
# or elements go and come, and whether it is something else besides.
shown() {
    jq -r '
        def named: map({(.name): .}) | add // {};
        def parts: .rules // .elements // [];
        def rest: del(.rules, .elements);
        .operations[] | .object as $key |
        if .kind == "firewall" then
            ("chains", "sets", "counters") as $kind
                | (.before.firewall[$kind] // [] | named) as $old | (.after.firewall[$kind] // [] | named) as $new
                | ($old + $new | keys[]) as $name | $old[$name] as $was | $new[$name] as $is | select($was != $is)
                | "\($kind) \($name) " + (if $was == null then "comes" elif $is == null then "goes" else
                    "-\(($was | parts) - ($is | parts) | length) +\(($is | parts) - ($was | parts) | length)"
                    + (if ($was | rest) == ($is | rest) then "" else " and more" end) end)
        elif .kind == "rule" then "rule \(.action) \($key.family) \($key.priority) \((.before // .after).rule)"
        elif .kind == "sysctl" then "sysctl \($key.path) \(.before.value) → \(.after.value)"
        elif .kind == "route" then "route \(.action) \($key.prefix) \($key.table)"
        else "\(.kind) \(.action) \($key.name // $key.address)" end,
        (.before.firewall.strangers // [] | .[] | "stranger \(.)")' | sort
}
# by_hand WHAT CHANGES COMMAND…: a command of somebody's, and what the plan shall show of it. $plan
# holds the plan's words.
by_hand() {
    local what=$1 changes=$2 host=${at:-fra} said
    shift 2
    if ! said=$(enter $host sh -c "$*" 2>&1); then
        fail "$what: can be done" "success of: $*" "$said"
        weft $host apply >/dev/null
        return
    fi
    plan=$(weft $host plan --format json)
    same "$what: is shown, and nothing else" "$(sort <<<"$changes")" "$(shown <<<"$plan")"
    plan=$(jq -r '.. | strings' <<<"$plan")
    succeeds "$what: is repaired" weft $host apply
    unchanged $host "$what: wholly"
    [ $host != fra ] || is_whole "$what"
}
# handle CHAIN TEXT: of the first rule with this text.
handle() {
    enter fra nft -a list chain $table "$1" | awk -v text="$2" 'index($0, text) && / # handle / { print $NF; found = 1; exit } END { exit !found }'
}
state=$(whole)

# ------------------------------------------------------------------------------------------------------- the table

by_hand "the table made dormant" "stranger flags dormant" "nft add table $table '{ flags dormant; }'"
by_hand "a policy" "chains forward -0 +0 and more" "nft chain $table forward '{ policy drop; }'"
contains "the plan says which" "policy drop" "$plan"
by_hand "a priority" "chains clamp -0 +1 and more" \
    "nft delete chain $table clamp; nft add chain $table clamp '{ type filter hook forward priority 7; }'"
contains "the plan says which" "priority 7" "$plan"
by_hand "a hook" "chains clamp -0 +1 and more" \
    "nft delete chain $table clamp; nft add chain $table clamp '{ type filter hook output priority mangle; }'"
by_hand "a chain's type" "chains output -0 +15 and more" \
    "nft delete chain $table output; nft add chain $table output '{ type route hook output priority filter; }'"
by_hand "a chain deleted" "chains guard comes" "nft delete chain $table guard"
by_hand "a chain flushed" "chains access -0 +17" "nft flush chain $table access"
by_hand "somebody's chain" "chains mine goes" "nft add chain $table mine '{ type filter hook input priority 5; }'"
by_hand "somebody's set" "sets mine goes" "nft add set $table mine '{ type ipv4_addr; flags interval; }'"
by_hand "somebody's counter" "counters mine goes" "nft add counter $table mine"
by_hand "somebody's quota" "stranger quota mine" "nft add quota $table mine '{ over 10 mbytes }'"

# ----------------------------------------------------------------------------------------------------------- rules

for chain in access clamp forward guard input output postrouting restore save source; do
    by_hand "$chain: its last rule deleted" "chains $chain -0 +1" \
        "nft delete rule $table $chain handle \$(nft -a list chain $table $chain | awk '/ # handle / { last = \$NF } END { print last }')"
done
by_hand "a rule changed" "chains input -1 +1" "nft replace rule $table input handle $(handle input 51820) udp dport 51821 accept"
contains "the plan shows what it is" "udp dport 51821" "$plan"
contains "and what it shall be" "udp dport 51820" "$plan"
by_hand "its verdict" "chains input -1 +1" "nft replace rule $table input handle $(handle input 51820) udp dport 51820 drop comment \\\"the tunnel\\'s own packets\\\""
by_hand "its comment" "chains input -1 +1" "nft replace rule $table input handle $(handle input 51820) udp dport 51820 accept comment mine"
contains "the plan shows it" 'comment "mine"' "$plan"
by_hand "a rule added behind the others" "chains forward -1 +0" "nft add rule $table forward counter"
by_hand "a rule put before the others" "chains access -1 +0" "nft insert rule $table access ip saddr 10.80.0.3 accept"
contains "the plan shows it" "ip saddr 10.80.0.3 accept" "$plan"
by_hand "a rule that weft has no words for" "chains input -1 +0" "nft add rule $table input limit rate 5/second accept"
by_hand "a rule with a chain of its own" "chains input -1 +0" "nft add rule $table input jump '{ accept; }'"
by_hand "a rule with a set of its own" "chains input -1 +0" "nft add rule $table input tcp dport '{ 22, 80 }' accept"
# text CHAIN TEXT: the first rule with this text, as nft takes it.
text() { enter fra nft -s list chain $table "$1" | grep -F -m 1 -e "$2" | sed 's/^[[:space:]]*//'; }
by_hand "the first rule put last" "chains forward -0 +0" "
    nft delete rule $table forward handle $(handle forward 'out of the mesh')
    echo 'add rule $table forward $(text forward 'out of the mesh')' | nft -f -"
by_hand "a rule twice" "chains forward -0 +0" "echo 'add rule $table forward $(text forward 'into the mesh')' | nft -f -"
by_hand "the mark that is kept" "chains restore -1 +1" "
    nft replace rule $table restore handle $(handle restore 'ct mark') meta l4proto udp meta mark set 5"

# -------------------------------------------------------------------------------------------------- sets and counters

counter=$(enter fra nft -j list map $table ports4 | jq -r '[.nftables[].map | select(.) | .elem[][1]] | unique[0]')
other=$(enter fra nft -j list map $table pairs4 | jq -r '[.nftables[].map | select(.) | .elem[][1]] | unique[0]')
element=$(enter fra nft -s list map $table ports4 | tr -d '\n' | grep -oE '[0-9.-]+ \. [0-9.-]+ \. (tcp|6) \. [a-z0-9]+' | head -n 1)
note "an element: $element : $counter"
by_hand "an element added" "sets nat-src4 -1 +0" "nft add element $table nat-src4 '{ 10.99.0.0/16 }'"
contains "the plan shows it" "10.99.0.0" "$plan"
by_hand "an element taken out" "sets allow4 -0 +1" "nft delete element $table allow4 '{ 198.18.0.0/15 }'"
by_hand "in IPv6" "sets allow6 -0 +1" "nft delete element $table allow6 '{ 2001:db8::/64 }'"
by_hand "an element made larger" "sets allow4 -1 +1" "
    nft delete element $table allow4 '{ 198.18.0.0/15 }'; nft add element $table allow4 '{ 198.0.0.0/8 }'"
by_hand "all taken out" "sets nat-src6 -0 +2" "nft flush set $table nat-src6"
by_hand "a permission added" "sets ports4 -1 +0" "nft add element $table ports4 '{ 10.80.0.4 . 10.80.0.3 . tcp . 22 : $counter }'"
by_hand "one taken out" "sets ports4 -0 +1" "nft delete element $table ports4 '{ $element }'"
by_hand "all taken out" "sets ports6 -0 +2" "nft flush map $table ports6"
by_hand "an element's counter" "sets ports4 -1 +1" "
    nft delete element $table ports4 '{ $element }'; nft add element $table ports4 '{ $element : $other }'"
by_hand "an element with a timeout" "stranger set mine: type ipv4_addr; flags timeout" "
    nft add set $table mine '{ type ipv4_addr; flags timeout; elements = { 10.0.0.1 timeout 1h }; }'"
by_hand "a set deleted, with the rules that look into it" "chains postrouting -0 +2
sets nat-src4 comes" "nft flush chain $table postrouting; nft delete set $table nat-src4"
by_hand "a set of another type" "chains postrouting -0 +2
sets nat-src4 -0 +2 and more" "nft flush chain $table postrouting; nft delete set $table nat-src4; nft add set $table nat-src4 '{ type ipv6_addr; flags interval; }'"
by_hand "a set without ranges" "chains postrouting -0 +2
sets nat-src4 comes
stranger set nat-src4: type ipv4_addr" "
    nft flush chain $table postrouting; nft delete set $table nat-src4; nft add set $table nat-src4 '{ type ipv4_addr; }'" 
by_hand "a counter deleted" "counters $other comes
sets node-pairs4 -0 +4
sets node-pairs6 -0 +4
sets pairs4 -0 +1
sets pairs6 -0 +1" "for map in pairs4 pairs6 node-pairs4 node-pairs6; do nft flush map $table \$map; done; nft delete counter $table $other"
by_hand "a counter's comment" "counters $other -0 +0 and more
sets node-pairs4 -0 +4
sets node-pairs6 -0 +4
sets pairs4 -0 +1
sets pairs6 -0 +1" "
    for map in pairs4 pairs6 node-pairs4 node-pairs6; do nft flush map $table \$map; done; nft delete counter $table $other
    nft add counter $table $other '{ comment \"mine\"; }'"

# What is not concerned keeps what it has counted.
enter fra ping -q -c 3 -i 0.2 -W 1 10.80.0.5 >/dev/null 2>&1
counts() { enter fra nft list counters table $table; enter fra nft list chain $table output; }
counted=$(counts)
matches "something was counted" "packets [1-9]" "$counted"
by_hand "a rule, while others count" "chains input -1 +0" "nft add rule $table input counter"
by_hand "an element, while others count" "sets ports4 -0 +1" "nft delete element $table ports4 '{ $element }'"
same "what was counted stands" "$counted" "$(counts)"

# The whole table.
enter fra nft delete table $table
same "the table deleted: one operation" "firewall add" "$(weft fra plan --format json | jq -r '.operations[] | "\(.kind) \(.action)"')"
converges fra
is_whole "the table deleted"
enter fra nft -s list table $table >"$(mesh_folder fra)/table"
by_nft="nft delete table $table; nft -f '$(mesh_folder fra)/table'"
# Debian 12's nft turns the one byte of a protocol in a key, which a kernel of 6.12 refuses: it cannot write there what it
# lists. Nowhere else is that an excuse.
refusal=$(enter fra nft -c -f "$(mesh_folder fra)/table" 2>&1)
if [[ $(uname -r) == 6.12.* && $refusal == *"Operation not supported"* ]]; then
    skip "the table written by nft itself" "an nft that can write what it lists on Linux $(uname -r)"
else
    succeeds "the table written by nft itself" enter fra sh -c "$by_nft"
    converges fra
    is_whole "the table written by nft itself"
fi
enter fra nft add table inet other
enter fra nft add chain inet other forward '{ type filter hook forward priority 0; policy accept; }'
unchanged fra "somebody's own table is nobody's business"
enter fra nft delete table inet other

# ---------------------------------------------------------------------------------------------------- policy rules

ip_rules=$(enter fra ip -j rule)
priority=$(jq '[.[] | select(.protocol == "119" or .protocol == 119) | .priority] | min' <<<"$ip_rules")
mark=$(jq -r --argjson p "$((priority + 1))" '.[] | select(.priority == $p) | "\(.fwmark)/\(.fwmask)"' <<<"$ip_rules")
number=$(jq -r --argjson p "$((priority + 1))" '.[] | select(.priority == $p) | .table' <<<"$ip_rules")
note "rules $priority and $((priority + 1)), mark $mark, table $number"
for family in IPv4 IPv6; do
    ip="ip -${family#IPv}"
    main="$ip rule add lookup main suppress_prefixlength 0 priority $priority protocol 119"
    tunnel="$ip rule add not fwmark $mark lookup $number priority $((priority + 1)) protocol 119"
    # What the kill switch allows has a rule of the same number, which stays. Which of the two is first makes no difference.
    case $family in IPv4) allowed=198.18.0.0/15 ;; IPv6) allowed=2001:db8::/64 ;; esac
    allowed="to $allowed lookup main priority $priority protocol 119"
    drop_main="$ip rule delete $allowed; $ip rule delete priority $priority" keep="$ip rule add $allowed"
    drop_tunnel="$ip rule delete priority $((priority + 1))"
    is_main="$family $priority lookup main suppress_prefixlength 0"
    is_tunnel="$family $((priority + 1)) not fwmark $mark lookup $number"
    # What weft would not write is told as `ip rule` tells it.
    at_main="$family $priority from all lookup main" at_tunnel="$family $((priority + 1))"
    by_hand "$family: the first rule deleted" "rule add $is_main" "$drop_main; $keep"
    by_hand "$family: the second" "rule add $is_tunnel" "$drop_tunnel"
    by_hand "$family: the second's priority" "rule add $is_tunnel
rule remove $family 9000 not fwmark $mark lookup $number" "$drop_tunnel; ${tunnel/priority $((priority + 1))/priority 9000}"
    by_hand "$family: its mark" "rule add $is_tunnel
rule remove ${is_tunnel/fwmark $mark/fwmark 0x5}" "$drop_tunnel; ${tunnel/fwmark $mark/fwmark 0x5/0xffffffff}"
    by_hand "$family: its mask" "rule add $is_tunnel
rule remove $at_tunnel not from all fwmark ${mark%/*}/0xffff lookup $number" "$drop_tunnel; ${tunnel/fwmark $mark/fwmark ${mark%/*}/0xffff}"
    by_hand "$family: its table" "rule add $is_tunnel
rule remove ${is_tunnel/lookup $number/lookup 999}" "$drop_tunnel; ${tunnel/lookup $number/lookup 999}"
    by_hand "$family: not inverted" "rule add $is_tunnel
rule remove $at_tunnel from all fwmark $mark lookup $number" "$drop_tunnel; ${tunnel/not fwmark/fwmark}"
    by_hand "$family: for some only" "rule add $is_tunnel
rule remove $at_tunnel not from all fwmark $mark iif lo lookup $number" "$drop_tunnel; $tunnel iif lo"
    by_hand "$family: what the first suppresses" "rule add $is_main
rule remove $at_main suppress_prefixlength 5" "$drop_main; ${main/length 0/length 5}; $keep"
    by_hand "$family: nothing suppressed" "rule add $is_main
rule remove $at_main" "$drop_main; ${main/suppress_prefixlength 0/}; $keep"
    by_hand "$family: another action" "rule add $is_tunnel
rule remove $at_tunnel not from all fwmark $mark unreachable" "$drop_tunnel; ${tunnel/lookup $number/unreachable}"
    by_hand "$family: one more of ours" "rule remove $at_tunnel not from all fwmark $mark iif lo lookup $number" "$tunnel iif lo"
done
enter fra ip rule add from 192.0.2.1 lookup 77 priority 100
unchanged fra "somebody's own rule is nobody's business"
enter fra ip rule delete priority 100

# ----------------------------------------------------------------------------------------------------------- routes

for family in 4 6; do
    case $family in
    4) default=0.0.0.0/0 elsewhere=192.0.2.0/24 source=10.80.0.1 metric= range=10.80.0.0/16 ;;
    6) default=::/0 elsewhere=2001:db8:77::/48 source=fd80::1 metric="metric 1024" range=fd80::/48 ;;
    esac
    ip="ip -$family route"
    by_hand "IPv$family: the tunnel's default route deleted" "route add $default $number" "$ip delete default table $number"
    by_hand "IPv$family: its MTU" "route change $default $number" \
        "$ip replace default dev wg0 table $number proto 119 src $source $metric mtu 1300"
    by_hand "IPv$family: without its source" "route change $default $number" \
        "$ip replace default dev wg0 table $number proto 119 $metric"
    by_hand "IPv$family: one of ours too many" "route remove $elsewhere $number" \
        "$ip add $elsewhere dev wg0 table $number proto 119 $metric"
    by_hand "IPv$family: what refuses absent nodes" "route add $range 254" "$ip delete unreachable $range"
    enter fra $ip add $elsewhere dev wg0 table $number proto static
    exits 1 "IPv$family: somebody's route in the tunnel's table is a way past the exit" weft fra plan --detailed-exitcode
    contains "and named" "$elsewhere" "$output"
    refuses "an apply says so too" weft fra apply
    succeeds "and leaves it alone" enter fra $ip delete $elsewhere table $number
    unchanged fra "without it all is well"
done

# --------------------------------------------------------------------------------------- the interface and its device

by_hand "the MTU" "link change wg0" "ip link set wg0 mtu 1390"
by_hand "the mark" "device change wg0" "wg set wg0 fwmark 0x99"
by_hand "no mark" "device change wg0" "wg set wg0 fwmark off"
by_hand "the port" "device change wg0" "wg set wg0 listen-port 51999"

# ---------------------------------------------------------------------------------------------------------- settings

setting() { by_hand "$1" "sysctl net/$1 $2" "echo ${2%% *} >/proc/sys/net/$1"; }
setting ipv4/ip_forward "0 → 1"
setting ipv4/conf/wg0/forwarding "0 → 1"
setting ipv6/conf/all/forwarding "0 → 1"
# Switched off on our link alone, IPv6 takes its addresses and routes with it.
by_hand "IPv6 of our own link" "sysctl net/ipv6/conf/wg0/disable_ipv6 1 → 0
address add fd80::1/128
route add ::/0 $number
$(printf 'route add fd80::%s/128 254\n' 2 3 4 5)" "echo 1 >/proc/sys/net/ipv6/conf/wg0/disable_ipv6"
setting ipv6/conf/eth0/accept_ra "1 → 2"
setting ipv4/conf/all/src_valid_mark "0 → 1"
setting ipv4/conf/all/send_redirects "1 → 0"
setting ipv4/conf/wg0/send_redirects "1 → 0"
same "where the routes are aside, a strict check is made a loose one" 2 "$(enter cleo cat /proc/sys/net/ipv4/conf/wg0/rp_filter)"
at=cleo setting ipv4/conf/wg0/rp_filter "1 → 2"
same "and again" 2 "$(enter cleo cat /proc/sys/net/ipv4/conf/wg0/rp_filter)"

# ------------------------------------------------------------------------------------------------------ name servers

same "the name servers are told" "nameserver 10.80.0.2
search corp.internal" "$(enter fra cat /run/servers/wg0)"
by_hand "another server" "resolver change wg0" "sed -i 's/10.80.0.2/10.80.0.77/' /run/servers/wg0"
by_hand "a server more" "resolver change wg0" "echo nameserver 9.9.9.9 >>/run/servers/wg0"
by_hand "another domain" "resolver change wg0" "sed -i 's/corp/other/' /run/servers/wg0"
by_hand "an option" "resolver change wg0" "echo options rotate >>/run/servers/wg0"
by_hand "all forgotten" "resolver add wg0" "rm /run/servers/wg0"

for host in fra cleo; do
    succeeds "$host: down" weft $host down
    same "$host: no table is left" "" "$(enter $host nft list tables)"
    same "$host: no rule" "0: 32766: 32767:" "$(enter $host ip rule | cut -f1 | paste -sd' ')"
    same "$host: no route" "" "$(enter $host ip route show table all proto 119; enter $host ip -6 route show table all proto 119)"
done
same "no name server" "" "$(enter fra ls /run/servers)"
done_testing
