// What of this process's memory is resident.

internal import CLinux
internal import Glibc

/// The memory of a process that runs for months, and needs little of it most of the time.
package enum OwnPages {
    /// Gives back what was needed once. What a large topology took while it was read goes back to the system. The pages of
    /// the program itself and of its libraries are let go of where they are as they are on disk: most of them were needed
    /// to start, and those that are needed again are found in the page cache.
    package static func giveBack() {
        letGoOfFiles()
        // Last: what was just read of it is long too.
        _ = malloc_trim(0)
    }

    private static func letGoOfFiles() {
        guard let bytes = try? SmallFile.read("/proc/self/smaps", limit: 8 << 20) else { return }
        for range in unmodified(in: bytes) {
            unsafe madvise(UnsafeMutableRawPointer(bitPattern: range.lowerBound), range.count, MADV_DONTNEED)
        }
    }

    /// Which parts of files are mapped, cannot be written, and have no page of their own: not where a relocation was written
    /// before it was made read-only.
    static func unmodified(in smaps: [UInt8]) -> [Range<UInt>] {
        var result: [Range<UInt>] = []
        var current: Range<UInt>?
        for line in smaps.split(separator: UInt8(ascii: "\n")) {
            // `7f00-7f80 r-xp 00000000 08:01 4711   /lib/x.so`, and then fields, which begin with a capital.
            let isHeading = line.first.map { $0 < UInt8(ascii: "A") || $0 >= UInt8(ascii: "a") } ?? false
            guard isHeading || current != nil && line.starts(with: "Anonymous:".utf8) else { continue }
            let words = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
            if isHeading {
                let isFixed = words.count > 5 && words[4] != "0" && ["r--p", "r-xp"].contains(words[1])
                current = isFixed ? range(words[0]) : nil
            } else if let range = current {
                if words.count > 1, words[1] == "0" { result.append(range) }
                current = nil
            }
        }
        return result
    }

    private static func range(_ text: String) -> Range<UInt>? {
        let ends = text.split(separator: "-").compactMap { UInt($0, radix: 16) }
        return ends.count == 2 && ends[0] < ends[1] ? ends[0]..<ends[1] : nil
    }
}
