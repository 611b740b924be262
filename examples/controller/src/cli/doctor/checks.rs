//! What is looked at.

use std::fs;
use std::path::Path;

use lifecycle_linux::capability::{Feature, Missing};

use super::super::Context;
use super::Finding;
use crate::embedded::{lacks, world};

/// Where programs are looked for inside nodes that show the host's file system.
const NODE_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Programs that labs like to run inside nodes, what for, and the Debian package of each.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("sh", "health checks and commands that are given as a text", "dash"),
    ("ip", "addresses and routes; nodes have a small one of Lifecycle's at /run/lifecycle/ip", "iproute2"),
    ("ping", "to see that packets pass; nodes have a small one of Lifecycle's at /run/lifecycle/ping", "iputils-ping"),
    ("tcpdump", "to look at packets", "tcpdump"),
];

/// Looks at everything.
pub(super) fn all(context: &Context) -> Vec<Finding> {
    let root = context.surroundings.uid == 0;
    let mut findings = vec![user(context, root), places(context)];
    findings.extend(kernel(root));
    findings.push(overlay());
    findings.push(cgroups());
    if !root {
        findings.push(id_ranges());
    }
    findings.extend(plugins(context));
    findings.extend(bridged_frames());
    findings.extend(PROGRAMS.map(|(name, purpose, package)| program(name, purpose, package)));
    findings
}

fn user(context: &Context, root: bool) -> Finding {
    if root {
        return Finding::ok("user", "root: nodes run directly on the host");
    }
    let detail = format!(
        "uid {}: nodes run in a user namespace, which has no host, macvlan or management link into the real host's \
         network",
        context.surroundings.uid
    );
    Finding::ok("user", detail)
}

fn places(context: &Context) -> Finding {
    let (state, socket) = (&context.places.state, context.places.socket());
    let detail = format!("state {}, socket {}", state.display(), socket.display());
    // The provider's sockets have longer names than ours, below the same directory.
    if context.places.runtime.as_os_str().len() > 55 {
        let advice = "set XDG_RUNTIME_DIR to a directory with a shorter path; paths of sockets end at 108 bytes";
        return Finding::broken("places", detail, advice);
    }
    Finding::ok("places", detail)
}

/// What the kernel can do for this user, found out by trying.
fn kernel(root: bool) -> Vec<Finding> {
    match Missing::detect() {
        Ok(missing) => Feature::ALL.into_iter().map(|feature| feature_of(feature, &missing, root)).collect(),
        Err(error) => vec![Finding::broken(
            "namespaces",
            format!("no network namespace can be made: {error}"),
            if root { "give this process CAP_SYS_ADMIN; a container needs --privileged" } else { user_namespaces() },
        )],
    }
}

fn feature_of(feature: Feature, missing: &Missing, root: bool) -> Finding {
    let name = format!("kernel: {feature}");
    let Some(reason) = missing.reason(feature) else { return Finding::ok(name, purpose(feature)) };
    let detail = format!("{reason}; needed for {}", purpose(feature));
    match feature {
        Feature::Veth => Finding::broken(name, detail, "load it with `modprobe veth`"),
        Feature::UserNamespaces if root => Finding::missing(name, detail, user_namespaces()),
        Feature::UserNamespaces => Finding::broken(name, detail, user_namespaces()),
        _ => Finding::missing(name, detail, module(feature)),
    }
}

const fn purpose(feature: Feature) -> &'static str {
    match feature {
        Feature::Veth => "links",
        Feature::Bridge => "nodes of kind bridge and management networks",
        Feature::BridgeVlanFiltering => "bridges that keep VLANs apart",
        Feature::Dummy => "links that lead nowhere",
        Feature::Ifb => "links that lead nowhere, where there is no dummy",
        Feature::Macvlan => "links of type macvlan",
        Feature::Vlan => "VLANs inside nodes",
        Feature::Vrf => "routing domains inside nodes",
        Feature::Vxlan => "links between hosts",
        Feature::Netem => "delay, jitter and loss of links",
        Feature::Tbf => "the rate of links",
        Feature::UserNamespaces => "nodes of an ordinary user",
    }
}

/// How to get a feature of the kernel.
fn module(feature: Feature) -> String {
    let module = match feature {
        Feature::BridgeVlanFiltering => "bridge",
        Feature::Vlan => "8021q",
        Feature::Netem => "sch_netem",
        Feature::Tbf => "sch_tbf",
        other => other.name(),
    };
    format!("load it with `modprobe {module}`; a kernel for clouds may lack it where linux-image-amd64 has it")
}

