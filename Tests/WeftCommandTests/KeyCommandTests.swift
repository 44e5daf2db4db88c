// `weft key` against `wg`, as programs, in both directions.

import Glibc
import Testing

@Suite struct KeyCommandTests {
    @Test func wgReadsWhatWeftMakes() {
        let script = """
            key=$(weft key generate) && [ ${#key} = 44 ] &&
            [ "$(printf '%s\\n' "$key" | wg pubkey)" = "$(printf '%s\\n' "$key" | weft key public)" ]
            """
        #expect(shell(script).status == 0)
    }

    @Test func weftReadsWhatWgMakes() {
        let script = "umask 077; wg genkey > key; wg pubkey < key > public; weft key public key | cmp - public"
        #expect(shell(script).status == 0)
    }

    @Test func theFileIsMadeOnceAndItsPublicKeyPrinted() {
        let script = """
            umask 0; weft key generate --output key > public &&
            [ "$(stat -c %a key)" = 600 ] && wg pubkey < key | cmp - public &&
            ! weft key generate --output key 2> errors && grep -q '^error: key: there is such a file already' errors &&
            wg pubkey < key | cmp - public
            """
        #expect(shell(script).status == 0)
    }

    @Test func presharedKeysAreThoseOfWg() {
        let script = """
            weft key preshared --output a && [ "$(stat -c %a a)" = 600 ] && weft key preshared > b &&
            [ "$(base64 -d a | wc -c)" = 32 ] && [ "$(base64 -d b | wc -c)" = 32 ] && ! cmp -s a b
            """
        #expect(shell(script).status == 0)
    }

    @Test func anOpenFileIsRefusedWithTheCommandThatMendsIt() {
        let result = shell("umask 077; wg genkey > key; chmod 644 key; weft key public key; echo $?")
        #expect(
            result.output == """
                error: key: others than its owner have access to it (mode 644)
                note: chmod 600 key
                1

                """)
    }

    @Test func anOutputForAllToReadIsWarnedOf() {
        #expect(shell("umask 022; weft key generate > key").output.hasPrefix("warning: others can read"))
        #expect(shell("umask 077; weft key generate > key").output == "")
    }

    @Test func outputThatCannotBeWrittenIsAnError() {
        #expect(shell("weft key generate > /dev/full; echo $?").output.hasSuffix("No space left on device\n1\n"))
        #expect(shell("wg genkey | weft key public > /dev/full; echo $?").output.hasSuffix("device\n1\n"))
        for output in [">&-", "> /dev/null"] {
            for kind in ["generate", "preshared"] {
                let (_, text) = shell("weft key \(kind) \(output); echo $?")
                #expect(text.contains("the key would be lost") && text.hasSuffix("\n1\n"))
            }
        }
        // A reader that has gone is no error of ours.
        #expect(
            shell("set -o pipefail; wg genkey | weft key public | true; wg genkey | weft key public | true").output
                == "")
    }
}

/// Runs a script in an empty folder with `weft` first in its path; its status and all that it printed.
private func shell(_ script: String) -> (status: Int32, output: String) {
    let whole = """
        PATH="\(productsFolder):$PATH"; export SWIFT_BACKTRACE=enable=no; dir=$(mktemp -d) && cd "$dir" || exit 99
        exec 2>&1; trap 'rm -rf "$dir"' EXIT
        \(script)
        """
    let quoted = "'" + whole.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    guard let pipe = popen("exec bash -c \(quoted)", "r") else { return (-1, "") }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = fread(&buffer, 1, buffer.count, pipe)
        if count == 0 { break }
        output += buffer.prefix(count)
    }
    let status = pclose(pipe)
    return (status >> 8 & 0xff, String(decoding: output, as: UTF8.self))
}

/// Where the package's executables were built: beside the bundle that is running.
private let productsFolder: String = {
    for argument in CommandLine.arguments {
        guard let end = argument.firstRange(of: "/weftPackageTests.xctest") else { continue }
        return String(argument[..<end.lowerBound])
    }
    return ".build/debug"
}()
