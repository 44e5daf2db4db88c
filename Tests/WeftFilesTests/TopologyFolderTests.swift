// Which files of a folder are read, and that none that belongs to the topology is left out without a word.

import Glibc
import Testing
import WeftDiagnostics
import WeftFiles

@Suite struct TopologyFolderTests {
    private let path: String

    init() {
        var template = Array("/tmp/weft-files-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
    }

    private func names(_ command: String) -> (names: [String], messages: [String]) {
        defer { system("rm -rf '\(path)'") }
        system("cd '\(path)' && \(command)")
        let (files, problems) = TopologyFolder(path).read()
        return (files.files.map { String($0.name.dropFirst(path.count + 1)) }, problems.map(\.message))
    }

    @Test func capitalsInTheEndOfANameChangeNothing() {
        let found = names(
            "for name in a.YAML b.Yml c.yaml d.yml e.yamlx f.Y .g.YAML yaml; do echo x >$name; done; mkdir S; echo x >S/h.YML"
        )
        #expect(found.names == ["S/h.YML", "a.YAML", "b.Yml", "c.yaml", "d.yml"])
        #expect(found.messages == [])
    }

    @Test(arguments: [
        (#"echo x >"$(printf 'm\374nchen.yaml')""#, #"m\xfcnchen.yaml"#),
        (#"echo x >"$(printf 'x\303\244\374.YML')""#, #"xä\xfc.YML"#),
        (#"mkdir "$(printf '\374')""#, #"\xfc"#),
        (#"ln -s /nowhere "$(printf '\374.yml')""#, #"\xfc.yml"#),
    ])
    func aNameThatIsNotUTF8IsAnError(command: String, shown: String) {
        let found = names("echo x >a.yaml && \(command)")
        #expect(found.names == [])
        #expect(found.messages == ["the name of \(path)/\(shown) is not UTF-8"])
    }

    @Test func whatIsNoPartOfATopologyMayHaveAnyName() {
        let found = names(#"echo x >a.yaml && echo x >"$(printf 'm\374nchen.txt')" && mkdir "$(printf '.\374')""#)
        #expect(found.names == ["a.yaml"])
        #expect(found.messages == [])
    }
}