/// What keeps an ordinary user from making user namespaces.
fn user_namespaces() -> &'static str {
    let reads = |file: &str, text: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(file)).is_ok_and(|found| found.trim() == text)
    };
    match () {
        () if reads("kernel/unprivileged_userns_clone", "0") => {
            "allow it with `sysctl kernel.unprivileged_userns_clone=1`"
        }
        () if reads("kernel/apparmor_restrict_unprivileged_userns", "1") => {
            "allow it with `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        }
        () if reads("user/max_user_namespaces", "0") => "allow it with `sysctl user.max_user_namespaces=10000`",
        () => "run as root, or allow user namespaces to ordinary users",
    }
}

fn overlay() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.trim() == "nodev\toverlay" || line.ends_with("\toverlay")) {
        return Finding::ok("kernel: overlay", "nodes that write to their own view of a file system");
    }
    let detail = "the kernel does not have it; needed for nodes that write to their own view of a file system";
    Finding::broken("kernel: overlay", detail, "load it with `modprobe overlay`")
}

fn cgroups() -> Finding {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    match unified {
        Ok(controllers) => Finding::ok("cgroups", format!("version 2 with {}", controllers.trim())),
        Err(_) if Path::new("/sys/fs/cgroup/memory").is_dir() => {
            Finding::ok("cgroups", "version 1; limits for root only")
        }
        Err(_) => Finding::missing(
            "cgroups",
            "not mounted; needed for limits of memory and processors",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

/// Whether nodes of an ordinary user can know more users than one.
fn id_ranges() -> Finding {
    const WHAT: &str = "user ranges";
    let helper = |name: &str| NODE_PATH.iter().any(|directory| Path::new(directory).join(name).is_file());
    if !helper("newuidmap") || !helper("newgidmap") {
        let detail = "no newuidmap; inside nodes everything belongs to one user, root";
        return Finding::missing(WHAT, detail, "apt-get install uidmap");
    }
    let user = crate::api::Peer::of_uid(rustix::process::geteuid().as_raw()).user;
    let has = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let uid = rustix::process::geteuid().as_raw().to_string();
        text.lines().any(|line| line.split(':').next().is_some_and(|owner| owner == user || owner == uid))
    };
    if !has("/etc/subuid") || !has("/etc/subgid") {
        let detail = "no range in /etc/subuid and /etc/subgid; inside nodes everything belongs to one user, root";
        return Finding::missing(
            WHAT,
            detail,
            format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"),
        );
    }
    Finding::ok(WHAT, "nodes know as many users as the range of this one has")
}

fn plugins(context: &Context) -> Vec<Finding> {
    match world(&context.config) {
        Ok(world) => lacks(&world)
            .into_iter()
            .map(|lack| Finding::missing(format!("{}: {}", lack.plugin, lack.what), lack.reason, ""))
            .collect(),
        Err(failure) => vec![Finding::broken("plugins", failure.message, "correct the configuration")],
    }
}

/// Whether Docker's rules drop what crosses the bridges of links. They do wherever it runs with the kernel asking them.
fn bridged_frames() -> Option<Finding> {
    const ASKED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let asked = fs::read_to_string(ASKED).is_ok_and(|text| text.trim() == "1");
    let docker = Path::new("/run/docker.sock").exists();
    (asked && docker).then(|| {
        let detail = "Docker may drop IPv4 on links that are Linux bridges: their frames pass its rules";
        let advice = "sysctl net.bridge.bridge-nf-call-iptables=0, or iptables -I DOCKER-USER -i lb+ -j ACCEPT";
        Finding::missing("links on bridges beside Docker", detail, advice)
    })
}

fn program(name: &str, purpose: &str, package: &str) -> Finding {
    let found = NODE_PATH.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
    match found {
        Some(path) => Finding::ok(format!("program: {name}"), path.display().to_string()),
        None => Finding::missing(
            format!("program: {name}"),
            format!("not on the path of nodes; {purpose}"),
            format!("apt-get install {package}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn every_feature_has_a_purpose_and_a_way_to_get_it() {
        for feature in Feature::ALL {
            assert!(!purpose(feature).is_empty() && module(feature).contains("modprobe"), "{feature}");
        }
        assert!(module(Feature::Vlan).contains("8021q"));
    }

    #[test]
    fn a_program_that_is_not_there_comes_with_its_package() {
        let finding = program("no-such-program", "nothing", "nothing-at-all");
        assert_eq!(finding.verdict, Verdict::Missing);
        assert_eq!(finding.advice.as_deref(), Some("apt-get install nothing-at-all"));
        assert_eq!(program("sh", "", "").verdict, Verdict::Ok);
    }
}
