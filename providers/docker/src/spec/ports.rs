//! Published ports, as lab files write them: `[address:]host:container[/protocol]`, where ports may be ranges.

use std::collections::HashMap;

use bollard::models::PortBinding;

/// Which ports of a node are reached at which of the host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(Vec<Port>);

#[derive(Debug, PartialEq, Eq)]
struct Port {
    /// Port and protocol in the node.
    inside: String,
    /// Address on the host; all when absent.
    address: Option<String>,
    /// Port on the host; the daemon's choice when absent.
    host: Option<u16>,
}

impl Ports {
    pub(crate) fn read(texts: &[String]) -> Result<Self, String> {
        let mut ports = Vec::new();
        for text in texts {
            ports.extend(mapping(text).ok_or_else(|| {
                format!("`{text}` is not a published port; expected [address:]host:container[/protocol]")
            })?);
        }
        Ok(Self(ports))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ports in the node.
    pub(crate) fn exposed(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.iter().map(|port| port.inside.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The ports on the host, by those in the node.
    pub(crate) fn bindings(&self) -> HashMap<String, Option<Vec<PortBinding>>> {
        let mut map: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for port in &self.0 {
            let host_port = port.host.map_or_else(String::new, |number| number.to_string());
            let binding = PortBinding { host_ip: port.address.clone(), host_port: Some(host_port) };
            map.entry(port.inside.clone()).or_default().get_or_insert_default().push(binding);
        }
        map
    }
}

fn mapping(text: &str) -> Option<Vec<Port>> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return None;
    }
    let (rest, inside) = rest.rsplit_once(':').map_or((None, rest), |(rest, inside)| (Some(rest), inside));
    let (address, host) = match rest {
        None => (None, None),
        Some(rest) => match rest.rsplit_once(':') {
            None => (None, Some(rest)),
            Some((address, host)) => {
                let bare = address.trim_start_matches('[').trim_end_matches(']');
                bare.parse::<std::net::IpAddr>().ok()?;
                (Some(bare.to_owned()), Some(host))
            }
        },
    };
    let inside = range(inside)?;
    let host = match host.filter(|host| !host.is_empty()) {
        Some(text) => Some(range(text)?),
        None => None,
    };
    if host.as_ref().is_some_and(|host| host.len() != inside.len()) {
        return None;
    }
    let at = |index: usize| host.as_ref().map(|host| host[index]);
    let port = |(index, number): (usize, &u16)| Port {
        inside: format!("{number}/{protocol}"),
        address: address.clone(),
        host: at(index),
    };
    Some(inside.iter().enumerate().map(port).collect())
}

/// `8080` or `8080-8090`.
fn range(text: &str) -> Option<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then(|| (first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (String, Option<String>, Option<u16>);

    fn read(text: &str) -> Option<Vec<Read>> {
        let ports = Ports::read(&[text.to_owned()]).ok()?;
        Some(ports.0.into_iter().map(|port| (port.inside, port.address, port.host)).collect())
    }

    #[test]
    fn ports_are_read_as_people_write_them() {
        let one = |inside: &str, address: Option<&str>, host| {
            Some(vec![(inside.to_owned(), address.map(str::to_owned), host)])
        };
        assert_eq!(read("80"), one("80/tcp", None, None));
        assert_eq!(read("8080:80"), one("80/tcp", None, Some(8080)));
        assert_eq!(read("5353:53/udp"), one("53/udp", None, Some(5353)));
        assert_eq!(read("127.0.0.1:8080:80"), one("80/tcp", Some("127.0.0.1"), Some(8080)));
        assert_eq!(read("[::1]:8080:80"), one("80/tcp", Some("::1"), Some(8080)));
        assert_eq!(read("127.0.0.1::80"), one("80/tcp", Some("127.0.0.1"), None));
        assert_eq!(read("8000-8001:80-81").map(|all| all.len()), Some(2));
        for bad in ["", "x", "80/xyz", "1:2:3:4", "8000-8002:80-81", "0:80", "70000:80"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_port_may_be_reached_at_several() {
        let ports = Ports::read(&["8080:80".to_owned(), "8081:80".to_owned()]).unwrap();
        assert_eq!(ports.exposed(), ["80/tcp"]);
        assert_eq!(ports.bindings()["80/tcp"].as_ref().unwrap().len(), 2);
    }
}
