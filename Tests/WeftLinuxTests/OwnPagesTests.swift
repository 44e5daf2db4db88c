// What of its own memory a process lets go of: nothing that is not on disk as it is.

import Glibc
import Testing

@testable import WeftLinux

@Suite struct OwnPagesTests {
    @Test func takesOnlyWhatIsOnDisk() {
        func part(_ heading: String, anonymous: Int) -> String {
            """
            \(heading)
            Size:               100 kB
            Rss:                 80 kB
            Anonymous:           \(anonymous) kB
            AnonHugePages:        0 kB
            VmFlags: rd ex mr mw me

            """
        }
        let text =
            part("1000-3000 r-xp 00000000 08:01 4711                       /usr/bin/weft", anonymous: 0)
            // Written by relocations, then made read-only.
            + part("3000-4000 r--p 00002000 08:01 4711                       /usr/bin/weft", anonymous: 4)
            + part("4000-5000 rw-p 00003000 08:01 4711                       /usr/bin/weft", anonymous: 0)
            + part("5000-6000 rw-p 00000000 00:00 0                          [heap]", anonymous: 4)
            + part("6000-8000 r--p 00000000 08:01 815                        /usr/lib/a name.so", anonymous: 0)
            + part("8000-9000 r-xp 00000000 00:00 0                          [vdso]", anonymous: 0)
            + part("9000-a000 r--p 00000000 00:00 0 ", anonymous: 0)
            + part("a000-b000 r-xs 00000000 08:01 816                        /shared", anonymous: 0)
        #expect(OwnPages.unmodified(in: Array(text.utf8)) == [0x1000..<0x3000, 0x6000..<0x8000])
        #expect(OwnPages.unmodified(in: []).isEmpty)
        #expect(OwnPages.unmodified(in: Array("1000-3000 r-xp\nzz\n-\nAnonymous:\n".utf8)).isEmpty)
    }

    /// The process goes on, and its constants and relocated data are what they were.
    @Test func nothingIsLost() throws {
        let words = (0..<1000).map { "word \($0)" }
        for _ in 0..<3 {
            OwnPages.giveBack()
            #expect(words.joined().utf8.count == 7890)
            #expect(String(cString: strerror(ENOENT)).isEmpty == false)
            #expect("\(Double.pi)".hasPrefix("3.14"))
        }
        #expect(!OwnPages.unmodified(in: try SmallFile.read("/proc/self/smaps", limit: 8 << 20)).isEmpty)
    }
}
