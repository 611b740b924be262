//! Texts that stand for quantities, addresses and commands.

/// A size in bytes: `512`, `1G` or `1GB` (powers of 1000), `1Gi` or `1GiB` (powers of 1024); case does not count.
pub(crate) fn size(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let unit = unit.to_ascii_lowercase();
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1000,
        "m" => 1000_u64.pow(2),
        "g" => 1000_u64.pow(3),
        "t" => 1000_u64.pow(4),
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    };
    whole(number * factor as f64)
}

/// A rate in bits per second: `1000`, `10M`, `10Mbit`, `1gbit`.
pub(crate) fn rate(text: &str) -> Option<u64> {
    let (number, unit) = quantity(text)?;
    let unit = unit.to_ascii_lowercase();
    let factor = match unit.trim_end_matches("bps").trim_end_matches("bit") {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return None,
    };
    whole(number * factor).filter(|rate| *rate > 0)
}

/// A duration in microseconds: `100us`, `10ms`, `1.5s`. The unit is required, since tools disagree on the default.
pub(crate) fn microseconds(text: &str) -> Option<u32> {
    let (number, unit) = quantity(text)?;
    let factor = match unit {
        "us" | "µs" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    whole(number * factor).and_then(|micros| u32::try_from(micros).ok())
}

/// A share from 0 to 1, written in percent: `0.5%`. The sign is required, since `1` could mean all or a hundredth.
pub(crate) fn percent(text: &str) -> Option<f64> {
    let (number, unit) = quantity(text)?;
    (unit == "%" && number <= 100.0).then_some(number / 100.0)
}

/// A list of processors: `0-1,3`.
pub(crate) fn is_cpu_list(text: &str) -> bool {
    text.split(',').all(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        matches!((low.trim().parse::<u16>(), high.trim().parse::<u16>()), (Ok(low), Ok(high)) if low <= high)
    })
}

/// A published port as Docker writes it: `[address:][host:]container[/protocol]`, where ports may be ranges.
pub(crate) fn is_port_mapping(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_port = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        matches!((low.parse::<u16>(), high.parse::<u16>()), (Ok(low), Ok(high)) if 0 < low && low <= high)
    };
    let mut parts = ports.rsplitn(3, ':');
    let container = parts.next().is_some_and(is_port);
    let host = parts.next().is_none_or(|part| part.is_empty() || is_port(part));
    let address = parts
        .next()
        .is_none_or(|part| part.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok());
    container && host && address && matches!(protocol, "tcp" | "udp" | "sctp")
}

/// A command split into words as a shell would.
pub(crate) fn words(text: &str) -> Option<Vec<String>> {
    shlex::split(text)
}

/// A number that is not negative, and what stands behind it.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn whole(number: f64) -> Option<u64> {
    // Above 2^53 a float has no room for single units, and nothing real is as large.
    (0.0..9e15).contains(&number).then(|| number.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("1G", 1_000_000_000),
            ("1gb", 1_000_000_000),
            ("1GiB", 1 << 30),
            ("1.5Mi", 3 << 19),
            ("64 kB", 64_000),
            ("10b", 10),
            ("2T", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "1X", "1GG", "1e3", "1.2.3", "1i", "99999999T"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn link_attributes() {
        assert_eq!(
            [rate("10Mbit"), rate("1G"), rate("500"), rate("1.5k"), rate("2 gbps")].map(Option::unwrap),
            [10_000_000, 1_000_000_000, 500, 1500, 2_000_000_000]
        );
        assert!(["0", "fast", "10MB", "-1"].map(rate).iter().all(Option::is_none));
        assert_eq!(
            [microseconds("10ms"), microseconds("1.5s"), microseconds("7us")].map(Option::unwrap),
            [10_000, 1_500_000, 7]
        );
        assert!(["10", "", "1h", "-1ms", "9999999s"].map(microseconds).iter().all(Option::is_none));
        assert_eq!([percent("1%"), percent("100 %"), percent("0.5%")].map(Option::unwrap), [0.01, 1.0, 0.005]);
        assert!(["1", "101%", "-1%", "%"].map(percent).iter().all(Option::is_none));
    }

    #[test]
    fn lists_of_processors_and_ports() {
        assert!(["0", "0-1,3", "0, 2"].into_iter().all(is_cpu_list));
        assert!(!["", "a", "1-", "3-1", "0,,1"].into_iter().any(is_cpu_list));
        assert!(
            [
                "80",
                "56180:80",
                "80:80/udp",
                "127.0.0.1:80:80",
                "8000-8010:8000-8010",
                "[::1]:80:80/tcp",
                "127.0.0.1::80"
            ]
            .into_iter()
            .all(is_port_mapping)
        );
        assert!(
            !["", "0:80", "80:x", "80:80/icmp", "70000:80", "host:80:80", "1:2:3:4"].into_iter().any(is_port_mapping)
        );
    }

    #[test]
    fn commands() {
        let expected = ["ash", "-c", "echo $MYVAR > /tmp/var && sleep 9999"];
        assert_eq!(words("ash -c \"echo $MYVAR > /tmp/var && sleep 9999\"").unwrap(), expected);
        assert_eq!(words("sh -c 'a  b' c\\ d").unwrap(), ["sh", "-c", "a  b", "c d"]);
        assert!(words("echo 'open").is_none());
    }
}
