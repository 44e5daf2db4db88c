// Keys that are made: wg reads them, nobody else can, and nothing is overwritten.

import CLinux
import Glibc
import Testing
import WeftKeys
import WeftModel

@Suite struct KeyMakerTests {
    private let folder = TemporaryFolder()

    @Test func wgReadsOurPrivateKey() throws {
        for index in 0..<20 {
            let path = "\(folder.path)/\(index)"
            let key = try KeyMaker.makePrivateKey(to: .file(path))
            let text = contents(of: path)
            #expect(text.utf8.count == 45)
            let wg = run(["wg", "pubkey"], input: text)
            #expect(wg.status == 0)
            #expect(wg.output == key.base64 + "\n")
            #expect(try KeyMaker.publicKey(ofFile: path) == key)
            // Clamped, so that what a device reads back is the same text.
            let bytes = try #require(PublicKey(text.dropLast())).bytes
            #expect(bytes[0] & 7 == 0 && bytes[31] & 0xc0 == 0x40)
        }
    }

    @Test func theFileIsItsOwnersAlone() throws {
        umask(0)
        defer { umask(0o022) }
        let path = "\(folder.path)/key"
        try KeyMaker.makePresharedKey(to: .file(path))
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o7777 == 0o600)
    }

    @Test func nothingIsOverwritten() {
        let path = folder.write("precious", to: "key")
        symlink("\(folder.path)/elsewhere", "\(folder.path)/link")
        for target in [path, "\(folder.path)/link"] {
            let found = #expect(throws: KeyError.self) { try KeyMaker.makePrivateKey(to: .file(target)) }
            #expect(found?.code == .exists)
        }
        #expect(contents(of: path) == "precious")
        #expect(access("\(folder.path)/elsewhere", F_OK) != 0)
    }

    @Test func aMissingFolderIsNamed() {
        let found = #expect(throws: KeyError.self) { try KeyMaker.makePrivateKey(to: .file("\(folder.path)/a/b/key")) }
        #expect(found?.remedy == "make it: mkdir -p -m 700 \(folder.path)/a/b")
    }

    @Test func aFullDiskLeavesNoFile() {
        let found = #expect(throws: KeyError.self) {
            try KeyMaker.makePrivateKey(to: .descriptor(open("/dev/full", O_WRONLY), name: "standard output"))
        }
        #expect(found?.errno == ENOSPC)
    }

    @Test func presharedKeysAreAllDifferent() throws {
        var texts: Set<String> = []
        for index in 0..<20 {
            let path = "\(folder.path)/\(index)"
            try KeyMaker.makePresharedKey(to: .file(path))
            texts.insert(contents(of: path))
        }
        #expect(texts.count == 20)
        #expect(texts.allSatisfy { PublicKey($0.dropLast()) != nil })
    }

    @Test func aPublicKeyIsMadeOfWhatADescriptorYields() throws {
        let key = run(["wg", "genkey"]).output
        let path = folder.write(key, to: "key", mode: 0o644)
        let descriptor = open(path, O_RDONLY)
        defer { close(descriptor) }
        let made = try KeyMaker.publicKey(ofDescriptor: descriptor, name: "standard input")
        #expect(made.base64 + "\n" == run(["wg", "pubkey"], input: key).output)
    }

    /// Whatever the language's runtime, or a caller, has put there for a crash.
    @Test func aCrashRunsNothing() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            for crash in [SIGQUIT, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP] { signal(crash) { _ in exit(3) } }
            _ = ProcessHardening.apply()
            raise(SIGSEGV)
        }
    }

    @Test func hardeningTurnsDumpsOff() async {
        await #expect(processExitsWith: .success) {
            precondition(dumpable() == 1)
            precondition(ProcessHardening.apply())
            precondition(dumpable() == 0)
            var limit = rlimit()
            precondition(getrlimit(__rlimit_resource_t(UInt32(RLIMIT_CORE.rawValue)), &limit) == 0)
            precondition(limit.rlim_cur == 0 && limit.rlim_max == 0)
        }
    }
}

/// prctl(PR_GET_DUMPABLE); prctl(2) is variadic, which Swift calls only through a pointer.
private func dumpable() -> Int32 {
    typealias Call = @convention(c) (Int32, UInt, UInt, UInt, UInt) -> Int32
    guard let symbol = dlsym(nil, "prctl") else { return -1 }
    return unsafeBitCast(symbol, to: Call.self)(PR_GET_DUMPABLE, 0, 0, 0, 0)
}
