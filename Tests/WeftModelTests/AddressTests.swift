// IPv4, IPv6 and prefixes: what parses, what does not, and how it prints.

import Testing
import WeftModel

@Suite struct AddressTests {
    @Test(arguments: [
        ("10.0.0.1", "10.0.0.1"), ("255.255.255.255", "255.255.255.255"), ("::", "::"), ("::1", "::1"),
        ("2001:DB8::0:1", "2001:db8::1"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"), ("fd80::1:0:0:1", "fd80::1:0:0:1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1::", "1::"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
    ])
    func parsesAndPrints(text: String, canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
    }

    @Test(arguments: [
        "", "1", "10.1", "10.0.0", "10.0.0.0.0", "010.0.0.1", "256.0.0.1", "10.0.0.1 ", ":", ":::", "1::2::3",
        "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1%eth0", "[::1]", "fe80::g",
        "::1.2.3", "1:2:3:4:5:6:7:1.2.3.4", ":1::", "1:", "1.2.3.4::", "0x7f.1",
    ])
    func refuses(text: String) {
        #expect(IPAddress(text) == nil)
    }

    @Test func masksAndOrders() throws {
        #expect(IPPrefix("10.192.124.1/24") == nil)
        let network = try #require(IPPrefix("10.192.124.0/24"))
        #expect(IPPrefix(try #require(IPAddress("10.192.124.77")), length: 24) == network)
        #expect(network.contains(try #require(IPAddress("10.192.124.255"))))
        #expect(!network.contains(try #require(IPAddress("10.192.125.0"))))
        let six = try #require(IPPrefix("fd80:0:0:0:8000::/65"))
        #expect(six.contains(try #require(IPAddress("fd80::ffff:0:0:0"))))
        #expect(!six.contains(try #require(IPAddress("fd80::7fff:0:0:0"))))
        #expect(network < six)
        #expect(try #require(IPPrefix("::/0")).contains(six))
        #expect(IPPrefix("10.0.0.0/024") == nil)
        #expect(IPPrefix("10.0.0.0/33") == nil)
        #expect(IPPrefix("10.0.0.0/") == nil)
    }

    @Test func keysRoundTrip() throws {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
        let key = try #require(PublicKey(text))
        #expect(key.base64 == text)
        #expect(PublicKey(bytes: key.bytes.span) == key)
        #expect(PublicKey("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dh=") == nil)
        #expect(PublicKey("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg") == nil)
        #expect(PublicKey("xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8D-=") == nil)
    }

    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("2027-01-01T00:00:00Z", 1_798_761_600),
        ("2000-02-29T12:00:00+01:00", 951_822_000),
        ("1969-12-31T23:59:59Z", -1),
    ])
    func timesRoundTrip(text: String, seconds: Int) throws {
        let time = try #require(UnixTime(rfc3339: text))
        #expect(time.seconds == Int64(seconds))
        #expect(UnixTime(rfc3339: time.description) == time)
    }

    @Test(arguments: ["2027-01-01", "2027-13-01T00:00:00Z", "2027-02-29T00:00:00Z", "2027-01-01T00:00:00", "x"])
    func refusesTimes(text: String) {
        #expect(UnixTime(rfc3339: text) == nil)
    }
}
