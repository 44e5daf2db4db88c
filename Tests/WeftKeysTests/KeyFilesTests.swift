// Key files: what wg writes is read, what is not safe or not a key is refused with the way to mend it.

import Glibc
import Testing
import WeftKeys
import WeftModel

@Suite struct KeyFilesTests {
    private let folder = TemporaryFolder()
    // A known pair: see the WireGuard tools' own test of `wg pubkey`; the private key is clamped already.
    private let privateText = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="

    private func error(of text: String, mode: mode_t = 0o600) -> KeyError? {
        let path = folder.write(text, to: "key", mode: mode)
        do throws(KeyError) { _ = try KeyFiles(privateKey: path).ownKey() } catch { return error }
        return nil
    }

    @Test(arguments: ["", "\n", "\r\n", " ", " \t\r\n\n"])
    func readsWhatWgWrites(ending: String) throws {
        let path = folder.write(privateText + ending, to: "key")
        let own = try KeyFiles(privateKey: path).ownKey()
        let wg = run(["wg", "pubkey"], input: privateText)
        #expect(wg.status == 0)
        #expect(own.publicKey.base64 + "\n" == wg.output)
    }

    @Test func aKeyOfWgIsReadAsWgReadsIt() throws {
        for _ in 0..<20 {
            let key = run(["wg", "genkey"]).output
            let own = try KeyFiles(privateKey: folder.write(key, to: "key")).ownKey()
            #expect(own.publicKey.base64 + "\n" == run(["wg", "pubkey"], input: key).output)
        }
    }

    @Test func theTagIsThatOfTheClampedKey() throws {
        // 32 bytes of 0xff.
        let path = folder.write("//////////////////////////////////////////8=", to: "key")
        var bytes = [UInt8](repeating: 0xff, count: 32)
        bytes[0] = 0xf8
        bytes[31] = 0x7f
        #expect(try KeyFiles(privateKey: path).ownKey().tag == SecretTagger.tag(bytes.span))
    }

    @Test func knowsItsPrivateKeyWhereAPublicOneIsWritten() throws {
        for text in [privateText, "//////////////////////////////////////////8="] {
            let own = try KeyFiles(privateKey: folder.write(text, to: "key")).ownKey()
            #expect(own.isWritten(as: try #require(PublicKey(text))))
            #expect(!own.isWritten(as: own.publicKey))
        }
    }

    @Test func saysWhatIsWrongWithTheText() {
        #expect(error(of: "")?.code == .empty)
        #expect(error(of: "\n \n")?.code == .empty)
        #expect(error(of: "abc")?.code == .notAKey(.wrongLength(3)))
        #expect(error(of: privateText + "A")?.code == .notAKey(.wrongLength(45)))
        #expect(error(of: " " + privateText)?.code == .notAKey(.wrongLength(45)))
        let long = error(of: String(repeating: "A", count: 100_000))
        #expect(long?.code == .notAKey(.wrongLength(100_000)))
        #expect(long?.message == "this is not a key: it has 100000 bytes, a key has 44 characters")
        // What stands behind so many blanks has not been read.
        #expect(error(of: privateText + String(repeating: " ", count: 300))?.code == .notAKey(.wrongLength(344)))
        for (open, close) in [("“", "”"), ("\"", "\""), ("'", "'")] {
            let quoted = error(of: open + privateText + close)
            #expect(quoted?.message == "a quote stands before the key: it is written without")
        }
        #expect(error(of: privateText.replacingLast("k=", "l="))?.code == .notAKey(.notCanonical))
        #expect(error(of: privateText.replacingLast("mk=", "mkA"))?.code == .notAKey(.badCharacter(at: 43)))
        #expect(error(of: "-" + privateText.dropFirst())?.code == .notAKey(.badCharacter(at: 0)))
        #expect(error(of: "\0" + privateText.dropFirst())?.code == .notAKey(.badCharacter(at: 0)))
        #expect(error(of: String(repeating: "A", count: 43) + "=")?.code == .allZero)
        #expect(error(of: "[Interface]\nPrivateKey = \(privateText)\n")?.code == .configurationFile)
    }

    /// wg takes blanks behind a key, and none before it.
    @Test(arguments: ["", "\n", " \n", "\n\n", "\r\n"])
    func takesBlanksBehindAKeyAsWgDoes(ending: String) throws {
        let path = folder.write(privateText.prefix(44) + ending, to: "key")
        #expect(run(["sh", "-c", "wg pubkey <\(path)"]).status == 0)
        #expect(throws: Never.self) { try KeyFiles(privateKey: path).ownKey() }
    }

    @Test(arguments: [
        ("\n", "an empty line"), (" ", "a blank"), ("\t", "a blank"), ("\r\n", "an empty line"),
        ("\u{FEFF}", "a byte-order mark"),
    ])
    func saysWhatStandsBeforeAKey(start: String, message: String) throws {
        let found = try #require(error(of: start + privateText))
        #expect(found.message.contains(message))
        #expect(run(["sh", "-c", "wg pubkey <\(folder.path)/key"]).status != 0)
    }

    @Test func theRemedyForAByteOrderMarkWorks() throws {
        let found = try #require(error(of: "\u{FEFF}" + privateText))
        let match = try #require(found.remedy.firstMatch(of: #/\((sed .*) FILE\)/#))
        #expect(run(["sh", "-c", "\(match.1) \(folder.path)/key"]).status == 0)
        #expect(throws: Never.self) { try KeyFiles(privateKey: "\(folder.path)/key").ownKey() }
    }

