# What a plan says of sessions, against what is lost. To be sourced by scenarios, after `mesh`, `assert.sh` and `weft.sh`.
#
#   labelled HOST WHAT EFFECT FILTER  the host's plan gives this effect to all operations that a filter of jq selects; $plan
#   amid FROM TARGET COMMAND…         runs a command amid pings, $pace seconds from one to the next; $lost says how many were
#                                     lost, $gone is not empty where none comes any more
#   loses WHAT                        they were: nothing comes any more, or nothing came for a third of a second

labelled() { # HOST WHAT EFFECT FILTER
    plan=$(weft "$1" plan --format json)
    same "$2: the plan says $3" "$3" \
        "$(jq -r "[.operations[] | select($4) | .effect] | unique | join(\" \")" <<<"$plan")"
}

# Half a second of pings before the command, a whole one after it. Those at the end may still be on their way: they count
# only where nothing has come for half a second. That is told by the clock, for ping falls behind where its own packets
# wait for a handshake.
pace=0.01
amid() { # FROM TARGET COMMAND…
    local from=$1 target=$2 log=$_mesh_folder/pings ping end status=0
    shift 2
    launch "$from" ping -n -D -i $pace "$target" >"$log" 2>&1
    ping=$!
    sleep 0.5
    output=$("$@" 2>&1) || status=$?
    sleep 1
    end=$EPOCHREALTIME
    kill -INT "$ping"
    wait "$ping"
    [ $status = 0 ] || fail "while pinging $target" "success of: $*" "$output"
    read -r lost gone < <(awk -v end="$end" '
        / bytes from / && match($0, /icmp_seq=[0-9]+/) {
            seq = substr($0, RSTART + 9, RLENGTH - 9) + 0
            if (!seen[seq]++) got++
            if (seq > last) last = seq
            heard = substr($1, 2) + 0
        }
        / packets transmitted/ { sent = $1 }
        END {
            silent = end - heard > 0.5
            print sent < 5 ? "too-few-were-sent" : last - got + (silent ? sent - last : 0), silent ? "gone" : ""
        }' "$log")
}

loses() { # WHAT
    if [[ $lost =~ ^[0-9]+$ ]] && { [ -n "$gone" ] || awk -v lost="$lost" -v pace="$pace" 'BEGIN { exit !(lost * pace >= 0.3) }'; }; then
        ok "$1"
    else
        fail "$1" "a third of a second's or more" "$lost, one each $pace s"
    fi
}
