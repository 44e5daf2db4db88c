# What a scenario says about what it saw, in the Test Anything Protocol (testanything.org). To be sourced by scenarios.
#
#   ok WHAT                        it holds
#   fail WHAT EXPECTED FOUND       it does not; the scenario goes on
#   skip WHAT MISSING              it could not be tried, because MISSING is missing
#   same WHAT EXPECTED FOUND       holds when both texts are equal
#   same_session WHAT BEFORE NOW   holds when both are the time of the same handshake (seconds since 1970, not 0), or the later one
#                                  is the renewal that WireGuard makes by itself when a session has carried for 120 s
#   contains WHAT TEXT FOUND       holds when TEXT is part of FOUND        (lacks: when it is not)
#   matches WHAT REGEX FOUND       holds when a line of FOUND matches the extended regular expression
#   succeeds WHAT COMMAND…         holds when the command exits with 0     (refuses: with anything else)
#   exits CODE WHAT COMMAND…       holds when the command exits with CODE
#   eventually SECONDS WHAT COMMAND…  holds when the command succeeds within SECONDS, tried five times a second
#   never SECONDS WHAT COMMAND…    holds when the command fails all the while
#   note TEXT…                     a remark for the reader
#   need COMMAND… || done_testing  is every one of these programs there? If not, counts as skipped
#   unit_tests FILTER              the unit tests (of $WEFT_UNIT_TESTS) that match: none fails, and none is skipped
#   done_testing                   the scenario's last line: says how many there were; exits 1 if one failed
#
# After succeeds, refuses, exits, eventually and never, $output holds what the (last) command printed, both streams.
# A scenario that ends without done_testing counts as failed, so one that dies half-way cannot pass.

_assert_count=0
_assert_failed=0
output=

_assert_line() { # "ok" or "not ok", text
    _assert_count=$((_assert_count + 1))
    echo "$1 $_assert_count - $2"
}

# Indented under a label, as comments; long texts are cut, for a person is to read them.
_assert_text() {
    echo "#   $1:"
    sed 's/^/#     /' <<<"$2" | head -n 60
}

note() { sed 's/^/# /' <<<"$*"; }
ok() { _assert_line ok "$1"; }
skip() { _assert_line ok "${1//#/} # SKIP ${2:?what is missing?}"; }

fail() {
    _assert_failed=$((_assert_failed + 1))
    _assert_line "not ok" "$1"
    echo "#   at: ${BASH_SOURCE[-1]##*/}:${BASH_LINENO[-2]}"
    _assert_text expected "$2"
    _assert_text found "$3"
}

same() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$@"; fi; }
same_session() {
    if [[ $2 =~ ^[1-9][0-9]*$ && $3 =~ ^[1-9][0-9]*$ ]] && [ $(($3 - $2)) -ge 120 ]; then
        note "the session was renewed when it was $(($3 - $2)) s old"
        ok "$1"
    elif [ "${2:-0}" = 0 ]; then
        fail "$1" "a session before" "none"
    else
        same "$1" "$2" "$3"
    fi
}
contains() { if [[ $3 == *"$2"* ]]; then ok "$1"; else fail "$1" "a text with: $2" "$3"; fi; }
lacks() { if [[ $3 != *"$2"* ]]; then ok "$1"; else fail "$1" "a text without: $2" "$3"; fi; }
matches() { if grep -qE -e "$2" <<<"$3"; then ok "$1"; else fail "$1" "a line that matches: $2" "$3"; fi; }

exits() {
    local code=$1 what=$2 status=0
    shift 2
    output=$("$@" 2>&1) || status=$?
    if [ "$status" = "$code" ]; then ok "$what"; else fail "$what" "exit code $code of: $*" "exit code $status"$'\n'"$output"; fi
}

succeeds() { exits 0 "$@"; }

refuses() {
    local what=$1 status=0
    shift
    output=$("$@" 2>&1) || status=$?
    if [ "$status" != 0 ]; then ok "$what"; else fail "$what" "a refusal of: $*" "exit code 0"$'\n'"$output"; fi
}

# Tries a command until it succeeds, or until the time is over: that is its status.
_assert_poll() {
    local deadline=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until output=$("$@" 2>&1); do
        [ "$(date +%s%N)" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

eventually() {
    local seconds=$1 what=$2
    shift 2
    if _assert_poll "$seconds" "$@"; then ok "$what"; else fail "$what" "within $seconds s, success of: $*" "$output"; fi
}

never() {
    local seconds=$1 what=$2
    shift 2
    if ! _assert_poll "$seconds" "$@"; then ok "$what"; else fail "$what" "for $seconds s, failure of: $*" "$output"; fi
}

need() {
    local program missing=()
    for program; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    skip "this scenario" "the program ${missing[*]}"
    return 1
}

done_testing() {
    echo "1..$_assert_count"
    exit $((_assert_failed > 0))
}

unit_tests() {
    local output mark name
    if [ ! -x "${WEFT_UNIT_TESTS-}" ]; then
        skip "the unit tests $1" "${WEFT_UNIT_TESTS:-the variable WEFT_UNIT_TESTS}: swift build --build-tests"
        return
    fi
    output=$("$WEFT_UNIT_TESTS" --testing-library swift-testing --filter "$1" 2>&1 < /dev/null | sed 's/\x1b\[[0-9;]*m//g')
    # One line for each test, and none for its cases.
    while read -r mark name; do
        if [ "$mark" = ✔ ]; then
            ok "$name"
        else
            fail "$name" "a test that passes" "$(grep -F "$name" <<<"$output" | head -n 20)"
        fi
    done < <(grep -E '^(✔|✘) Test [^ ]+\(.*(passed|failed) after' <<<"$output" |
        sed -E 's/^(.) Test ([^ ]+) .*/\1 \2/' | grep -v ' run$' | sort -u)
    same "nothing of $1 was skipped" "" "$(grep -E '^➜ (Test|Suite) .* skipped' <<<"$output")"
    matches "$1: the run ended" 'Test run with [1-9][0-9]* tests? .*(passed|failed)' "$output"
}