    @Test func noErrorHoldsTheKey() throws {
        for text in [privateText + "A", "PrivateKey = " + privateText, privateText.replacingLast("k=", "l=")] {
            let found = try #require(error(of: text))
            #expect(!found.description.contains(privateText.prefix(8)))
        }
    }

    @Test(arguments: [0o640, 0o604, 0o660, 0o620, 0o644, 0o777])
    func refusesAFileThatOthersCanReach(mode: Int) throws {
        let found = try #require(error(of: privateText, mode: mode_t(mode)))
        #expect(found.code == .tooOpen)
        #expect(found.remedy == "chmod 600 \(folder.path)/key")
        #expect(run(["sh", "-c", found.remedy]).status == 0)
        #expect(throws: Never.self) { try KeyFiles(privateKey: "\(folder.path)/key").ownKey() }
    }

    @Test func theRemedyQuotesThePath() throws {
        let path = folder.write(privateText, to: "it's a key", mode: 0o644)
        let found = #expect(throws: KeyError.self) { try KeyFiles(privateKey: path).ownKey() }
        #expect(run(["sh", "-c", found?.remedy ?? "false"]).status == 0)
        #expect(throws: Never.self) { try KeyFiles(privateKey: path).ownKey() }
    }

    @Test(.enabled(if: geteuid() == 0)) func refusesAFileOfAnotherUser() throws {
        let path = folder.write(privateText, to: "key")
        chown(path, 12345, 12345)
        let found = #expect(throws: KeyError.self) { try KeyFiles(privateKey: path).ownKey() }
        #expect(found?.code == .foreignOwner)
        #expect(found?.remedy == "chown 0 \(path)")
    }

    @Test func whatIsNotAFileIsRefusedAtOnce() {
        let fifo = "\(folder.path)/fifo"
        mkfifo(fifo, 0o600)
        for path in [fifo, folder.path, "/dev/null", "/dev/zero"] {
            let found = #expect(throws: KeyError.self) { try KeyFiles(privateKey: path).ownKey() }
            #expect(found?.code == .notAFile, "\(path)")
        }
    }

    @Test func aMissingFileSaysHowToMakeOne() {
        let found = #expect(throws: KeyError.self) { try KeyFiles(privateKey: "\(folder.path)/none").ownKey() }
        #expect(found?.code == .missing)
        #expect(found?.remedy == "make one: weft key generate --output \(folder.path)/none")
    }

    @Test func symbolicLinksAreFollowedAndTheirTargetChecked() throws {
        let open = folder.write(privateText, to: "open", mode: 0o644)
        let closed = folder.write(privateText, to: "closed")
        symlink(open, "\(folder.path)/a")
        symlink(closed, "\(folder.path)/b")
        symlink("\(folder.path)/c", "\(folder.path)/c")
        #expect(
            #expect(throws: KeyError.self) { try KeyFiles(privateKey: "\(folder.path)/a").ownKey() }?.code == .tooOpen)
        #expect(throws: Never.self) { try KeyFiles(privateKey: "\(folder.path)/b").ownKey() }
        #expect(
            #expect(throws: KeyError.self) { try KeyFiles(privateKey: "\(folder.path)/c").ownKey() }?.code == .system)
    }

    @Test func presharedKeysAreReadByNode() throws {
        let key = run(["wg", "genpsk"]).output
        _ = folder.write(key, to: "fra")
        _ = folder.write(key, to: "ber")
        _ = folder.write(key, to: "open", mode: 0o644)
        let files = KeyFiles(privateKey: folder.write(privateText, to: "own"), presharedKeys: folder.path)
        let (tags, errors) = files.presharedTags(of: ["fra", "ber", "open", "none", "../own", ".."])
        #expect(tags.keys.sorted() == ["ber", "fra"])
        #expect(tags["fra"] == tags["ber"])
        #expect(errors.map(\.code) == [.tooOpen, .missing, .missing, .missing])
        // Two hosts that each made one would never meet.
        let remedy = try #require(errors.first { $0.place.hasSuffix("/none") }?.remedy)
        #expect(remedy.contains("copy it to the other"))
        #expect(remedy.hasSuffix(": weft key preshared --output \(folder.path)/none"))

        let own = try files.ownKey()
        let arena = try files.arena(own: own, preshared: tags)
        #expect(arena.count == 2)
        let tag = try #require(tags["fra"])
        let text = arena.withSecret(tag) { span in PublicKey(bytes: span)?.base64 } ?? nil
        #expect(text.map { $0 + "\n" } == key)
        #expect(arena.contains(own.tag))
    }

    @Test func aKeyChangedSinceThePlanIsRefused() throws {
        let files = KeyFiles(privateKey: folder.write(privateText, to: "own"), presharedKeys: folder.path)
        _ = folder.write(run(["wg", "genpsk"]).output, to: "fra")
        let own = try files.ownKey()
        let tags = files.presharedTags(of: ["fra"]).tags
        _ = folder.write(run(["wg", "genpsk"]).output, to: "fra")
        #expect(#expect(throws: KeyError.self) { try files.arena(own: own, preshared: tags) }?.code == .changed)
        _ = folder.write(run(["wg", "genkey"]).output, to: "own")
        #expect(#expect(throws: KeyError.self) { try files.arena(own: own) }?.code == .changed)
    }
}

extension String {
    func replacingLast(_ ending: String, _ other: String) -> String {
        precondition(hasSuffix(ending))
        return String(dropLast(ending.count)) + other
    }
}
